"""Chains of elementwise arithmetic with a shorter equivalent."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.constraints import constant, floating, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite

x, y, a, b, c, d = values("x y a b c d")

rewrite(
    "mul-reciprocal-to-div",
    "Divide instead of multiplying by a reciprocal: one rounding instead of two.",
    op.Mul(x, op.Reciprocal(y) | op.Div(c, y)).any_order(),
    op.Div(x, y),
    when=[
        constant("c"),
        floating("x"),
        require("a dividend of 1", lambda m: not m.has("Div") or m.c.scalar == 1.0, lambda m: f"{m.c.scalar}"),
        require(
            "a dividend of no higher rank than y",
            lambda m: not m.has("Div") or m.c.array.ndim <= (m.y.rank or 0),
            lambda m: f"{m.shapes.show(m.c.value)} against {m.shapes.show(m.y.value)}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="x * (1 / y) = x / y; ONNX Runtime fuses RMSNorm only in its Div form (core/optimizer/layer_norm_fusion.cc)",
)


def _product_of_scales(m: Match) -> ir.Array | str:
    """The product of both scales in the type of the first, computed in float64."""
    first, second = float(m.c.array.reshape(())), float(m.d.array.reshape(()))
    if not abs(first * second) <= max(1.0, abs(first)):
        return f"{first} * {second}"
    with np.errstate(over="ignore"):
        return (m.c.array.astype(np.float64) * second).astype(m.c.array.dtype)


_scale = let("a product of the scales that overflows no earlier than the first", _product_of_scales)


rewrite(
    "merge-matmul-scales",
    "Scale one operand of a MatMul by the product of two scales, instead of both.",
    op.MatMul(op.Mul(a, c).any_order().named("left"), op.Mul(b, d).any_order().named("right")),
    op.MatMul(op.Mul(a, _scale), b),
    when=[
        constant("c", "d"),
        floating("c", "d"),
        require(
            "scales of one element each",
            lambda m: m.c.array.size == m.d.array.size == 1,
            lambda m: f"{list(m.c.array.shape)} and {list(m.d.array.shape)}",
        ),
        require(
            "scales of no higher rank than what they scale",
            lambda m: m.c.array.ndim <= (m.a.rank or 0) and m.d.array.ndim <= (m.b.rank or 0),
            lambda m: f"{m.shapes.show(m.a.value)} and {m.shapes.show(m.b.value)}",
        ),
        _scale,
    ],
    exactness=Exactness.ROUNDING,
    source="(s·A)(t·B) = (s·t·A)B; torch 2.13 splits the scale of attention over both factors",
)
