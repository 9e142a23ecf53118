"""Elements that are picked by the same numbers all over the other axes."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .slice_ranges import axis_of

x, numbers, shape = values("x numbers shape")


def _along_one_axis(m: Match) -> bool:
    """Whether what is expanded has elements along the axis of the GatherElements alone."""
    axis, rank, dims = axis_of(m.root, m.shapes), m.x.rank, m.numbers.dims
    if axis is None or rank is None or dims is None or len(dims) > rank:
        return False
    padded = (1,) * (rank - len(dims)) + dims
    return all(size == 1 for place, size in enumerate(padded) if place != axis)


def _whole(m: Match) -> bool:
    axis, given, taken = axis_of(m.root, m.shapes), m.x.dims, m.Expand.dims
    if given is None or taken is None or len(given) != len(taken):
        return False
    return all(a == b for place, (a, b) in enumerate(zip(given, taken, strict=True)) if place != axis)


def _keeps_length(m: Match) -> bool:
    axis, dims, taken = axis_of(m.root, m.shapes), m.numbers.dims, m.Expand.dims
    if axis is None or dims is None or taken is None:
        return False
    place = axis - len(taken) + len(dims)
    return (dims[place] if place >= 0 else 1) == taken[axis]


WHOLE_ROWS = [
    require("numbers along one axis", _along_one_axis, lambda m: m.shapes.show(m.numbers.value)),
    require("expanded along the others alone", _keeps_length, lambda m: m.shapes.show(m.Expand.value)),
    require(
        "every element of the other axes",
        _whole,
        lambda m: f"{m.shapes.show(m.Expand.value)} of {m.shapes.show(m.x.value)}",
    ),
]
"""What makes the rows of x those that Expand(numbers) tells along the axis of the root."""


@rule(
    op.GatherElements(x, op.Expand(numbers, shape).shared()).any_attributes("axis"),
    requires=WHOLE_ROWS,
    source="ONNX GatherElements, Gather; x10 in ONNX Runtime",
)
def gather_elements_to_gather(m: Match, op: Builder) -> ir.Value:
    """Whole rows instead of element by element.

    before:  x[n, c], Expand(numbers[e, 1])[e, c] -> GatherElements(axis 0) -> y[e, c]
    after:   Gather(x, Reshape(numbers, [-1]), axis 0) -> y[e, c]
    """
    return op.Gather(
        m.x, op.Reshape(m.numbers, op.constant(np.array([-1], dtype=np.int64))), axis=axis_of(m.root, m.shapes)
    )
