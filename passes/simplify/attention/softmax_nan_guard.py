"""The guard against rows of NaN after Softmax goes where the scores are finite and no mask holds an infinity."""

from __future__ import annotations

from .... import ir
from ...analyses.float_range import float_range
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

z, zero = values("z zero")


def _assumed_of_products(dtype: ir.DataType) -> float:
    """The magnitude of scores that is taken for granted: one that is lost beside the lowest number, or half the range.

    float16 has no room for a score of -16 beside its lowest number: there, masks and scores share the range.
    """
    return 3e4 if dtype == ir.DataType.FLOAT16 else 1e30


def _infinite(m: Match) -> str | None:
    """Why the scores may hold an infinity; None for sums and choices of products and constants within their type."""
    found = float_range(m.z.value, m.shapes, _assumed_of_products)
    if found is None:
        return f"{m.z.name!r} may hold anything"
    return None if found.is_finite else f"{m.z.name!r} may overflow, or hold an infinity"


@rule(
    op.Where(
        op.IsNaN(op.Softmax(z).any_attributes().shared()),
        zero,
        op.Softmax(z).any_attributes().shared(),
    ),
    requires=[
        constant("zero"),
        require(
            "scores that are finite, with a mask that is", lambda m: _infinite(m) is None, lambda m: str(_infinite(m))
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="torch 2.13 exporter, scaled_dot_product_attention; Softmax is NaN where a row has only -inf, +inf, or NaN",
)
def eliminate_softmax_nan_guard(m: Match, op: Builder) -> ir.Value:
    """A Softmax of finite scores is never NaN. (A model that is fed NaN sees it, where the guard hid it.)

    before:  Softmax(z) -> IsNaN -> Where(·, 0, Softmax(z)) -> y        z = MatMul(q, k) + Where(mask, 0, -3.4e38)
    after:   Softmax(z) -> y
    """
    return m.Softmax.value
