"""Fold views that insert or remove reduced dims into the `keepdims` attribute of the reduction."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call, op, values
from ...rewriting.rule import rule

(target,) = values("target")

_REDUCED = OneOf(tuple(any_call(name).named("reduced") for name in (*ir.REDUCTIONS, "ArgMax", "ArgMin")))


def _flip_keepdims(m: Match) -> tuple[Dim, ...] | None:
    """The dims of the reduction's result with the opposite `keepdims`."""
    node = m.reduced.node
    source = node.inputs[0]
    dims = m.shapes.dims(source) if source is not None else None
    if dims is None:
        return None
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = [m.reduced.integer("axis")]
    else:
        content = ir.parameter(node, "axes")
        is_array = isinstance(content, np.ndarray)
        if content is ir.UNKNOWN or (not is_array and m.reduced.integer("noop_with_empty_axes")):
            return None
        axes = [int(axis) for axis in content.reshape(-1)] if isinstance(content, np.ndarray) else []
        axes = axes or list(range(len(dims)))
    reduced = {axis % len(dims) for axis in axes} if dims else set()
    if _keeps(m):
        return tuple(dim for axis, dim in enumerate(dims) if axis not in reduced)
    return tuple(1 if axis in reduced else dim for axis, dim in enumerate(dims))


def _keeps(m: Match) -> bool:
    return m.reduced.integer("keepdims", 1) == 1


_flipped_dims = let("axes that are known", _flip_keepdims, is_structural=True)


@rule(
    op.Reshape(_REDUCED, target).any_attributes().opset(since=5)
    | op.Flatten(_REDUCED).any_attributes()
    | op.Squeeze(_REDUCED, target.optional()).any_attributes()
    | op.Unsqueeze(_REDUCED, target.optional()).any_attributes(),
    requires=[
        _flipped_dims,
        require(
            "the dims that keepdims gives",
            lambda m: m.shapes.same_dims(m[_flipped_dims], m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m.reduced.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    source="ONNX ReduceMean: keepdims",
)
def fold_reshape_into_keepdims(m: Match, op: Builder) -> ir.Value:
    """Flip `keepdims` of a reduction instead of inserting or removing the reduced dims by a view.

    before:  y = Unsqueeze(ReduceMax<keepdims = 0>(x, %[1, 2]), %[1, 2])
    after:   y = ReduceMax<keepdims = 1>(x, %[1, 2])
    """
    attributes: dict[str, ir.AttributeValue | ir.Attr | None] = {**m.reduced.attributes}
    attributes["keepdims"] = 0 if _keeps(m) else 1
    return op.node(m.reduced.node.op_type, list(m.reduced.node.inputs), attributes=attributes)[0]
