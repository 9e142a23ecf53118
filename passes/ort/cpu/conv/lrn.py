"""Local response normalization, whose kernel is scalar, rewritten as a convolution."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....rewriting.builder import Builder
from ....rewriting.constraints import require
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from .nchwc import CHANNELS, FLOAT32, LARGE

(x,) = values("x")


@rule(
    op.LRN(x).any_attributes(),
    requires=[
        FLOAT32,
        CHANNELS,
        require(
            "at most 512 channels: the band is a full matrix", lambda m: m[CHANNELS] <= 512, lambda m: str(m[CHANNELS])
        ),
        require(
            "a positive bias and scale",
            lambda m: m.LRN.number("bias", 1.0) > 0 and m.LRN.number("alpha", 1e-4) >= 0,
            lambda m: f"bias {m.LRN.number('bias', 1.0)}, alpha {m.LRN.number('alpha', 1e-4)}",
        ),
        LARGE,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="Krizhevsky et al. 2012, section 3.3; the kernel is scalar: x9 to x11 alone, x1.5 to x1.9 on whole models",
)
def decompose_lrn(m: Match, op: Builder) -> ir.Value:
    """Compute the sum over a window of channels as a 1x1 convolution with a band matrix.

    before:  y = LRN<size, alpha, beta, bias>(x)
    after:   y = Div(x, Pow(Conv(Mul(x, x), %band, %bias), %beta))      %band: alpha / size, [C, C, 1, 1]
    """
    channels, size = m[CHANNELS], m.LRN.integer("size")
    index = np.arange(channels)
    # ONNX LRN-13: from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2)
    distance = index[None, :] - index[:, None]
    band = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
    weight = band.astype(np.float64) * (m.LRN.number("alpha", 1e-4) / size)
    bias = np.full(channels, m.LRN.number("bias", 1.0))
    summed = op.Conv(
        op.Mul(m.x, m.x),
        weight.reshape(channels, channels, 1, 1).astype(np.float32),
        bias.astype(np.float32),
        kernel_shape=[1, 1],
    )
    beta = m.LRN.number("beta", 0.75)
    if beta == 0.75:  # a square root is many times faster than a power
        root = op.Sqrt(summed)
        power = op.Mul(root, op.Sqrt(root))
    elif beta == 0.5:
        power = op.Sqrt(summed)
    else:
        power = op.Pow(summed, np.array(beta, np.float32))
    return op.Div(m.x, power)
