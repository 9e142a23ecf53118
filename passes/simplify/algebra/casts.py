"""Element type conversions: CastLike, chains of Casts, and choices that a Cast spells shorter."""

from __future__ import annotations

from typing import Final

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, like = values("x like")

_T: Final = ir.DataType

# How many bits of magnitude an integer, and of significand a float, has; and the range of exponents of a float.
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


def _types(m: Match) -> tuple[ir.DataType | None, ir.DataType | None, ir.DataType | None]:
    return m.x.dtype, m.shapes.dtype(m.inner.value), m.shapes.dtype(m.root.outputs[0])


@rule(
    op.Cast(op.Cast(x).any_attributes().shared().named("inner")).any_attributes().named("outer"),
    requires=[
        require(
            "a type in the middle that holds every value",
            lambda m: holds_all(_types(m)[1], _types(m)[0]),
            lambda m: f"{_types(m)[0]} to {_types(m)[1]}",
        ),
        require(
            "no text, which is spelled by the type",
            lambda m: _types(m)[2] != _T.STRING,
        ),
    ],
    source="ONNX Cast",
)
def merge_casts(m: Match, op: Builder) -> ir.Value:
    """Cast at once. Others may read the first result.

    before:  x: int32 -> Cast(int64) -> Cast(bool) -> y
    after:   x -> Cast(bool) -> y
    """
    return op.Cast(m.x, **m.outer.attributes)


@rule(
    op.CastLike(x, like).any_attributes(),
    requires=[require("a known target type", lambda m: m.like.dtype is not None)],
    source="ONNX CastLike, whose body is one Cast; the unoptimized export of torch 2.13 casts attention scales with it",
)
def cast_like_to_cast(m: Match, op: Builder) -> ir.Value:
    """Cast to the type by its name: a constant then folds, and attention and norms are recognized.

    before:  y = CastLike(x, like)               like: float16
    after:   y = Cast <to = FLOAT16> (x)
    """
    assert m.like.dtype is not None
    return op.Cast(m.x, to=int(m.like.dtype), **m.CastLike.attributes)


@rule(
    op.Where(x, 1, 0),
    requires=[
        require(
            "constants that do not raise the rank",
            lambda m: m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    source="ONNX Where, Cast: true is 1",
)
def where_one_zero_to_cast(m: Match, op: Builder) -> ir.Value | None:
    """A condition as a number is a Cast.

    before:  Where(condition, 1, 0) -> y
    after:   condition -> Cast -> y
    """
    dtype = m.shapes.dtype(m.root.outputs[0])
    return op.Cast(m.x, to=int(dtype)) if dtype is not None else None
