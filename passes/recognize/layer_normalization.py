"""Recognize layer normalization written as reductions and arithmetic."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import structural
from ..rewriting.match import Match
from ..rewriting.pattern import Pattern, op
from ..rewriting.rule import rule
from .norm_patterns import FLOAT, REQUIRES, bias, goes_on, mean_of, over_deviation, parameters, scale, x

_centered = op.Sub(x, mean_of(x, "mean")).named("centered")


def _affine(normalized: Pattern) -> Pattern:
    """`normalized` with a scale and a bias, with a scale, or alone."""
    scaled = op.Mul(normalized, scale).any_order().named("scaled")
    return op.Add(scaled, bias).any_order().named("biased") | scaled | normalized


@rule(
    _affine(over_deviation(_centered)),
    requires=[
        structural("opset 17", lambda m: (m.root.version or 0) >= 17),
        structural("no scale above", lambda m: m.has("scale") or not goes_on(m, m.root.outputs[0], "Mul")),
        structural("no bias above", lambda m: m.has("bias") or not goes_on(m, m.root.outputs[0], "Add")),
        FLOAT,
        *REQUIRES,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="Ba et al. 2016 (arXiv:1607.06450), in the form of ONNX LayerNormalization-17",
    benefit=1,
)
def recognize_layer_normalization(m: Match, op: Builder) -> ir.Value:
    """Recognize LayerNormalization.

    before:  d = Sub(x, ReduceMean(x)); y = Add(Mul(Div(d, Sqrt(Add(ReduceMean(Mul(d, d)), epsilon))), scale), bias)
    after:   y = LayerNormalization(x, scale, bias)
    """
    operands, attributes = parameters(m, op)
    return op.LayerNormalization(m.x, *operands, **attributes)
