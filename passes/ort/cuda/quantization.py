"""Quantized models in the form that costs ONNX Runtime's CUDA provider no copies."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, rank_known, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .cuda_target import ON_CUDA

x, w, bias, scale, zero_point = values("x w bias scale zero_point")

_BIAS = (
    op.DequantizeLinear(bias, scale, zero_point.optional())
    .any_attributes("axis", "block_size")
    .named("dequantized")
    .shared()
)


def _is_vector(m: Match) -> bool:
    """A bias of one dim with one scale for all, or one for each element."""
    return m.bias.array.ndim == 1 and m.scale.array.shape in ((), (1,), m.bias.array.shape)


@rule(
    op.Conv(x, w, _BIAS).any_attributes(),
    requires=[
        ON_CUDA,
        require("a bias in int32", lambda m: m.bias.dtype == ir.DataType.INT32, lambda m: str(m.bias.dtype)),
        constant("bias", "scale", "zero_point"),
        require("float32", lambda m: m.scale.dtype == ir.DataType.FLOAT, lambda m: str(m.scale.dtype)),
        require("no zero point", lambda m: not m.zero_point.present or not np.any(m.zero_point.array)),
        require("one scale, or one for each element", _is_vector, lambda m: m.shapes.show(m.bias.value)),
        rank_known("x"),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=(
        "The CUDA provider has no DequantizeLinear of int32: ONNX Runtime computes each bias on the processor and "
        "copies it in every run (54 copies in a quantized ResNet-50). Not as a bias, because ONNX Runtime quantizes a "
        "constant one again (weight_bias_quantization.cc), and as Sum, which it does not fuse into the convolution "
        "(conv_add_fusion.cc matches Add)"
    ),
)
def fold_quantized_conv_bias_cuda(m: Match, op: Builder) -> ir.Value:
    """Compute the bias of a quantized convolution ahead, and add it behind, as the kernel does itself.

    before:  Conv(x, w, DequantizeLinear(%bias, %scale)) -> y
    after:   Sum(Conv(x, w), %bias) -> y
    """
    content = m.bias.array.astype(np.float32) * m.scale.array.astype(np.float32)
    spatial = (1,) * ((m.x.rank or 0) - 2)
    return op.Sum(op.Conv(m.x, m.w, **m.root.attributes), op.constant(content.reshape(-1, *spatial)))
