"""Quantized constants that ONNX Runtime's CUDA provider has no kernel for."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..engine.conditions import constant, holds
from ..engine.pattern import op, values
from ..engine.rule import Builder, Match, rule
from .cuda import ON_CUDA

x, scale, zero_point = values("x scale zero_point")


def _is_for_all_or_last(m: Match) -> bool:
    """One scale for all, or one for each element of a vector: numpy broadcasts them as the operator does."""
    content, factors = m.x.array, m.scale.array
    return factors.size == 1 or (content.ndim == 1 and factors.shape == content.shape)


@rule(
    op.DequantizeLinear(x, scale, zero_point.optional()).any_attributes("axis"),
    requires=[
        ON_CUDA,
        holds("int32", lambda m: m.x.dtype == ir.DataType.INT32, lambda m: str(m.x.dtype)),
        constant("x", "scale", "zero_point"),
        holds("float32", lambda m: m.scale.dtype == ir.DataType.FLOAT, lambda m: str(m.scale.dtype)),
        holds("no zero point", lambda m: not m.zero_point.present or not np.any(m.zero_point.array)),
        holds("one scale, or one for each element", _is_for_all_or_last, lambda m: m.shapes.show(m.scale.value)),
    ],
    source=(
        "ONNX DequantizeLinear; the CUDA provider has no kernel for int32 and ONNX Runtime does not fold it, so that "
        "each bias is computed on the processor and copied in every run (54 copies in a quantized ResNet-50)"
    ),
    group="legalize",
)
def fold_bias_dequantization_on_cuda(m: Match, op: Builder) -> ir.Value:
    """Compute the bias of a quantized layer ahead: for CUDA, where no kernel takes it as integers.

    before:  DequantizeLinear(%bias, %scale) -> b;  Conv(x, w, b)
    after:   Conv(x, w, %b)
    """
    factors = m.scale.array.reshape(() if m.scale.array.size == 1 else m.scale.array.shape)
    return op.constant((m.x.array.astype(np.float32) * factors).astype(np.float32))
