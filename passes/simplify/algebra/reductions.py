"""A reduction of a reduction of the same kind is one over both sets of axes."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call, op, values
from ...rewriting.rule import rule

(axes,) = values("axes")

_KINDS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")


def _known_axes(node: ir.Node, rank: int | None) -> list[int] | None:
    given = ir.parameter(node, "axes")
    if not rank or not isinstance(given, np.ndarray) or given.size == 0:
        return None
    return sorted({int(axis) % rank for axis in given.reshape(-1)})


def _keeps(node: ir.Node) -> bool:
    return ir.attribute(node, "keepdims") != 0


def _axes(m: Match) -> list[int] | None:
    """Both sets of axes, as the first input has them."""
    source = m.inner.node.inputs[0]
    rank = m.shapes.rank(source) if source is not None else None
    first, second = _known_axes(m.inner.node, rank), _known_axes(m.root, m.shapes.rank(m.inner.value))
    if first is None or second is None or rank is None:
        return None
    if not _keeps(m.inner.node):
        left = [axis for axis in range(rank) if axis not in first]
        second = [left[axis] for axis in second]
    return sorted({*first, *second})


def _of_same(kind: str) -> OneOf:
    inner = any_call(kind).named("inner")
    outer = getattr(op, kind)
    return OneOf((outer(inner).any_attributes().named("outer"), outer(inner, axes).any_attributes().named("outer")))


@rule(
    OneOf(tuple(choice for kind in _KINDS for choice in _of_same(kind).choices)),
    requires=[
        require("axes that are known", lambda m: _axes(m) is not None),
        require("both keep the reduced dims, or neither does", lambda m: _keeps(m.root) == _keeps(m.inner.node)),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd: sums of sums are sums",
)
def merge_reductions(m: Match, op: Builder) -> ir.Value:
    """Reduce once.

    before:  x -> ReduceSum(axis 3) -> ReduceSum(axis 2) -> y        the same for ReduceMean, Max, Min, Prod
    after:   x -> ReduceSum(axes 2, 3) -> y
    """
    both, kept = _axes(m), int(_keeps(m.root))
    assert both is not None
    schema = ir.schema_of(m.root)
    inputs, attributes = [m.inner.node.inputs[0]], {"keepdims": kept}
    if schema is not None and "axes" in schema.attributes:
        return op.node(m.root.op_type, inputs, attributes={**attributes, "axes": both})[0]
    constant = op.constant(np.array(both, dtype=np.int64))
    return op.node(m.root.op_type, [*inputs, constant], attributes=attributes)[0]
