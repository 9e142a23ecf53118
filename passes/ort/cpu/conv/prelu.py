"""PRelu, whose kernel is scalar, rewritten with operators of the blocked layout."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....rewriting.builder import Builder
from ....rewriting.constraints import constant, finite, let, profitable, require
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from ....simplify.weights.linear_ops import Vector, along
from .nchwc import FLOAT32, takes_channels

x, w, b, slope = values("x w b slope")

_FEWEST_PIXELS = 1 << 10


def _is_blocked_or_large(m: Match) -> bool:
    """Whether the convolution is blocked anyway; where not, the reorder cost x0.91 over 16 channels of 4x4."""
    outputs, inputs = m.w.array.shape[:2]
    pixels = [dim for dim in (m.Conv.dims or ())[2:] if isinstance(dim, int)]
    is_small = len(pixels) == 2 and pixels[0] * pixels[1] < _FEWEST_PIXELS
    return takes_channels(outputs, inputs, m.Conv.integer("group", 1)) or not is_small


def _slopes(m: Match) -> Vector | str:
    """The slopes as [C, 1, 1]."""
    channels = int(m.w.array.shape[0])
    slopes = along(m.slope.array, 4, 1, channels)
    return f"slope {m.shapes.show(m.slope.value)}" if slopes is None else slopes.reshape(channels, 1, 1)


SLOPES = let("one slope for each channel", _slopes)


@rule(
    op.PRelu(op.Conv(x, w, b.optional()).any_attributes(), slope),
    requires=[
        constant(w, slope),
        finite(slope),
        FLOAT32,
        require(
            "an image",
            lambda m: len(m.w.array.shape) == 4 and m.Conv.rank == 4,
            lambda m: f"{m.shapes.show(m.Conv.value)} by {m.shapes.show(m.w.value)}",
        ),
        SLOPES,
        profitable(
            "a blocked convolution, or 1,024 pixels", _is_blocked_or_large, lambda m: m.shapes.show(m.Conv.value)
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "two scaled branches become blocked depthwise convolutions with a fused sum, and with a fused Relu where it "
        "comes last: x1.4 to x2.2 on mtcnn"
    ),
)
def decompose_prelu(m: Match, op: Builder) -> ir.Value:
    """Compute PRelu as two scaled branches, which stay in the blocked layout.

    before:  y = PRelu(Conv(x, w), %s)
    after:   c = Conv(x, w); y = Add(Relu(Mul(c, %1_s)), Mul(c, %s))      Mul(Relu(c), %1_s) where a slope is above 1
    """
    slopes = m[SLOPES]
    rest = (1 - slopes).astype(np.float32)
    convolved = op.Conv(m.x, m.w, m.b, **m.Conv.attributes)
    positive = op.Relu(op.Mul(convolved, rest)) if np.all(slopes <= 1) else op.Mul(op.Relu(convolved), rest)
    return op.Add(positive, op.Mul(convolved, slopes.astype(np.float32)))
