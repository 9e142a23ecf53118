"""Recognize HardSigmoid and HardSwish written with Clip."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import require
from ..rewriting.match import Match
from ..rewriting.pattern import Pattern, approx, op, values
from ..rewriting.rule import rewrite, rule

(x,) = values("x")

SOURCE = "Howard et al. 2019 (arXiv:1905.02244): hard-swish(x) = x * min(max(x + 3, 0), 6) / 6"

_shifted = op.Add(x, 3.0).any_order().named("shifted")
_clipped = op.Clip(_shifted, 0.0, 6.0).named("clipped").opset(since=11) | op.Clip(_shifted, min=0.0, max=6.0).named(
    "clipped"
).opset(since=6, until=10)


def _by_six(value: Pattern) -> Pattern:
    return op.Div(value, 6.0).named("sixth") | op.Mul(value, approx(1 / 6)).any_order().named("sixth")


FLOAT = require(
    "floating-point x", lambda m: m.x.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16), lambda m: str(m.x.dtype)
)


rewrite(
    "recognize-hard-sigmoid",
    "Recognize HardSigmoid.",
    _by_six(_clipped),
    op.HardSigmoid(x, alpha=1 / 6, beta=0.5),
    when=[FLOAT],
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)


@rule(
    _by_six(op.Mul(x, _clipped).any_order().named("gated")),
    requires=[FLOAT],
    exactness=Exactness.ROUNDING,
    source=SOURCE,
    benefit=1,
)
def recognize_hard_swish(m: Match, op: Builder) -> ir.Value:
    """Recognize HardSwish: a value gated by its own HardSigmoid. (Below opset 14 as HardSigmoid and Mul.)

    before:  y = Div(Mul(x, Clip(Add(x, 3), 0, 6)), 6)
    after:   y = HardSwish(x)
    """
    if (m.root.version or 0) >= 14:
        return op.HardSwish(m.x)
    return op.Mul(m.x, op.HardSigmoid(m.x, alpha=1 / 6, beta=0.5))
