"""Reductions say themselves whether the reduced dims stay as 1."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...rewriting.builder import Builder
from ...rewriting.constraints import require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call, op, values
from ...rewriting.rule import rule

(target,) = values("target")

REDUCTIONS = (
    *(
        f"Reduce{kind}"
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    ),
    "ArgMax",
    "ArgMin",
)

_REDUCED = OneOf(tuple(any_call(name).named("reduced") for name in REDUCTIONS))


def _wanted(m: Match) -> tuple[Dim, ...] | None:
    """The dims of the result if keepdims were the other way round."""
    node = m.reduced.node
    source = node.inputs[0]
    dims = m.shapes.dims(source) if source is not None else None
    if dims is None:
        return None
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = [m.reduced.integer("axis")]
    else:
        given = ir.parameter(node, "axes")
        if given is ir.UNKNOWN or (not isinstance(given, np.ndarray) and m.reduced.integer("noop_with_empty_axes")):
            return None
        axes = [int(axis) for axis in given.reshape(-1)] if isinstance(given, np.ndarray) else []
        axes = axes or list(range(len(dims)))
    reduced = {axis % len(dims) for axis in axes} if dims else set()
    if _keeps(m):
        return tuple(dim for axis, dim in enumerate(dims) if axis not in reduced)
    return tuple(1 if axis in reduced else dim for axis, dim in enumerate(dims))


def _keeps(m: Match) -> bool:
    return m.reduced.integer("keepdims", 1) == 1


@rule(
    op.Reshape(_REDUCED, target).any_attributes().opset(since=5)
    | op.Flatten(_REDUCED).any_attributes()
    | op.Squeeze(_REDUCED, target.optional()).any_attributes()
    | op.Unsqueeze(_REDUCED, target.optional()).any_attributes(),
    requires=[
        structural("axes that are known", lambda m: _wanted(m) is not None),
        require(
            "the dims that keepdims gives",
            lambda m: m.shapes.same_dims(_wanted(m), m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    source="ONNX ReduceMean: keepdims",
)
def fold_reshape_into_keepdims(m: Match, op: Builder) -> ir.Value:
    """A view after a reduction that only puts in, or takes out, the reduced dims is an attribute of the reduction.

    before:  x -> ReduceMax(axes 1, 2; keepdims = 0) -> Unsqueeze(1, 2) -> y
    after:   x -> ReduceMax(axes 1, 2; keepdims = 1) -> y
    """
    attributes: dict[str, ir.AttributeValue | ir.Attr | None] = {**m.reduced.attributes}
    attributes["keepdims"] = 0 if _keeps(m) else 1
    return op.node(m.reduced.node.op_type, list(m.reduced.node.inputs), attributes=attributes)[0]
