"""Chains of elementwise arithmetic that are one operator."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, y, a, b, c, d = values("x y a b c d")


@rule(
    op.Mul(x, op.Reciprocal(y) | op.Div(c, y)).any_order(),
    requires=[
        constant("c"),
        floating("x"),
        require("one over y", lambda m: not m.has("Div") or m.c.scalar == 1.0),
        require("a one of no higher rank than y", lambda m: not m.has("Div") or m.c.array.ndim <= (m.y.rank or 0)),
    ],
    exactness=Exactness.ROUNDING,
    source="x * (1 / y) = x / y; ONNX Runtime fuses RMSNorm only in its Div form (core/optimizer/layer_norm_fusion.cc)",
)
def mul_reciprocal_to_div(m: Match, op: Builder) -> ir.Value:
    """One division, rounded once.

    before:  y -> Reciprocal -> Mul(x, ·) -> z        the same for Div(1, y)
    after:   Div(x, y) -> z
    """
    return op.Div(m.x, m.y)


def _one_number(m: Match, name: str) -> bool:
    return bool(getattr(m, name).array.size == 1)


def _product(m: Match) -> float:
    return _number(m, "c") * _number(m, "d")


def _number(m: Match, name: str) -> float:
    return float(getattr(m, name).array.reshape(()))


@rule(
    op.MatMul(op.Mul(a, c).any_order().named("left"), op.Mul(b, d).any_order().named("right")),
    requires=[
        constant("c", "d"),
        floating("c", "d"),
        require("scales that are one number each", lambda m: _one_number(m, "c") and _one_number(m, "d")),
        require(
            "scales of no higher rank than what they scale",
            lambda m: m.c.array.ndim <= (m.a.rank or 0) and m.d.array.ndim <= (m.b.rank or 0),
            lambda m: f"{m.shapes.show(m.a.value)} and {m.shapes.show(m.b.value)}",
        ),
        require(
            "a product of the scales that overflows no earlier than the first",
            lambda m: abs(_product(m)) <= max(1.0, abs(_number(m, "c"))),
            lambda m: f"{m.c.scalar} * {m.d.scalar}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="(s·A)(t·B) = (s·t·A)B; torch 2.13 splits the scale of attention over both factors",
)
def merge_matmul_scales(m: Match, op: Builder) -> ir.Value | None:
    """Scale one factor by the product of two scales, instead of both.

    before:  MatMul(Mul(a, s), Mul(b, t)) -> y
    after:   MatMul(Mul(a, s * t), b) -> y
    """
    product = m.c.array.astype(np.float64) * m.d.array.astype(np.float64).reshape(())
    with np.errstate(over="ignore"):
        scale = product.astype(m.c.array.dtype)
    return op.MatMul(op.Mul(m.a, op.constant(scale)), m.b)
