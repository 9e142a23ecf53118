"""Softmax over two classes as a Sigmoid of their difference, which the convolution before it computes."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .conv.nchwc import FLOAT32

x, w, b = values("x w b")

_conv = op.Conv(x, w, b.optional()).any_attributes()


def _is_over_channels(m: Match) -> bool:
    """Whether Softmax is over the channels of the convolution; below opset 13 it includes all axes after."""
    rank, axis = m.Conv.rank, m.Softmax.integer("axis", -1)
    if rank is None:
        return False
    if (m.root.version or 0) < 13 and axis not in (-1, rank - 1):
        return False
    order = m.Transpose.integers("perm") if m.has("Transpose") else tuple(range(rank))
    return order is not None and order[axis % rank] == 1


def _differences(m: Match) -> list[ir.Array] | str:
    """Weights and bias of each class less those of the other."""
    operands = [operand.array.astype(np.float64) for operand in (m.w, m.b) if operand.present]
    with np.errstate(over="ignore"):
        differences: list[ir.Array] = [(content - content[::-1]).astype(np.float32) for content in operands]
    return differences if all(np.isfinite(content).all() for content in differences) else "they overflow float32"


DIFFERENCES = let("finite differences of the classes", _differences)


@rule(
    op.Softmax(op.Transpose(_conv).any_attributes("perm") | _conv).any_attributes("axis"),
    requires=[
        constant(w, b),
        finite(w, b),
        FLOAT32,
        require(
            "two channels in one group",
            lambda m: m.w.array.shape[0] == 2 and m.Conv.integer("group", 1) == 1,
            lambda m: f"{m.w.array.shape[0]} channels in {m.Conv.integer('group', 1)} groups",
        ),
        require(
            "Softmax over the channels",
            _is_over_channels,
            lambda m: f"axis {m.Softmax.integer('axis', -1)} at opset {m.root.version}",
        ),
        DIFFERENCES,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="softmax(a, b) = (σ(a - b), σ(b - a)); ONNX Runtime's Softmax takes its rows one by one: x1.1 on mtcnn",
)
def softmax2_to_sigmoid(m: Match, op: Builder) -> ir.Value:
    """Compute the difference of the two classes in the convolution.

    before:  y = Softmax(Transpose(Conv(x, %w, %b)))      the same without Transpose
    after:   y = Transpose(Sigmoid(Conv(x, %w - %w', %b - %b')))      %w', %b': the two channels swapped
    """
    differences = m[DIFFERENCES]
    gate = op.Sigmoid(op.node("Conv", [m.x, *differences], attributes=m.Conv.attributes)[0])
    return op.Transpose(gate, **m.Transpose.attributes) if m.has("Transpose") else gate
