"""Activations that ONNX Runtime's CUDA provider computes in one kernel under another name."""

from __future__ import annotations

from ... import ir
from ..engine.conditions import floating
from ..engine.exactness import Exactness
from ..engine.pattern import op, values
from ..engine.rule import Builder, Match, rule
from ..targets.kernels import CONTRIB
from .cuda import ON_CUDA

(x,) = values("x")


@rule(
    op.Swish(x).any_attributes("alpha").named("swish"),
    requires=[ON_CUDA, floating("x")],
    exactness=Exactness.ROUNDING,
    is_choice=True,
    source=(
        "ONNX Swish-24 has no CUDA kernel and is expanded to four operators; com.microsoft.QuickGelu is x * "
        "Sigmoid(alpha * x), too (ContribOperators.md)"
    ),
    group="legalize",
)
def swish_as_quick_gelu_on_cuda(m: Match, op: Builder) -> ir.Value:
    """Swish under the name that has a kernel.

    before:  Swish<alpha>(x) -> y
    after:   com.microsoft.QuickGelu<alpha>(x) -> y
    """
    return op.QuickGelu(m.x, domain=CONTRIB, version=1, alpha=m.swish.number("alpha", 1.0))
