"""Constant target shapes for Reshape, from the dims that shape inference knows."""

from __future__ import annotations

from .... import ir
from ...analyses import Dim
from ...analyses.symbolic import low
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, target = values("x target")


def constant_target(source: tuple[Dim, ...] | None, result: tuple[Dim, ...] | None) -> list[int] | None:
    """The target of a Reshape from dims `source` to `result`: numbers, 0 (copied) and at most one -1; else None.

    -1 is inferred by division, which fails when another dim is 0 at run time: it needs dims that are proven positive.
    """
    if source is None or result is None or any(dim == 0 for dim in result):
        return None
    target = []
    for index, dim in enumerate(result):
        if isinstance(dim, int):
            target.append(dim)
        else:
            target.append(0 if index < len(source) and source[index] == dim else -1)
    others = [dim for dim, number in zip(result, target, strict=True) if number != -1]
    if target.count(-1) > 1 or (-1 in target and any((low(dim) or 0) < 1 for dim in others)):
        return None
    return target


def _target_from_x(m: Match) -> list[int] | str:
    target = constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0]))
    return f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}" if target is None else target


CONSTANT_TARGET = let("dims that are numbers, copied from the input, or one -1", _target_from_x)
"""The constant target of a Reshape from the pattern's `x` to the result of the root."""


@rule(
    op.Reshape(x, target).any_attributes("allowzero").opset(since=5),
    requires=[
        require(
            "a target that is computed",
            lambda m: not m.target.is_constant,
            lambda m: f"{m.target.value.name!r} is constant",
        ),
        CONSTANT_TARGET,
    ],
    source="ONNX Reshape-5: 0 copies a dim, -1 infers one",
)
def constant_reshape_shape(m: Match, op: Builder) -> ir.Value:
    """Reshape to a constant shape instead of one that shape arithmetic computes from the dims of the input.

    before:  y = Reshape(x, Concat(Gather(Shape(x), %0), %[768]))        x: [batch, 12, 64]
    after:   y = Reshape(x, %[0, 768])
    """
    return op.Reshape(m.x, m[CONSTANT_TARGET])
