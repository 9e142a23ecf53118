"""Eliminate the guard against NaN after Softmax where the scores are proven finite."""

from __future__ import annotations

from .... import ir
from ...analyses.float_range import float_range
from ...pipeline.exactness import Exactness
from ...rewriting.constraints import constant
from ...rewriting.match import Condition, Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite

z, zero = values("z zero")


def _assumed_of_products(dtype: ir.DataType) -> float:
    """The magnitude that scores are assumed not to exceed: negligible beside the lowest number, or half the range.

    float16 has no room for a score of -16 beside its lowest number: there, masks and scores share the range.
    """
    return 3e4 if dtype == ir.DataType.FLOAT16 else 1e30


def _infinite(m: Match) -> str | None:
    """Why the scores may hold an infinity; None for sums and selections of products and constants within their type."""
    interval = float_range(m.z.value, m.shapes, _assumed_of_products)
    if interval is None:
        return f"{m.z.name!r} may hold anything"
    return None if interval.is_finite else f"{m.z.name!r} may overflow, or hold an infinity"


softmax = op.Softmax(z).any_attributes().shared()

rewrite(
    "eliminate-softmax-nan-guard",
    "A Softmax of finite scores is never NaN. (NaN in the input of the model becomes visible, which the guard hid.)",
    op.Where(op.IsNaN(softmax), zero, softmax),
    softmax,
    when=[constant("zero"), Condition("scores that are finite, with a mask that is", _infinite)],
    exactness=Exactness.SPECIAL_VALUES,
    source="torch 2.13 exporter, scaled_dot_product_attention; Softmax is NaN where a row has only -inf, +inf, or NaN",
)
