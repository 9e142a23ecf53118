"""Activations that ONNX Runtime's CUDA provider computes in one kernel under another name."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import floating
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB
from .cuda_target import ON_CUDA

(x,) = values("x")


@rule(
    op.Swish(x).any_attributes("alpha").named("swish"),
    requires=[ON_CUDA, floating("x")],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=(
        "ONNX Swish-24 has no CUDA kernel and is expanded to four operators; com.microsoft.QuickGelu is x * "
        "Sigmoid(alpha * x), too (ContribOperators.md)"
    ),
)
def swish_to_quick_gelu_cuda(m: Match, op: Builder) -> ir.Value:
    """Swish under the name that has a kernel.

    before:  Swish<alpha>(x) -> y
    after:   com.microsoft.QuickGelu<alpha>(x) -> y
    """
    return op.QuickGelu(m.x, domain=CONTRIB, version=1, alpha=m.swish.number("alpha", 1.0))
