"""Add terms in another layout of the scores among themselves first."""

from __future__ import annotations

from .... import ir
from ....ir.shapes.elementwise import broadcast_dims
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

scores, inner, outer, first, second = values("scores inner outer first second")


def _covers(m: Match) -> bool:
    """Whether the sum of both terms has the dims of the reshaped scores."""
    sum_, a, b = m.sum.dims, m.first.dims, m.second.dims
    return None not in (sum_, a, b) and broadcast_dims(a or (), b or ()) == sum_


@rule(
    op.Reshape(
        op.Add(
            op.Add(op.Reshape(scores, inner).any_attributes().named("reshaped"), first).any_order().named("partial"),
            second,
        )
        .any_order()
        .named("sum"),
        outer,
    ).any_attributes(),
    requires=[
        require(
            "the dims of the scores in the end, too",
            lambda m: m.scores.dims is not None and m.scores.dims == m.Reshape.dims,
            lambda m: f"{m.shapes.show(m.scores.value)} and {m.shapes.show(m.root.outputs[0])}",
        ),
        require(
            "terms that broadcast to the scores together",
            _covers,
            lambda m: ", ".join(m.shapes.show(value) for value in (m.first.value, m.second.value)),
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "(s + a) + b = s + (a + b), whose sums overflow elsewhere; ViTDet and MViT add a term for rows and one for "
        "columns of an image"
    ),
)
def propagate_reshape_over_terms(m: Match, op: Builder) -> ir.Value:
    """Add two terms first, and reshape their sum instead of what they are added to.

    before:  y = Reshape(Add(Add(Reshape(s, inner), a), b), outer)        s and y of the same dims
    after:   y = Add(s, Reshape(Add(a, b), outer))
    """
    return op.Add(m.scores, op.Reshape(op.Add(m.first, m.second), m.outer, **m.Reshape.attributes))
