"""Gelu as ONNX Runtime's own operators, below the opset that has one."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..recognize.gelu import ERF, REQUIRES, TANH
from ..rewriting.builder import Builder
from ..rewriting.constraints import structural
from ..rewriting.match import Match
from ..rewriting.rule import rule
from ..targets.kernel_table import CONTRIB

_CONDITIONS = [
    structural("an opset below 20", lambda m: (m.root.version or 0) < 20),
    structural("ONNX Runtime", lambda m: m.context.settings.target.is_onnxruntime),
    *REQUIRES,
]


@rule(
    ERF,
    requires=_CONDITIONS,
    exactness=Exactness.ROUNDING,
    source="com.microsoft.Gelu (ContribOperators.md), which ONNX Runtime makes itself of two of the forms",
)
def fuse_gelu_contrib(m: Match, op: Builder) -> ir.Value:
    """Fuse Gelu: x times the cumulative normal distribution at x.

    before:  y = Mul(Mul(x, Add(Erf(Div(x, 1.4142)), 1)), 0.5)      below opset 20
    after:   y = com.microsoft.Gelu(x)
    """
    return op.Gelu(m.x, domain=CONTRIB, version=1)


@rule(
    TANH,
    requires=_CONDITIONS,
    exactness=Exactness.ROUNDING,
    source="com.microsoft.FastGelu (ContribOperators.md), which ONNX Runtime makes itself of two of the forms",
)
def fuse_gelu_tanh_contrib(m: Match, op: Builder) -> ir.Value:
    """Fuse the tanh approximation of Gelu.

    before:  y = Mul(Mul(x, Add(Tanh(Mul(Add(x, Mul(Pow(x, 3), 0.044715)), 0.79788)), 1)), 0.5)      below opset 20
    after:   y = com.microsoft.FastGelu(x)
    """
    return op.FastGelu(m.x, domain=CONTRIB, version=1)
