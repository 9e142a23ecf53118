"""A Reshape whose target is known, or known but for one dim, or copied from its input, needs no shape arithmetic."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses import Dim
from ...analyses.symbolic import low
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, target = values("x target")


def constant_target(given: tuple[Dim, ...] | None, wanted: tuple[Dim, ...] | None) -> list[int] | None:
    """The target of a Reshape from dims `given` to `wanted` as numbers, 0 (copied) and at most one -1, if it has one.

    -1 is worked out by division, which fails when another dim is 0 at run time: it needs dims that are proven positive.
    """
    if given is None or wanted is None or any(dim == 0 for dim in wanted):
        return None
    found = []
    for index, dim in enumerate(wanted):
        if isinstance(dim, int):
            found.append(dim)
        else:
            found.append(0 if index < len(given) and given[index] == dim else -1)
    others = [dim for dim, number in zip(wanted, found, strict=True) if number != -1]
    if found.count(-1) > 1 or (-1 in found and any((low(dim) or 0) < 1 for dim in others)):
        return None
    return found


def _target(m: Match) -> list[int] | None:
    return constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0]))


@rule(
    op.Reshape(x, target).any_attributes("allowzero").opset(since=5),
    requires=[
        require("a target that is computed", lambda m: not m.target.is_constant),
        require(
            "dims that are numbers, copied from the input, or one -1",
            lambda m: _target(m) is not None,
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    source="ONNX Reshape-5: 0 copies a dim, -1 infers one",
)
def constant_reshape_shape(m: Match, op: Builder) -> ir.Value:
    """Reshape by a constant where the shape arithmetic says nothing that the input's dims do not.

    before:  Shape(x) -> Gather, Concat, … -> Reshape(x, ·) -> y        x: [batch, 12, 64]
    after:   Reshape(x, [0, 768]) -> y
    """
    return op.Reshape(m.x, op.constant(np.array(_target(m), dtype=np.int64)))
