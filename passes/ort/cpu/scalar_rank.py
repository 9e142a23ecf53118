"""Scalars beside a tensor whose last dim is 1, written with the tensor's rank."""

from __future__ import annotations

from math import prod

from .... import ir
from ...analyses import Dim
from ...rewriting.builder import Builder
from ...rewriting.constraints import profitable, structural
from ...rewriting.match import Match
from ...rewriting.pattern import Pattern, any_call
from ...rewriting.rule import rule

_BINARY = (
    "Add Sub Mul Div Pow Mod And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual BitwiseAnd BitwiseOr BitwiseXor"
).split()
_VARIADIC = ("Max", "Min", "Sum", "Mean")


def _any_of(names: list[str]) -> Pattern:
    pattern: Pattern = any_call(names[0])
    for name in names[1:]:
        pattern = pattern | any_call(name)
    return pattern


def _tensor(m: Match) -> tuple[Dim, ...] | None:
    """The dims of the one operand that is no constant of one element; None where there is another, or none."""
    found = [value for value in m.root.inputs if value is not None and not _is_scalar(value)]
    return m.shapes.dims(found[0]) if len(found) == 1 else None


def _is_scalar(value: ir.Value) -> bool:
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size == 1


def _is_of_lower_rank(value: ir.Value, rank: int) -> bool:
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size == 1 and len(tensor.shape) < rank


def _has_lower_rank(m: Match) -> bool:
    dims = _tensor(m)
    return dims is not None and any(_is_of_lower_rank(value, len(dims)) for value in m.root.inputs if value is not None)


@rule(
    _any_of([*_BINARY, *_VARIADIC]),
    requires=[
        structural("a tensor and constants of one element, one of them of lower rank", _has_lower_rank),
        structural("a last dim of 1", lambda m: (_tensor(m) or (0,))[-1] == 1),
        profitable(
            "more than one element",
            lambda m: prod(dim if isinstance(dim, int) else 2 for dim in _tensor(m) or ()) > 1,
            lambda m: m.root.op_type,
        ),
    ],
    is_heuristic=True,
    source=(
        "ONNX Runtime's broadcasting iterates over the last dim of the tensor where the other operand lacks that "
        "dim, and over the whole tensor where it is 1 (core/providers/cpu/math/element_wise_ops.h, BroadcastIterator): "
        "x20 to x60 at [64000, 1], nothing where the last dim is larger"
    ),
)
def expand_scalar_rank(m: Match, op: Builder) -> ir.Value:
    """A scalar of the tensor's rank broadcasts in one loop instead of one for each element.

    before:  x, %half: float[] -> Mul -> y        x: float[n, 1]
    after:   x, %half: float[1, 1] -> Mul -> y
    """
    rank = len(_tensor(m) or ())
    inputs = [
        op.constant(_content(value).reshape((1,) * rank)) if _is_of_lower_rank(value, rank) else value
        for value in m.root.inputs
        if value is not None
    ]
    return op.node(m.root.op_type, inputs, attributes=dict(m.root.attributes))[0]


def _content(value: ir.Value) -> ir.Array:
    content = ir.constant(value)
    assert content is not None
    return content
