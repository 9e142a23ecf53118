"""Recognize Gelu written with Erf or Tanh."""

from __future__ import annotations

import math

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import Call, Pattern, approx, op, values
from ..rewriting.rule import rule

(x,) = values("x")

SOURCE = "Hendrycks and Gimpel 2016 (arXiv:1606.08415), in the form of ONNX Gelu-20"


def _times(value: Pattern, number: float) -> Call:
    return op.Mul(value, approx(number)).any_order()


def _gated(gate: Pattern) -> Pattern:
    """X * gate / 2, with the factor on the product, on x, or on the gate."""

    def half(value: Pattern, name: str) -> Pattern:
        return op.Mul(value, 0.5).any_order().named(name) | op.Div(value, 2.0).named(name)

    return (
        half(op.Mul(x, gate).any_order().named("gated"), "halved")
        | op.Mul(half(x, "halved"), gate).any_order().named("gated")
        | op.Mul(x, half(gate, "halved")).any_order().named("gated")
    )


def _one_more(value: Call) -> Call:
    return op.Add(value, 1.0).any_order().named("one_more")


_over_root = op.Div(x, approx(math.sqrt(2))).named("inner") | _times(x, math.sqrt(0.5)).named("inner")
_square = op.Mul(x, x).named("square") | op.Pow(x, 2.0).named("square")
_cube = op.Pow(x, 3.0).named("cube") | op.Mul(_square, x).any_order().named("cube")
_sum = op.Add(x, _times(_cube, 0.044715).named("bent")).any_order().named("sum")
_bent = _times(_square, 0.044715).named("bent") | op.Mul(_times(x, 0.044715).named("part"), x).any_order().named("bent")
_factor = op.Add(_bent, 1.0).any_order().named("factor")
_slope = math.sqrt(2 / math.pi)
_argument = (
    _times(_sum, _slope).named("argument")
    | op.Mul(_times(x, _slope).named("sloped"), _factor).any_order().named("argument")
    | _times(op.Mul(x, _factor).any_order().named("sum"), _slope).named("argument")
)

ERF = _gated(_one_more(op.Erf(_over_root)))
TANH = _gated(_one_more(op.Tanh(_argument)))

REQUIRES = [
    require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype)),
    require(
        "constants that do not broadcast x",
        lambda m: m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])),
        lambda m: m.shapes.show(m.x.value),
    ),
]
_SINCE = structural("opset 20", lambda m: (m.root.version or 0) >= 20)


@rule(
    ERF,
    requires=[_SINCE, *REQUIRES],
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def recognize_gelu(m: Match, op: Builder) -> ir.Value:
    """Recognize Gelu: x times the cumulative normal distribution at x.

    before:  y = Mul(Mul(x, Add(Erf(Div(x, 1.4142)), 1)), 0.5)
    after:   y = Gelu(x)
    """
    return op.Gelu(m.x)


@rule(
    TANH,
    requires=[_SINCE, *REQUIRES],
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def recognize_gelu_tanh(m: Match, op: Builder) -> ir.Value:
    """Recognize the tanh approximation of Gelu.

    before:  y = Mul(Mul(x, Add(Tanh(Mul(Add(x, Mul(Pow(x, 3), 0.044715)), 0.79788)), 1)), 0.5)
    after:   y = Gelu<approximate = "tanh">(x)
    """
    return op.Gelu(m.x, approximate="tanh")
