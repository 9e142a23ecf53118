"""LeakyRelu written as a choice or a maximum."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import constant, require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import op, values
from ..rewriting.rule import rule

x, slope = values("x slope")

_leak = op.Mul(x, slope).any_order().named("leak")
_choice = (
    op.Where(op.Less(x, 0.0).named("test"), _leak, x)
    | op.Where(op.Greater(x, 0.0).named("test"), x, _leak)
    | op.Where(op.GreaterOrEqual(x, 0.0).named("test"), x, _leak)
)


def _slope(m: Match) -> float | None:
    return m.slope.scalar if isinstance(m.slope.scalar, float) else None


@rule(
    _choice | op.Max(x, _leak).any_order().named("larger"),
    requires=[
        structural("opset 16", lambda m: (m.root.version or 0) >= 16),
        constant("slope"),
        require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype)),
        require(
            "a number that leaves the dims of x",
            lambda m: _slope(m) is not None and m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])),
            lambda m: f"{m.shapes.show(m.slope.value)} on {m.shapes.show(m.x.value)}",
        ),
        require(
            "between 0 and 1 in a maximum",
            lambda m: not m.has("larger") or 0 < (_slope(m) or 0) < 1,
            lambda m: str(_slope(m)),
        ),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source="Maas et al. 2013, in the form of ONNX LeakyRelu-16",
)
def recognize_leaky_relu(m: Match, op: Builder) -> ir.Value:
    """A slope for what is negative.

    before:  Where(x < 0, x * slope, x) -> y
    after:   x -> LeakyRelu(slope) -> y
    """
    return op.LeakyRelu(m.x, alpha=_slope(m))
