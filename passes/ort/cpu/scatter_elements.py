"""Scatter of whole rows, flattened to one axis."""

from __future__ import annotations

from math import prod

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, profitable, require, threshold
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...simplify.shape.gather_elements import WHOLE_ROWS
from ...targets.target_schema import usual
from ...views.slice_ranges import axis_of

x, numbers, shape, updates = values("x numbers shape updates")

_FEWEST = usual("scatter-elements")  # x0.81 to x0.97 with 4 to 8,000
_NARROWEST, _WIDEST = 4, 1 << 14  # the offsets within a row are a constant: 128 KiB at most


def _row(m: Match) -> tuple[int, ...] | str:
    """The dims of a row of x, where they are static and none is 0."""
    row = tuple(dim for dim in (m.x.dims or ())[1:] if isinstance(dim, int) and dim > 0)
    return row if row and len(row) == (m.x.rank or 0) - 1 else m.shapes.show(m.x.value)


ROW = let("rows of static dims", _row)


def _width(m: Match) -> int:
    """The number of elements of a row."""
    row = m[ROW]
    return prod(row)


@rule(
    op.ScatterElements(x, op.Expand(numbers, shape).shared(), updates).any_attributes("axis", "reduction"),
    requires=[
        require(
            "the first axis", lambda m: axis_of(m.root, m.shapes) == 0, lambda m: f"axis {axis_of(m.root, m.shapes)}"
        ),
        *WHOLE_ROWS,
        ROW,
        # int32 might not hold the flat index of an element
        require("indices in int64", lambda m: m.numbers.dtype == ir.DataType.INT64, lambda m: str(m.numbers.dtype)),
        profitable(
            f"rows of {_NARROWEST} to {_WIDEST:,} elements",
            lambda m: _NARROWEST <= _width(m) <= _WIDEST,
            lambda m: m.shapes.show(m.x.value),
        ),
        profitable(
            f"{_FEWEST:,} elements or more, or symbolic dims",
            lambda m: m.updates.static is None or prod(m.updates.static) >= threshold(m, "scatter-elements"),
            lambda m: m.shapes.show(m.updates.value),
        ),
    ],
    source=(
        "ONNX ScatterElements; the same additions in the same order. With the indices' computation, 2,400 updates "
        "in ONNX Runtime 1.32: x1.4 in rows of 8, x1.5 of 64, x2.0 of 256. ScatterND would be x20, but adds to one row "
        "from several threads at once (core/providers/cpu/tensor/scatter_nd.cc)"
    ),
)
def flatten_scatter_elements(m: Match, op: Builder) -> ir.Value:
    """Scatter all elements in one loop, with flat indices by an addition instead of an Expand.

    before:  y = ScatterElements<axis = 0>(x, Expand(i), u)      x: float[n, c], i: int64[e, 1], u: float[e, c]
    after:   f = Reshape(Add(Mul(i, c), [0 … c - 1]), [-1])
             y = Reshape(ScatterElements<axis = 0>(Reshape(x, [-1]), f, Reshape(u, [-1])), [-1, c])
    """
    row, width = m[ROW], _width(m)
    # A negative index counts from the end; so does its product with the width, in elements.
    flat = op.constant([-1])
    first = op.Mul(op.Reshape(m.numbers, [-1, 1]), [width])
    elements = op.Reshape(op.Add(first, [*range(width)]), flat)
    result = op.node(
        "ScatterElements",
        [op.Reshape(m.x, flat), elements, op.Reshape(m.updates, flat)],
        attributes={**m.ScatterElements.attributes, "axis": 0},
    )[0]
    return op.Reshape(result, [-1, *row])
