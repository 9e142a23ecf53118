"""Softmax over two classes is a Sigmoid of their difference, which the convolution before it can compute."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .conv.nchwc import FLOAT32

x, w, b = values("x w b")

_conv = op.Conv(x, w, b.optional()).any_attributes()


def _is_over_channels(m: Match) -> bool:
    """Softmax along the axis where the channels of the convolution lie; below opset 13 it takes in all axes after."""
    rank, axis = m.Conv.rank, m.Softmax.integer("axis", -1)
    if rank is None:
        return False
    if (m.root.version or 0) < 13 and axis not in (-1, rank - 1):
        return False
    order = m.Transpose.integers("perm") if m.has("Transpose") else tuple(range(rank))
    return order is not None and order[axis % rank] == 1


@rule(
    op.Softmax(op.Transpose(_conv).any_attributes("perm") | _conv).any_attributes("axis"),
    requires=[
        constant("w", "b"),
        finite("w", "b"),
        FLOAT32,
        require("two channels in one group", lambda m: m.w.array.shape[0] == 2 and m.Conv.integer("group", 1) == 1),
        require("Softmax over the channels", _is_over_channels),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source="softmax(a, b) = (σ(a - b), σ(b - a)); ONNX Runtime's Softmax takes its rows one by one: x1.1 on mtcnn",
)
def softmax2_to_sigmoid(m: Match, op: Builder) -> ir.Value | None:
    """The differences of the two classes come out of the convolution.

    before:  x -> Conv(w, b) -> Transpose -> Softmax -> y        the same without Transpose
    after:   x -> Conv(w - w', b - b') -> Sigmoid -> Transpose -> y,  w' and b' with the two channels swapped
    """
    inputs = [each.array.astype(np.float64) for each in (m.w, m.b) if each.present]
    with np.errstate(over="ignore"):
        differences = [(each - each[::-1]).astype(np.float32) for each in inputs]
    if not all(np.isfinite(each).all() for each in differences):
        return None
    gate = op.Sigmoid(op.node("Conv", [m.x, *map(op.constant, differences)], attributes=m.Conv.attributes)[0])
    return op.Transpose(gate, **m.Transpose.attributes) if m.has("Transpose") else gate
