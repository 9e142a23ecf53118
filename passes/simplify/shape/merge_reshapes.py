"""Reshape, Flatten, Squeeze and Unsqueeze only say how the same elements are counted: the last one counts."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call, op, values
from ...rewriting.rule import rule
from .constant_reshape import constant_target

(target,) = values("target")

_INNER = OneOf(tuple(any_call(name).named("inner").shared() for name in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")))


def _origin(m: Match) -> ir.Value | None:
    return m.inner.node.inputs[0]


def _number_target(m: Match) -> list[int] | None:
    """The target from the dims of the origin; or the given one where it copies no dim, and so fits any input."""
    origin = _origin(m)
    if origin is None:
        return None
    found = constant_target(m.shapes.dims(origin), m.shapes.dims(m.root.outputs[0]))
    is_target = m.root.op_type == "Reshape" and m.target.is_constant  # of the others it gives the axes
    if found is None and is_target and m.outer.integer("allowzero") == 0:
        given = [int(each) for each in m.target.array.reshape(-1)]
        found = given if 0 not in given else None
    return found


@rule(
    op.Reshape(_INNER, target).any_attributes().named("outer").opset(since=5)
    | op.Flatten(_INNER).any_attributes().named("outer").opset(since=5)
    | op.Unsqueeze(_INNER).any_attributes().named("outer").opset(since=5, until=12)
    | op.Unsqueeze(_INNER, target.optional()).any_attributes().named("outer").opset(since=13)
    | op.Squeeze(_INNER, target.optional()).any_attributes().named("outer").opset(since=13),
    requires=[
        require(
            "a target in numbers for the first input",
            lambda m: _number_target(m) is not None,
            lambda m: (
                f"{m.shapes.show(m.inner.node.inputs[0])} to {m.shapes.show(m.root.outputs[0])}"
                if m.inner.node.inputs[0] is not None
                else "no input"
            ),
        )
    ],
    source="ONNX Reshape, Flatten, Squeeze, Unsqueeze keep the order of elements",
)
def merge_reshapes(m: Match, op: Builder) -> ir.Value:
    """Two views in a row are one Reshape of what was there first. Others may read the first view.

    before:  x -> Reshape(s) -> Reshape(t) -> y        any of Reshape, Flatten, Squeeze, Unsqueeze
    after:   x -> Reshape(t') -> y
    """
    return op.Reshape(_origin(m), op.constant(np.array(_number_target(m), dtype=np.int64)))
