"""Scalars that broadcast against a tensor whose last dim is 1, reshaped to the tensor's rank."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from .... import ir
from ...analyses import Dim
from ...recognize.gelu import ERF
from ...recognize.normalization import find
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, profitable
from ...rewriting.match import Match
from ...rewriting.matcher import match_node
from ...rewriting.pattern import Pattern, any_call, op, values
from ...rewriting.rule import rule

_BINARY = (
    "Add Sub Mul Div Pow Mod And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual BitwiseAnd BitwiseOr BitwiseXor"
).split()
_VARIADIC = ("Max", "Min", "Sum", "Mean")

x, slope = values("x slope")

_ACTIVATIONS = (ERF, op.Mul(x, op.Sigmoid(op.Mul(x, slope).any_order().named("inner"))).any_order())
_LONGEST = 6
"""Nodes between the first scalar of these patterns and their last node."""
_ROWS = 1 << 9
"""As many means over one element take as long in ONNX Runtime's fused kernel as in arithmetic: x0.95 to x1.01 at 300
rows, x1.4 at 1,000, x2.6 to x3 at 10,000."""


def _any_of(names: list[str]) -> Pattern:
    pattern: Pattern = any_call(names[0])
    for name in names[1:]:
        pattern = pattern | any_call(name)
    return pattern


def _is_scalar(value: ir.Value) -> bool:
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size == 1


def _has_lower_rank(value: ir.Value, rank: int) -> bool:
    tensor = ir.constant_tensor(value)
    return tensor is not None and tensor.size == 1 and len(tensor.shape) < rank


def _column(m: Match) -> tuple[Dim, ...] | None:
    """The dims, the last of them 1, of the only operand that is not a scalar constant; a scalar has a lower rank."""
    operands = [value for value in m.root.inputs if value is not None]
    tensors = [value for value in operands if not _is_scalar(value)]
    dims = m.shapes.dims(tensors[0]) if len(tensors) == 1 else None
    if not dims or dims[-1] != 1 or not any(_has_lower_rank(value, len(dims)) for value in operands):
        return None
    return dims


COLUMN = let("a tensor whose last dim is 1, and scalar constants of lower rank", _column, is_structural=True)


def _users(node: ir.Node, depth: int) -> Iterator[ir.Node]:
    """The node, and those that use its results through at most `depth` nodes."""
    yield node
    for output in node.outputs if depth else ():
        for user in output.consumers():
            yield from _users(user, depth - 1)


def _is_within(m: Match, pattern: Pattern) -> bool:
    matches = (bound for node in _users(m.root, _LONGEST) for bound in match_node(pattern, node))
    return any(each is not None and each.node is m.root for bound in matches for each in bound.values())


def _is_fused(m: Match) -> bool:
    """Whether ONNX Runtime fuses the node into a kernel that is no slower, and knows its scalars by their rank."""
    if any(_is_within(m, pattern) for pattern in _ACTIVATIONS):
        return True
    rows = prod(dim if isinstance(dim, int) else 1 for dim in m[COLUMN])
    return rows < _ROWS and any(
        m.root in found.nodes for node in _users(m.root, _LONGEST) if (found := find(node, m.shapes)) is not None
    )


@rule(
    _any_of([*_BINARY, *_VARIADIC]),
    requires=[
        COLUMN,
        profitable(
            "more than one element",
            lambda m: prod(dim if isinstance(dim, int) else 2 for dim in m[COLUMN]) > 1,
            lambda m: f"dims {m[COLUMN]}",
        ),
        profitable(
            "no part of a Gelu, or of a normalization of few rows, that ONNX Runtime fuses",
            lambda m: not _is_fused(m),
            lambda m: f"{m.root.op_type}, dims {m[COLUMN]}",
        ),
    ],
    source=(
        "ONNX Runtime's broadcasting iterates over the last dim of the tensor where the other operand lacks that "
        "dim, and over the whole tensor where it is 1 (core/providers/cpu/math/element_wise_ops.h, BroadcastIterator): "
        "x20 to x60 at [64000, 1], nothing where the last dim is larger; its fusions (gelu_fusion.cc, "
        "quick_gelu_fusion.cc, layer_norm_fusion.cc) ask for scalars of rank 0 or 1: x0.68 to x0.86 without them"
    ),
)
def expand_scalar_rank(m: Match, op: Builder) -> ir.Value:
    """Reshape a scalar to the tensor's rank, so that it broadcasts in one loop instead of one for each element.

    before:  y = Mul(x, %half)      x: float[n, 1], %half: float[]
    after:   y = Mul(x, %half)      %half: float[1, 1]
    """
    rank = len(m[COLUMN])
    inputs: list[ir.Value | ir.Content | None] = []
    for value in m.root.inputs:
        content = ir.constant(value) if value is not None and _has_lower_rank(value, rank) else None
        inputs.append(value if content is None else content.reshape((1,) * rank))
    return op.node(m.root.op_type, inputs, attributes=dict(m.root.attributes))[0]
