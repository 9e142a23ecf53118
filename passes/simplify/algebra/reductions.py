"""Merge a reduction of a reduction of the same kind into one over both sets of axes."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call, op, values
from ...rewriting.rule import rule

(axes,) = values("axes")

_KINDS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")


def _known_axes(node: ir.Node, rank: int | None) -> list[int] | None:
    axes = ir.parameter(node, "axes")
    if not rank or not isinstance(axes, np.ndarray) or axes.size == 0:
        return None
    return sorted({int(axis) % rank for axis in axes.reshape(-1)})


def _keeps(node: ir.Node) -> bool:
    return ir.attribute(node, "keepdims") != 0


def _merge_axes(m: Match) -> list[int] | str:
    """Both sets of axes, as axes of the input of the inner reduction."""
    source = m.inner.node.inputs[0]
    rank = m.shapes.rank(source) if source is not None else None
    first, second = _known_axes(m.inner.node, rank), _known_axes(m.root, m.shapes.rank(m.inner.value))
    if first is None or second is None or rank is None:
        return "the axes of a reduction, or the rank of its input, are not known"
    if not _keeps(m.inner.node):
        remaining = [axis for axis in range(rank) if axis not in first]
        second = [remaining[axis] for axis in second]
    return sorted({*first, *second})


_merged_axes = let("axes that are known", _merge_axes)


def _nested(kind: str) -> OneOf:
    inner = any_call(kind).named("inner")
    outer = getattr(op, kind)
    return OneOf((outer(inner).any_attributes().named("outer"), outer(inner, axes).any_attributes().named("outer")))


@rule(
    OneOf(tuple(choice for kind in _KINDS for choice in _nested(kind).choices)),
    requires=[
        _merged_axes,
        require(
            "both keep the reduced dims, or neither does",
            lambda m: _keeps(m.root) == _keeps(m.inner.node),
            lambda m: f"keepdims = {int(_keeps(m.inner.node))}, then {int(_keeps(m.root))}",
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd: sums of sums are sums",
)
def merge_reductions(m: Match, op: Builder) -> ir.Value:
    """Reduce over both sets of axes at once.

    before:  y = ReduceSum(ReduceSum(x, %[3]), %[2])        the same for ReduceMean, Max, Min, Prod
    after:   y = ReduceSum(x, %[2, 3])
    """
    attributes: dict[str, ir.AttributeValue] = {"axes": m[_merged_axes], "keepdims": int(_keeps(m.root))}
    return op.node(m.root.op_type, m.inner.node.inputs[:1], attributes=attributes)[0]
