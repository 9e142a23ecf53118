"""Lower the opset to one at which every operator of a model has a CUDA kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext
from ...pipeline.rewrite_log import MissedRewrite
from ...registry import register
from ...rewriting.convert_for_target import convert_for_target
from ...targets.cuda import kernels_lost

OPSET = 21  # the last before the definitions of opset 22, which some kernels do not follow


@register
@dataclass(frozen=True)
class LowerOpsetForCuda(Pass):
    """Convert a model of opset 22 or above to 21 where an operator has a CUDA kernel only there; for target `ort-cuda`.

    Such a node runs on the CPU, between a copy to the host, a synchronization, and a copy back (MaxPool,
    InstanceNormalization, Elu: microsoft/onnxruntime#26393). Not where an opset was requested, where another operator
    is newer than 21 or loses its own kernel there, where ONNX Runtime's optimizer breaks quantization at 21 alone, and
    not for bfloat16, for which Conv has a kernel from 22 on.

    before:  y = MaxPool(x)      opset 22
    after:   y = MaxPool(x)      opset 21
    """

    name: ClassVar[str] = "lower-opset-for-cuda"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Convert `model`, or log why not."""
        current, settings = ir.standard_opset(model), context.settings
        if not settings.target.is_cuda or settings.highest_opset == 0 or current is None or current <= OPSET:
            return
        lost = kernels_lost(model, current)
        if not lost:
            return
        condition, because = f"operators and types that opset {OPSET} has, too", _bfloat16_in(model)
        if not because:
            try:
                lower = convert_for_target(model, OPSET, settings, context.analyses.get(Shapes))
            except ir.ModelError as error:
                because = error.diagnostic.message
            else:
                for obstacle in lower.obstacles[:1]:
                    condition, because = obstacle.condition, obstacle.because
        if because:
            context.log.miss(MissedRewrite(self.name, "model", condition, because))
        elif context.log.try_rewrite(self.name, "model", f"opset {current}", f"opset {OPSET}", self.exactness):
            context.rewriter.exchange(lower.model)


def _bfloat16_in(model: ir.Model) -> str:
    """Why the model needs bfloat16; "" where it does not."""
    for graph in ir.graphs(model):
        for value in (*graph.inputs, *graph.initializers.values()):
            if ir.declared_dtype(value) == ir.DataType.BFLOAT16:
                return f"{value.name!r} is bfloat16"
    return ""
