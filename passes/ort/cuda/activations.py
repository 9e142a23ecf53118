"""Activations as the operators for which ONNX Runtime's CUDA provider has a kernel."""

from __future__ import annotations

from ...pipeline.exactness import Exactness
from ...rewriting.constraints import floating, let
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite
from ...targets.kernel_table import CONTRIB

(x,) = values("x")

_slope = let("alpha", lambda m: m.swish.number("alpha", 1.0), is_structural=True)

rewrite(
    "swish-to-quick-gelu-cuda",
    "Rewrite Swish as the contrib operator that has a kernel.",
    op.Swish(x).any_attributes("alpha").named("swish"),
    op.domain(CONTRIB).QuickGelu(x, alpha=_slope),
    when=[floating(x), _slope],
    exactness=Exactness.ROUNDING,
    source=(
        "ONNX Swish-24 has no CUDA kernel and is expanded to four operators; com.microsoft.QuickGelu is x * "
        "Sigmoid(alpha * x), too (ContribOperators.md)"
    ),
)
