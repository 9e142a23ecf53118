"""PRelu, which ONNX Runtime computes element by element, as convolutions of its blocked layout."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....pipeline.exactness import Exactness
from ....rewriting.builder import Builder
from ....rewriting.constraints import constant, finite, profitable, require
from ....rewriting.match import Match
from ....rewriting.pattern import op, values
from ....rewriting.rule import rule
from ....simplify.weights.linear_ops import along
from .nchwc import FLOAT32, takes_channels

x, w, b, slope = values("x w b slope")


_FEWEST_PIXELS = 1 << 10


def _is_blocked_or_large(m: Match) -> bool:
    """Whether the convolution gives blocked channels anyway; else the reorder cost x0.91 over 16 channels of 4x4."""
    outputs, inputs = m.w.array.shape[:2]
    pixels = [dim for dim in (m.Conv.dims or ())[2:] if isinstance(dim, int)]
    is_small = len(pixels) == 2 and pixels[0] * pixels[1] < _FEWEST_PIXELS
    return takes_channels(outputs, inputs, m.Conv.integer("group", 1)) or not is_small


@rule(
    op.PRelu(op.Conv(x, w, b.optional()).any_attributes(), slope),
    requires=[
        constant("w", "slope"),
        finite("slope"),
        FLOAT32,
        require("an image", lambda m: len(m.w.array.shape) == 4 and m.Conv.rank == 4),
        require(
            "one slope for each channel",
            lambda m: along(m.slope.array, 4, 1, int(m.w.array.shape[0])) is not None,
            lambda m: f"slope {m.shapes.show(m.slope.value)}",
        ),
        profitable(
            "a blocked convolution, or 1,024 pixels", _is_blocked_or_large, lambda m: m.shapes.show(m.Conv.value)
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "two scaled branches become blocked depthwise convolutions with a fused sum, and with a fused Relu where it "
        "comes last: x1.4 to x2.2 on mtcnn"
    ),
)
def decompose_prelu(m: Match, op: Builder) -> ir.Value | None:
    """PRelu as two scaled branches, which stay in the blocked layout.

    before:  x -> Conv -> PRelu(s) -> y
    after:   x -> Conv -> c;  Relu(c * (1 - s)) + c * s -> y        Relu(c) * (1 - s) where a slope is above 1
    """
    channels = int(m.w.array.shape[0])
    given = along(m.slope.array, 4, 1, channels)
    assert given is not None
    column = given.reshape(channels, 1, 1)
    rest = op.constant((1 - column).astype(np.float32))
    convolved = op.Conv(m.x, m.w, m.b, **m.Conv.attributes)
    positive = op.Relu(op.Mul(convolved, rest)) if np.all(column <= 1) else op.Mul(op.Relu(convolved), rest)
    return op.Add(positive, op.Mul(convolved, op.constant(column.astype(np.float32))))
