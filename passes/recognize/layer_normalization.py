"""Recognize layer normalization written as reductions and arithmetic."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import structural
from ..rewriting.match import Match
from ..rewriting.pattern import op
from ..rewriting.rule import rule
from .norm_patterns import FLOAT, REQUIRES, affine, goes_on, mean_of, over_deviation, parameters, x

_centered = op.Sub(x, mean_of(x, "mean")).named("centered")


@rule(
    affine(over_deviation(_centered)),
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
