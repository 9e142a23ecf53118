"""Multiply by the weights of attention from the left, where their transpose is multiplied from the right."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

v, scores = values("v scores")


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


@rule(
    op.MatMul(v, op.Transpose(op.Softmax(scores).any_attributes()).any_attributes("perm")),
    requires=[
        require(
            "the last two dims swapped, of as many as the values have",
            lambda m: m.v.rank == m.scores.rank and list(m.Transpose.integers("perm") or ()) == _swapped(m.v.rank or 2),
            lambda m: f"perm {m.Transpose.integers('perm')} beside {m.shapes.show(m.v.value)}",
        )
    ],
    exactness=Exactness.ROUNDING,
    source="A B' = (B A')'; timm's Attention2d keeps images as [batch, channels, positions]",
)
def transpose_attention_product(m: Match, op: Builder) -> ir.Value:
    """Compute values by weights as weights by values, transposed.

    before:  y = MatMul(v, Transpose(Softmax(s)))
    after:   y = Transpose(MatMul(Softmax(s), Transpose(v)))
    """
    perm = _swapped(m.v.rank or 2)
    return op.Transpose(op.MatMul(m.Softmax.value, op.Transpose(m.v, perm=perm)), perm=perm)
