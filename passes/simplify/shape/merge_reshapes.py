"""Merge views (Reshape, Flatten, Squeeze, Unsqueeze) that follow each other."""

from __future__ import annotations

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import let
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call, op, values
from ...rewriting.rule import rule
from .constant_reshape import constant_target

(target,) = values("target")

_INNER = OneOf(tuple(any_call(name).named("inner").shared() for name in ir.VIEWS))


def _merge_targets(m: Match) -> list[int] | str:
    """A target for the input of the first view: from its dims, or that of the root where it copies no dim."""
    source = m.inner.node.inputs[0]
    if source is None:
        return "the first view has no input"
    target = constant_target(m.shapes.dims(source), m.shapes.dims(m.root.outputs[0]))
    is_target = m.root.op_type == "Reshape" and m.target.is_constant  # of the others it gives the axes
    if target is None and is_target and m.outer.integer("allowzero") == 0:
        own = [int(each) for each in m.target.array.reshape(-1)]
        target = own if 0 not in own else None
    return f"{m.shapes.show(source)} to {m.shapes.show(m.root.outputs[0])}" if target is None else target


_merged_target = let("a constant target for the first input", _merge_targets)


@rule(
    op.Reshape(_INNER, target).any_attributes().named("outer").opset(since=5)
    | op.Flatten(_INNER).any_attributes().named("outer").opset(since=5)
    | op.Unsqueeze(_INNER).any_attributes().named("outer").opset(since=5, until=12)
    | op.Unsqueeze(_INNER, target.optional()).any_attributes().named("outer").opset(since=13)
    | op.Squeeze(_INNER, target.optional()).any_attributes().named("outer").opset(since=13),
    requires=[_merged_target],
    source="ONNX Reshape, Flatten, Squeeze, Unsqueeze keep the order of elements",
)
def merge_reshapes(m: Match, op: Builder) -> ir.Value:
    """Merge two views into one Reshape. The first may have other users.

    before:  y = Reshape(Reshape(x, s), t)        any of Reshape, Flatten, Squeeze, Unsqueeze
    after:   y = Reshape(x, %t)
    """
    return op.Reshape(m.inner.node.inputs[0], m[_merged_target])
