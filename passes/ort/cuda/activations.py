"""Activations as the operators for which ONNX Runtime's CUDA provider has a kernel."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import floating
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.kernel_table import CONTRIB

(x,) = values("x")


@rule(
    op.Swish(x).any_attributes("alpha").named("swish"),
    requires=[floating(x)],
    exactness=Exactness.ROUNDING,
    source=(
        "ONNX Swish-24 has no CUDA kernel and is expanded to four operators; com.microsoft.QuickGelu is x * "
        "Sigmoid(alpha * x), too (ContribOperators.md)"
    ),
)
def swish_to_quick_gelu_cuda(m: Match, op: Builder) -> ir.Value:
    """Rewrite Swish as the contrib operator that has a kernel.

    before:  y = Swish<alpha>(x)
    after:   y = com.microsoft.QuickGelu<alpha>(x)
    """
    return op.QuickGelu(m.x, domain=CONTRIB, version=1, alpha=m.swish.number("alpha", 1.0))
