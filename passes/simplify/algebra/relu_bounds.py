"""Minima and maxima written with Relu."""

from __future__ import annotations

from ...pipeline.exactness import Exactness
from ...rewriting.constraints import floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite

x, y, again = values("x y again")


def _is_same(m: Match) -> bool:
    """Whether both are one value, or constants of the same content."""
    if m.x.value is m.again.value:
        return True
    if not (m.x.is_constant and m.again.is_constant) or m.x.dtype != m.again.dtype:
        return False
    one, two = m.x.array, m.again.array
    return one.shape == two.shape and one.tobytes() == two.tobytes()


_SAME = require("the same value twice", _is_same, lambda m: f"{m.x.value.name} and {m.again.value.name}")
_SOURCE = (
    "x - max(x - y, 0) = min(x, y), y + max(x - y, 0) = max(x, y); without the rounding of the difference, and without "
    "the NaN of infinity - infinity"
)

rewrite(
    "sub-relu-to-min",
    "The smaller of two values, as one less what it exceeds the other by: `high - Relu(high - x)`.",
    op.Sub(x, op.Relu(op.Sub(again, y).named("difference"))),
    op.Min(x, y),
    when=[floating("x"), _SAME],
    exactness=Exactness.SPECIAL_VALUES,
    source=_SOURCE,
)

rewrite(
    "add-relu-to-max",
    "The larger of two values, as one plus what the other exceeds it by: `low + Relu(x - low)`.",
    op.Add(x, op.Relu(op.Sub(y, again))).any_order(),
    op.Max(x, y),
    when=[floating("x"), _SAME],
    exactness=Exactness.SPECIAL_VALUES,
    source=_SOURCE,
)
