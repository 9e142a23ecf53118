"""Element type conversions: chains of Casts, CastLike, and Where between 1 and 0."""

from __future__ import annotations

from typing import Final

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite, rule

x, like = values("x like")

_T: Final = ir.DataType

# Bits of the magnitude of an integer; bits of the significand and largest exponent of a float.
_SIGNED: Final = {_T.INT8: 7, _T.INT16: 15, _T.INT32: 31, _T.INT64: 63}
_UNSIGNED: Final = {_T.BOOL: 1, _T.UINT8: 8, _T.UINT16: 16, _T.UINT32: 32, _T.UINT64: 64}
_FLOATS: Final = {_T.BFLOAT16: (8, 127), _T.FLOAT16: (11, 15), _T.FLOAT: (24, 127), _T.DOUBLE: (53, 1023)}


def holds_all(wide: ir.DataType | None, narrow: ir.DataType | None) -> bool:
    """Whether every value of `narrow`, NaN and -0.0 included, is one of `wide`."""
    if wide is None or narrow is None:
        return False
    if narrow in _FLOATS:
        return wide in _FLOATS and all(a >= b for a, b in zip(_FLOATS[wide], _FLOATS[narrow], strict=True))
    bits = _SIGNED.get(narrow) or _UNSIGNED.get(narrow)
    if bits is None:
        return False
    if wide in _FLOATS:
        return bits <= min(_FLOATS[wide])
    if wide in _SIGNED:
        return bits <= _SIGNED[wide]
    return narrow in _UNSIGNED and wide in _UNSIGNED and bits <= _UNSIGNED[wide]


@rule(
    op.Cast(op.Cast(x).any_attributes().shared().named("inner")).any_attributes().named("outer"),
    requires=[
        require(
            "an intermediate type that holds every value",
            lambda m: holds_all(m.inner.dtype, m.x.dtype),
            lambda m: f"{m.x.dtype} to {m.inner.dtype}",
        ),
        require(
            "no string result, whose digits depend on the type",
            lambda m: m.outer.dtype != _T.STRING,
            lambda m: str(m.outer.dtype),
        ),
    ],
    source="ONNX Cast",
)
def merge_casts(m: Match, op: Builder) -> ir.Value:
    """Merge two Casts into one. The first may have other users.

    before:  y = Cast<to = BOOL>(Cast<to = INT64>(x))        x: int32
    after:   y = Cast<to = BOOL>(x)
    """
    return op.Cast(m.x, **m.outer.attributes)


def _type_of_like(m: Match) -> ir.DataType | str:
    return f"the type of {m.like.value.name!r} is not known" if m.like.dtype is None else m.like.dtype


_target_type = let("a known target type", _type_of_like)


@rule(
    op.CastLike(x, like).any_attributes(),
    requires=[_target_type],
    source="ONNX CastLike, whose body is one Cast; the unoptimized export of torch 2.13 casts attention scales with it",
)
def cast_like_to_cast(m: Match, op: Builder) -> ir.Value:
    """Cast to the type by its name: a constant then folds, and attention and norms are recognized.

    before:  y = CastLike(x, like)        like: float16
    after:   y = Cast<to = FLOAT16>(x)
    """
    return op.Cast(m.x, to=int(m[_target_type]), **m.CastLike.attributes)


_result_type = let("a result of a known type", lambda m: m.shapes.dtype(m.root.outputs[0]), is_structural=True)

rewrite(
    "where-one-zero-to-cast",
    "Cast a condition to a number instead of selecting between 1 and 0.",
    op.Where(x, 1, 0),
    op.Cast(x, to=_result_type),
    when=[
        require(
            "constants that do not raise the rank",
            lambda m: m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
        _result_type,
    ],
    source="ONNX Where, Cast: true is 1",
)
