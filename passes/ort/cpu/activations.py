"""Activations with scalar kernels, rewritten with operators for which ONNX Runtime has vector code."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .conv.nchwc import FLOAT32, LARGE, WIDE

(x,) = values("x")

_SATURATED = 20.0  # e^20 is so large that n / (n + 2) rounds to 1 in float32


@rule(
    op.Mul(x, op.Tanh(op.Softplus(x))).any_order().opset(since=8) | op.Mish(x),
    requires=[FLOAT32, LARGE, WIDE],
    exactness=Exactness.ROUNDING,
    source="Misra 2019 (arXiv:1908.08681); tanh(ln(1 + e)) = n / (n + 2) with n = e(e + 2): x4 to x9 alone",
)
def decompose_mish(m: Match, op: Builder) -> ir.Value:
    """Compute Mish with one exponential.

    before:  y = Mul(x, Tanh(Softplus(x)))      the same for Mish
    after:   e = Exp(Min(x, 20)); n = Mul(e, Add(e, 2)); y = Mul(x, Div(n, Add(n, 2)))
    """
    exponential = op.Exp(op.Min(m.x, _SATURATED))
    two = op.constant(np.array(2, np.float32))
    numerator = op.Mul(exponential, op.Add(exponential, two))
    return op.Mul(m.x, op.Div(numerator, op.Add(numerator, two)))


@rule(
    op.Elu(x).any_attributes("alpha").opset(since=8),
    requires=[
        FLOAT32,
        require("alpha = 1", lambda m: m.Elu.number("alpha", 1.0) == 1.0, lambda m: str(m.Elu.number("alpha", 1.0))),
        LARGE,
        WIDE,
    ],
    exactness=Exactness.ROUNDING,
    source="Clevert et al. 2016 (arXiv:1511.07289); e^x - 1 >= x, with equality at 0: x1.3 to x3 alone",
)
def decompose_elu(m: Match, op: Builder) -> ir.Value:
    """Compute Elu as the maximum of its two branches.

    before:  y = Elu(x)
    after:   y = Max(x, Sub(Min(Exp(x), 1), 1))
    """
    one = op.constant(np.array(1, np.float32))
    return op.Max(m.x, op.Sub(op.Min(op.Exp(m.x), one), one))
