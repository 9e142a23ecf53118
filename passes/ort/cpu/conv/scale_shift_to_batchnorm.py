"""A scale and a shift between convolutions, rewritten as an operator of the blocked layout."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....rewriting.builder import Builder
from ....rewriting.constraints import constant, finite, let, require
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from ....simplify.weights.linear_ops import along
from .nchwc import CHANNELS, FLOAT32, POOLS, is_blocked

x, s, t = values("x s t")


def _scale_and_shift(m: Match) -> tuple[ir.Array, ir.Array] | str:
    """One scale and one shift for each channel."""
    channels = m[CHANNELS]
    scale = along(m.s.array, 4, 1, channels) if m.has("s") else np.ones(channels)
    shift = along(m.t.array, 4, 1, channels)
    if scale is not None and shift is not None:
        return scale, -shift if m.has("Sub") else shift
    return ", ".join(m.shapes.show(m[operand].value) for operand in (s, t) if m.has(operand.name))


SCALE_AND_SHIFT = let("per-channel constants", _scale_and_shift)


def _users(m: Match) -> list[str]:
    return [user.op_type for user in m.root.outputs[0].consumers()]


@rule(
    op.Add(op.Mul(x, s).any_order(), t).any_order().opset(since=7)
    | op.Add(x, t).any_order().opset(since=7)
    | op.Sub(x, t).opset(since=7),
    requires=[
        constant(s, t),
        finite(s, t),
        FLOAT32,
        CHANNELS,
        SCALE_AND_SHIFT,
        require(
            "a value in the blocked layout",
            lambda m: is_blocked(m.x.value, m.shapes),
            lambda m: f"{m.x.value.name!r} is not from blocked convolutions",
        ),
        require(
            "a convolution or a pool among the users",
            lambda m: any(user == "Conv" or user in POOLS for user in _users(m)),
            lambda m: ", ".join(_users(m)) or "no user",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source=(
        "ONNX Runtime's NCHWc transformer makes a BatchNormalization a blocked convolution, and an Add of a number two "
        "reorders: x1.1 on OCR models"
    ),
)
def scale_shift_to_batchnorm(m: Match, op: Builder) -> ir.Value:
    """Rewrite a scale and a shift, or a shift, that padding or a pool keeps out of the weights of a convolution.

    before:  y = Add(Mul(x, %s), %t)      the same without Mul, and for Sub
    after:   y = BatchNormalization<epsilon = 0>(x, %s, %t, %zeros, %ones)
    """
    count = m[CHANNELS]
    vectors = (*m[SCALE_AND_SHIFT], np.zeros(count), np.ones(count))
    return op.BatchNormalization(m.x, *(vector.astype(np.float32) for vector in vectors), epsilon=0.0)
