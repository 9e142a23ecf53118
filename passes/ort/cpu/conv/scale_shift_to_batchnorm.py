"""A scale and a shift between convolutions, as the operator that ONNX Runtime has in its blocked layout."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....rewriting.builder import Builder
from ....rewriting.constraints import constant, finite, require
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from ....simplify.weights.linear_ops import along
from .nchwc import FLOAT32, POOLS, channels_of, is_blocked

x, s, t = values("x s t")


def _is_read_blocked(m: Match) -> bool:
    return any(each.op_type == "Conv" or each.op_type in POOLS for each in m.root.outputs[0].consumers())


@rule(
    op.Add(op.Mul(x, s).any_order(), t).any_order().opset(since=7)
    | op.Add(x, t).any_order().opset(since=7)
    | op.Sub(x, t).opset(since=7),
    requires=[
        constant("s", "t"),
        finite("s", "t"),
        FLOAT32,
        require(
            "an image with known channels", lambda m: channels_of(m) is not None, lambda m: m.shapes.show(m.x.value)
        ),
        require(
            "one number for each channel",
            lambda m: all(along(getattr(m, each).array, 4, 1, channels_of(m) or 0) is not None for each in _given(m)),
        ),
        require("a value in the blocked layout", lambda m: is_blocked(m.x.value, m.shapes)),
        require("a convolution or a pool that reads the result", _is_read_blocked),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=(
        "ONNX Runtime's NCHWc transformer makes a BatchNormalization a blocked convolution, and an Add of a number two "
        "reorders: x1.1 on OCR models"
    ),
)
def scale_shift_to_batchnorm(m: Match, op: Builder) -> ir.Value | None:
    """A scale and a shift, or a shift, that padding or a pool keeps from going into the weights of a convolution.

    before:  x -> Mul(s) -> Add(t) -> Conv        the same without Mul, and for Sub
    after:   x -> BatchNormalization(s, t, mean 0, variance 1) -> Conv
    """
    count = channels_of(m)
    assert count is not None
    shift = along(m.t.array, 4, 1, count)
    scale = along(m.s.array, 4, 1, count) if m.has("s") else np.ones(count)
    assert scale is not None and shift is not None
    vectors = (scale, -shift if m.has("Sub") else shift, np.zeros(count), np.ones(count))
    return op.BatchNormalization(m.x, *(op.constant(each.astype(np.float32)) for each in vectors), epsilon=0.0)


def _given(m: Match) -> str:
    return "st" if m.has("s") else "t"
