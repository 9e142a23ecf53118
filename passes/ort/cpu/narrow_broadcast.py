"""Products that broadcast along a narrow last axis: ONNX Runtime restarts its inner loop every few elements."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, profitable, require, threshold
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite, rule
from ...targets.target_schema import usual
from .conv.nchwc import known_elements

x, thin = values("x thin")

_WIDEST_PRODUCT = usual("outer-product-width")
_WIDEST_COPY = 4
_SHORTEST_COLUMN = 32  # at 16 the product of each pair costs as much as 16 inner loops, at 2 five times as much

_FLOAT32 = require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))
_COMPUTED = require(
    "no constant operand",
    lambda m: not m.x.is_constant and not m.thin.is_constant,
    lambda m: f"{(m.x if m.x.is_constant else m.thin).value.name!r} is constant",
)


def _show(m: Match) -> str:
    return f"{m.shapes.show(m.thin.value)} and {m.shapes.show(m.x.value)}"


def _width(m: Match, most: float) -> int | str:
    size = (m.x.dims or (None,))[-1]
    return size if isinstance(size, int) and 2 <= size <= most else _show(m)


COPIES = let(f"a last axis of 2 to {_WIDEST_COPY}", lambda m: _width(m, _WIDEST_COPY))
"""The elements of each row: a limit of legality, too, since the Concat has as many inputs."""


def _is_outer_product(m: Match) -> bool:
    """[…, n, 1] times […, 1, few]."""
    column, row = m.thin.dims, m.x.dims
    if column is None or row is None or len(column) != len(row) or len(row) < 2:
        return False
    return column[:-2] == row[:-2] and column[-1] == 1 and row[-2] == 1


def _is_long(m: Match) -> bool:
    *batch, size, _ = m.thin.dims or (0, 0)
    return all(dim == 1 for dim in batch) or (isinstance(size, int) and size >= _SHORTEST_COLUMN)


def _is_one_for_each_row(m: Match) -> bool:
    """[…, n, 1] times […, n, few]."""
    column, rows = m.thin.dims, m.x.dims
    if not column or not rows or len(rows) < 2:
        return False
    return column[:-1] == rows[:-1] and column[-1] == 1


rewrite(
    "outer-product-to-matmul",
    "Compute an outer product as a matrix product.",
    op.Mul(thin, x).any_order(),
    op.MatMul(thin, x),
    when=[
        _FLOAT32,
        require("a column and a row", _is_outer_product, _show),
        profitable(
            f"a last axis of 2 to {_WIDEST_PRODUCT}",
            lambda m: isinstance(_width(m, threshold(m, "outer-product-width")), int),
            _show,
        ),
        profitable(f"one product, or columns of {_SHORTEST_COLUMN} or more", _is_long, _show),
        _COMPUTED,
    ],
    exactness=Exactness.ROUNDING,
    source="equal except that -0.0 becomes 0.0; x5.4 at [2000, 128, 3], x2.1 at [2000, 128, 32], x2.0 at [200, 32, 3]",
)


@rule(
    op.Mul(thin, x).any_order(),
    requires=[
        _FLOAT32,
        require("one factor for each row", _is_one_for_each_row, _show),
        COPIES,
        profitable("256 elements or more", lambda m: known_elements(m) >= 1 << 8, _show),
        _COMPUTED,
    ],
    source="x4.5 at [2000, 128, 3], x2.9 at [2000, 128, 4], x1.3 at [20, 16, 3]; from 8 on a loss",
)
def materialize_narrow_broadcast(m: Match, op: Builder) -> ir.Value:
    """Materialize the factor of each narrow row for each of its elements, so that the product is one loop.

    before:  y = Mul(g, v)      g: float[e, c, 1], v: float[e, c, 3]
    after:   y = Mul(Concat(g, g, g), v)
    """
    return op.Mul(op.Concat(*[m.thin] * m[COPIES], axis=len(m.x.dims or ()) - 1), m.x)
