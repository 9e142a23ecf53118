"""Zero points of DequantizeLinear in the form that ONNX Runtime's optimizer handles correctly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..analyses import Shapes
from ..pipeline.pass_ import Pass, PassContext, where
from ..registry import register
from ..targets.quantization_faults import respell


@register
@dataclass(frozen=True)
class NormalizeDequantizeZeroPoints(Pass):
    """Make a zero point of 0 of an int8 DequantizeLinear explicit, or absent, where ONNX Runtime fails otherwise.

    Below opset 21 its optimizer computes wrong values where a DequantizeLinear of int8 without a zero point is followed
    by an operator that moves elements; from 21 on it opens no session where the zero point is explicit. An absent
    zero point is 0 (ONNX, DequantizeLinear). Nodes that are not affected stay: see targets/quantization_faults.py.

    before:  y = Transpose(DequantizeLinear(x, scale))      opset 20
    after:   y = Transpose(DequantizeLinear(x, scale, 0))
    """

    name: ClassVar[str] = "normalize-dequantize-zero-points"

    def run(self, model: ir.Model, context: PassContext) -> None:

        def try_rewrite(node: ir.Node, before: str, after: str) -> bool:
            return context.log.try_rewrite(self.name, where(node), before, after)

        respell(model, context.analyses.get(Shapes).dtype, context.rewriter, try_rewrite)
