"""Conditions that are turned around need no Not."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.pattern import op, values
from ...rewriting.rule import Builder, Match, rule

condition, yes, no, x, y = values("condition yes no x y")


@rule(
    op.Where(op.Not(condition).shared(), yes, no),
    exactness=Exactness.ROUNDING,
    source="ONNX Where; ONNX Runtime's makes 0.0 of -0.0 in the first branch and keeps it in the second",
    group="simplify",
)
def swap_negated_where(m: Match, op: Builder) -> ir.Value:
    """Choose the other way round instead of turning the condition around.

    before:  condition -> Not -> Where(·, a, b) -> y
    after:   Where(condition, b, a) -> y
    """
    return op.Where(m.condition, m.no, m.yes)
