"""Constant target shapes for Reshape, from the dims that shape inference knows."""

from __future__ import annotations

from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite
from ...views.emit import constant_target

x, target = values("x target")


def _target_from_x(m: Match) -> list[int] | str:
    target = constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0]))
    return f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}" if target is None else target


_constant_target = let("dims that are numbers, copied from the input, or one -1", _target_from_x)


rewrite(
    "constant-reshape-shape",
    "Reshape to a constant shape instead of one that shape arithmetic computes from the dims of the input.",
    op.Reshape(x, target).any_attributes("allowzero").opset(since=5),
    op.Reshape(x, _constant_target),
    when=[
        require(
            "a target that is computed",
            lambda m: not m.target.is_constant,
            lambda m: f"{m.target.value.name!r} is constant",
        ),
        _constant_target,
    ],
    source="ONNX Reshape-5: 0 copies a dim, -1 infers one",
)
