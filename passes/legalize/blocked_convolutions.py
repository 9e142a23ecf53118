"""Steps between convolutions that keep ONNX Runtime's blocked layout (NCHWc) instead of leaving it.

On the CPU, Conv runs on channels in blocks of 16; what cannot read that layout is surrounded by two reorders. Measured
on one thread of an AVX-512 machine with ONNX Runtime 1.32; ratios in the rules' sources.
"""

from __future__ import annotations

import numpy as np

from ... import ir
from ..engine.conditions import constant, finite, holds
from ..engine.exactness import Exactness
from ..engine.pattern import op, values
from ..engine.rule import Builder, Match, rule
from ..simplify.affine import along

x, w, b, s, t, slope = values("x w b s t slope")

BLOCK = 16

ON_CPU = holds("target ort-cpu", lambda m: m.context.settings.target == "ort-cpu", lambda m: m.context.settings.target)
FLOAT32 = holds("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))


def _channels(m: Match) -> int | None:
    """The channels of an image [N, C, H, W], when they are a known number."""
    dims = m.x.dims
    if dims is None or len(dims) != 4 or not isinstance(dims[1], int):
        return None
    return dims[1]


def _fills_blocks(m: Match) -> bool:
    return (_channels(m) or 1) % BLOCK == 0


def _read_by_convolutions(m: Match) -> bool:
    readers = m.root.outputs[0].consumers()
    return bool(readers) and not m.root.outputs[0].is_graph_output() and all(each.op_type == "Conv" for each in readers)


@rule(
    op.Add(op.Mul(x, s).any_order(), t).any_order(),
    requires=[
        ON_CPU,
        constant("s", "t"),
        finite("s", "t"),
        FLOAT32,
        holds("an image with channels in whole blocks", _fills_blocks, lambda m: m.shapes.show(m.x.value)),
        holds("convolutions that read the result, and nobody else", _read_by_convolutions),
        holds(
            "one number for each channel",
            lambda m: all(along(getattr(m, each).array, 4, 1, _channels(m) or 0) is not None for each in "st"),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Runtime's NCHWc transformer makes a BatchNormalization a blocked convolution: x1.1 on an OCR detector",
    group="legalize",
)
def affine_as_batchnorm(m: Match, op: Builder) -> ir.Value | None:
    """A scale and a shift that a padded convolution keeps from going into its weights.

    before:  x -> Mul(s) -> Add(t) -> Conv
    after:   x -> BatchNormalization(s, t, mean 0, variance 1) -> Conv
    """
    channels = _channels(m)
    assert channels is not None
    scale, shift = (along(getattr(m, each).array, 4, 1, channels) for each in "st")
    assert scale is not None and shift is not None
    vectors = (scale, shift, np.zeros(channels), np.ones(channels))
    return op.BatchNormalization(m.x, *(op.constant(each.astype(np.float32)) for each in vectors), epsilon=0.0)


@rule(
    op.PRelu(op.Conv(x, w, b.optional()).any_attributes(), slope),
    requires=[
        ON_CPU,
        constant("w", "slope"),
        finite("slope"),
        FLOAT32,
        holds("an image", lambda m: len(m.w.array.shape) == 4 and m.Conv.rank == 4),
        holds(
            "one slope for each channel",
            lambda m: along(m.slope.array, 4, 1, int(m.w.array.shape[0])) is not None,
            lambda m: f"slope {m.shapes.show(m.slope.value)}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="two scaled branches become blocked depthwise convolutions with a fused sum: x1.7 to x2.2 on mtcnn",
    group="legalize",
)
def prelu_as_scaled_branches(m: Match, op: Builder) -> ir.Value | None:
    """PRelu as two scaled branches, which stay in the blocked layout.

    before:  x -> Conv -> PRelu(s) -> y
    after:   x -> Conv -> c;  Relu(c) * (1 - s) + c * s -> y
    """
    channels = int(m.w.array.shape[0])
    given = along(m.slope.array, 4, 1, channels)
    assert given is not None
    column = given.reshape(channels, 1, 1)
    convolved = op.Conv(m.x, m.w, m.b, **m.Conv.attributes)
    positive = op.Mul(op.Relu(convolved), op.constant((1 - column).astype(np.float32)))
    return op.Add(positive, op.Mul(convolved, op.constant(column.astype(np.float32))))


@rule(
    op.LRN(x).any_attributes(),
    requires=[
        ON_CPU,
        FLOAT32,
        holds("an image with known channels", lambda m: _channels(m) is not None, lambda m: m.shapes.show(m.x.value)),
        holds(
            "at most 512 channels: the band is a full matrix",
            lambda m: (_channels(m) or 0) <= 512,
            lambda m: str(_channels(m)),
        ),
        holds(
            "a positive bias and scale", lambda m: m.LRN.number("bias", 1.0) > 0 and m.LRN.number("alpha", 1e-4) >= 0
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="Krizhevsky et al. 2012, section 3.3; the kernel is scalar: x9 to x11 alone, x1.5 to x1.9 on whole models",
    group="legalize",
)
def lrn_as_convolution(m: Match, op: Builder) -> ir.Value | None:
    """Local response normalization over channels: the window sum is a 1x1 convolution with a band matrix.

    before:  x -> LRN(size, alpha, beta, bias) -> y
    after:   x / (Conv1x1(x * x, alpha / size on a band) + bias) ^ beta -> y
    """
    channels, size = _channels(m), m.LRN.integer("size")
    assert channels is not None
    place = np.arange(channels)
    # ONNX LRN-13: from c - floor((size - 1) / 2) to c + ceil((size - 1) / 2)
    distance = place[None, :] - place[:, None]
    band = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
    weight = band.astype(np.float64) * (m.LRN.number("alpha", 1e-4) / size)
    bias = np.full(channels, m.LRN.number("bias", 1.0))
    summed = op.Conv(
        op.Mul(m.x, m.x),
        op.constant(weight.reshape(channels, channels, 1, 1).astype(np.float32)),
        op.constant(bias.astype(np.float32)),
        kernel_shape=[1, 1],
    )
    beta = m.LRN.number("beta", 0.75)
    if beta == 0.75:  # a square root is many times faster than a power
        root = op.Sqrt(summed)
        power = op.Mul(root, op.Sqrt(root))
    elif beta == 0.5:
        power = op.Sqrt(summed)
    else:
        power = op.Pow(summed, op.constant(np.asarray(beta, dtype=np.float32)))
    return op.Div(m.x, power)
