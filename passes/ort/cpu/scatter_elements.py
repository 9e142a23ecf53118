"""Rows that are added to others, element by element of one long vector."""

from __future__ import annotations

from math import prod

import numpy as np

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...simplify.shape.gather_elements import WHOLE_ROWS
from ...simplify.shape.slice_ranges import axis_of

x, numbers, shape, updates = values("x numbers shape updates")

_FEWEST = 1 << 14  # x0.81 to x0.97 with 4 to 8,000
_NARROWEST, _WIDEST = 4, 1 << 14  # the numbers within a row are a constant: 128 KiB at most


def _row(m: Match) -> list[int] | None:
    """The dims of a row of x, where they are known and none is 0."""
    row = [dim for dim in (m.x.dims or ())[1:] if isinstance(dim, int) and dim > 0]
    return row if row and len(row) == (m.x.rank or 0) - 1 else None


@rule(
    op.ScatterElements(x, op.Expand(numbers, shape).shared(), updates).any_attributes("axis", "reduction"),
    requires=[
        require("along the first axis", lambda m: axis_of(m.root, m.shapes) == 0),
        *WHOLE_ROWS,
        require("rows of known dims", lambda m: _row(m) is not None, lambda m: m.shapes.show(m.x.value)),
        # 32 bits might not hold the number of an element
        require("numbers of 64 bits", lambda m: m.numbers.dtype == ir.DataType.INT64, lambda m: str(m.numbers.dtype)),
        profitable(
            f"rows of {_NARROWEST} to {_WIDEST:,} elements",
            lambda m: _NARROWEST <= prod(_row(m) or ()) <= _WIDEST,
            lambda m: m.shapes.show(m.x.value),
        ),
        profitable(
            f"{_FEWEST:,} elements or more, or an unknown number",
            lambda m: m.updates.static is None or prod(m.updates.static) >= _FEWEST,
            lambda m: m.shapes.show(m.updates.value),
        ),
    ],
    is_heuristic=True,
    source=(
        "ONNX ScatterElements; the same additions in the same order. With what makes the numbers, of 2,400 updates in "
        "ONNX Runtime 1.32: x1.4 in rows of 8, x1.5 of 64, x2.0 of 256. ScatterND would be x20, but adds to one row "
        "from several threads at once (core/providers/cpu/tensor/scatter_nd.cc)"
    ),
)
def flatten_scatter_elements(m: Match, op: Builder) -> ir.Value:
    """One loop over all elements, whose numbers are made by an addition instead of an Expand.

    before:  x[n, c], Expand(numbers[e, 1])[e, c], updates[e, c] -> ScatterElements(axis 0) -> y[n, c]
    after:   Reshape(x, [-1]), Reshape(numbers * c + [0 … c - 1], [-1]), Reshape(updates, [-1]) -> ScatterElements
             -> Reshape([-1, c]) -> y
    """
    row = _row(m)
    assert row is not None
    width = prod(row)

    def numbered(*content: int) -> ir.Value:
        return op.constant(np.array(content, dtype=np.int64))

    flat = numbered(-1)
    # A negative number counts from the end; so does its product with the width, in elements.
    first = op.Mul(op.Reshape(m.numbers, numbered(-1, 1)), numbered(width))
    elements = op.Reshape(op.Add(first, numbered(*range(width))), flat)
    result = op.node(
        "ScatterElements",
        [op.Reshape(m.x, flat), elements, op.Reshape(m.updates, flat)],
        attributes={**m.ScatterElements.attributes, "axis": 0},
    )[0]
    return op.Reshape(result, numbered(-1, *row))
