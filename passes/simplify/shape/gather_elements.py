"""GatherElements with indices that are expanded along the other axes, as Gather."""

from __future__ import annotations

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...views.slice_ranges import axis_of

x, numbers, shape = values("x numbers shape")


def _varies_along_one_axis(m: Match) -> bool:
    """Whether the indices, before the Expand, have size 1 along all other axes than that of the root."""
    axis, rank, dims = axis_of(m.root, m.shapes), m.x.rank, m.numbers.dims
    if axis is None or rank is None or dims is None or len(dims) > rank:
        return False
    padded = (1,) * (rank - len(dims)) + dims
    return all(size == 1 for at, size in enumerate(padded) if at != axis)


def _covers_other_axes(m: Match) -> bool:
    axis, data, expanded = axis_of(m.root, m.shapes), m.x.dims, m.Expand.dims
    if data is None or expanded is None or len(data) != len(expanded):
        return False
    return all(a == b for at, (a, b) in enumerate(zip(data, expanded, strict=True)) if at != axis)


def _keeps_length(m: Match) -> bool:
    axis, dims, expanded = axis_of(m.root, m.shapes), m.numbers.dims, m.Expand.dims
    if axis is None or dims is None or expanded is None:
        return False
    at = axis - len(expanded) + len(dims)
    return (dims[at] if at >= 0 else 1) == expanded[axis]


WHOLE_ROWS = [
    require("indices that vary along one axis", _varies_along_one_axis, lambda m: m.shapes.show(m.numbers.value)),
    require("expanded along the other axes alone", _keeps_length, lambda m: m.shapes.show(m.Expand.value)),
    require(
        "every element of the other axes",
        _covers_other_axes,
        lambda m: f"{m.shapes.show(m.Expand.value)} of {m.shapes.show(m.x.value)}",
    ),
]
"""The conditions under which Expand(numbers) indexes whole rows of x along the axis of the root."""


@rule(
    op.GatherElements(x, op.Expand(numbers, shape).shared()).any_attributes("axis"),
    requires=WHOLE_ROWS,
    source="ONNX GatherElements, Gather; x10 in ONNX Runtime",
)
def gather_elements_to_gather(m: Match, op: Builder) -> ir.Value:
    """Gather whole rows instead of single elements.

    before:  y = GatherElements<axis = 0>(x, Expand(numbers, %[e, c]))        x: [n, c], numbers: [e, 1]
    after:   y = Gather<axis = 0>(x, Reshape(numbers, %[-1]))
    """
    indices = op.Reshape(m.numbers, [-1])
    return op.Gather(m.x, indices, axis=axis_of(m.root, m.shapes))
