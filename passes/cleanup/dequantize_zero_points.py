"""Dequantization as ONNX Runtime's optimizer does not break it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..analyses import Shapes
from ..analyses.manager import Analysis
from ..pipeline.pass_ import Pass, PassContext, where
from ..pipeline.registry import register
from ..targets.quantization_faults import respell


@register
@dataclass(frozen=True)
class NormalizeDequantizeZeroPoints(Pass):
    """Write out a zero point of 0 of an int8 DequantizeLinear, or leave it out, where ONNX Runtime breaks the other.

    Below opset 21 its optimizer computes wrong values where a DequantizeLinear of int8 without a zero point is followed
    by an operator that moves elements; from 21 on it opens no session where the zero point is given. An absent zero
    point is one of 0 (ONNX, DequantizeLinear). Sound places stay: see targets/quantization_faults.py.

    before:  y = Transpose(DequantizeLinear(x, scale))      opset 20
    after:   y = Transpose(DequantizeLinear(x, scale, 0))
    """

    name: ClassVar[str] = "normalize-dequantize-zero-points"
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    def run(self, model: ir.Model, context: PassContext) -> None:
        def try_rewrite(node: ir.Node, before: str, after: str) -> bool:
            return context.log.try_rewrite(self.name, where(node), before, after)

        respell(model, context.analyses.get(Shapes).dtype, context.rewriter, try_rewrite)
