"""Quantized models in the form that ONNX Runtime runs on CUDA without copies to the host."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, w, bias, scale, zero_point = values("x w bias scale zero_point")

_BIAS = (
    op.DequantizeLinear(bias, scale, zero_point.optional())
    .any_attributes("axis", "block_size")
    .named("dequantized")
    .shared()
)

_RANK = let(
    "rank of x known", lambda m: m.x.rank if m.x.rank is not None else f"the rank of {m.x.value.name!r} is unknown"
)


@rule(
    op.Conv(x, w, _BIAS).any_attributes(),
    requires=[
        require("a bias in int32", lambda m: m.bias.dtype == ir.DataType.INT32, lambda m: str(m.bias.dtype)),
        constant(bias, scale, zero_point),
        require("a scale in float32", lambda m: m.scale.dtype == ir.DataType.FLOAT, lambda m: str(m.scale.dtype)),
        require(
            "no zero point, or zeros",
            lambda m: not m.zero_point.present or not np.any(m.zero_point.array),
            lambda m: f"zero point {m.shapes.show(m.zero_point.value)}",
        ),
        require(
            "a bias of one dim, with one scale or one for each element",
            lambda m: m.bias.array.ndim == 1 and m.scale.array.shape in ((), (1,), m.bias.array.shape),
            lambda m: f"bias {m.shapes.show(m.bias.value)}, scale {m.shapes.show(m.scale.value)}",
        ),
        _RANK,
    ],
    exactness=Exactness.ROUNDING,
    source=(
        "The CUDA provider has no DequantizeLinear of int32: ONNX Runtime computes each bias on the CPU and copies it "
        "in every run (54 copies in a quantized ResNet-50). Not as a bias, because ONNX Runtime quantizes a constant "
        "one again (weight_bias_quantization.cc), and as Sum, which it does not fuse into the convolution "
        "(conv_add_fusion.cc matches Add)"
    ),
)
def fold_quantized_conv_bias_cuda(m: Match, op: Builder) -> ir.Value:
    """Dequantize the bias of a quantized convolution ahead of time, and add it after, as the kernel does itself.

    before:  y = Conv(x, w, DequantizeLinear(%bias, %scale))
    after:   y = Sum(Conv(x, w), %dequantized)
    """
    content = m.bias.array.astype(np.float32) * m.scale.array.astype(np.float32)
    spatial = (1,) * (m[_RANK] - 2)
    return op.Sum(op.Conv(m.x, m.w, **m.root.attributes), content.reshape(-1, *spatial))
