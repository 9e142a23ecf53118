"""A matrix from which one row is picked for each index, by a product with rows of one 1 and zeros."""

from __future__ import annotations

from math import prod

import numpy as np

from .... import ir
from ...analyses.integer_range import index_bounds
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, profitable, require, structural
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ..weights.linear_ops import UNSHARED

ids, depth, pair, numbers, w = values("ids depth pair numbers w")

_INDICES = frozenset({ir.DataType.INT32, ir.DataType.INT64})
_NARROW = frozenset({ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16})
_SMALL = 1 << 16  # bytes that may be stored twice
_LEAST_WORK = 1 << 14  # multiplications; for fewer, ONNX Runtime is as fast or faster
_MOST_ROWS = 1 << 23  # float32 counts as far
_SOURCE = "ONNX Gather; a byte classifier from JAX, x31 for the operators and x1.17 for the model"


def _rows(m: Match) -> int:
    return int(m.w.array.shape[0]) if m.w.array.ndim == 2 else 0


def _lie_within(m: Match, low: int, high: int) -> bool:
    found = index_bounds(m.ids.value, m.shapes)
    return found is not None and low <= found[0] and found[1] <= high


def _has_rows(m: Match) -> bool:
    return _lie_within(m, -_rows(m), _rows(m) - 1)


def _has_work(m: Match) -> bool:
    """Whether the product is worth the five operators where an index may have no row, as far as that is known."""
    count = m.ids.static
    return count is None or prod(count) * m.w.array.size >= _LEAST_WORK


def _show_bounds(m: Match) -> str:
    return f"{m.ids.value.name!r} lies in {index_bounds(m.ids.value, m.shapes)}, the matrix has {_rows(m)} rows"


@rule(
    op.MatMul(op.OneHot(ids, depth, pair).any_attributes("axis"), w),
    requires=[
        constant("w", "pair"),
        structural("a matrix", lambda m: not m.w.is_constant or m.w.array.ndim == 2),
        finite("w"),
        require("one 1 and zeros", lambda m: m.pair.array.reshape(-1).tolist() == [0, 1]),
        require("an axis that comes last", lambda m: m.OneHot.attribute("axis") in (-1, m.ids.rank)),
        require("int32 or int64 indices", lambda m: m.ids.dtype in _INDICES, lambda m: str(m.ids.dtype)),
        require(
            "indices that are proven to have a row, or a small matrix",
            lambda m: _has_rows(m) or (m.w.array.nbytes <= _SMALL and (m.root.version or 0) >= 11),
            _show_bounds,
        ),
        profitable(
            "no five operators for a tiny product",
            lambda m: _has_rows(m) or _has_work(m),
            lambda m: m.shapes.show(m.ids.value),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source=_SOURCE,
)
def onehot_matmul_to_gather(m: Match, op: Builder) -> ir.Value:
    """Rows of a matrix by their numbers, negative ones from the end; zeros where an index may have no row.

    before:  ids -> OneHot(4, [0, 1]) -> MatMul(·, w[4, n]) -> y
    after:   Gather(w, ids) -> y
    """
    if _has_rows(m):
        return op.Gather(m.w, m.ids, axis=0)
    return _gather_or_zeros(np.concatenate([m.w.array] * 2), -_rows(m) - 1, m.ids, op)


def _counts_up(m: Match) -> bool:
    """Whether the numbers that the indices are compared with are those of the rows, along an axis of their own."""
    content, dims = m.numbers.array, m.ids.dims
    if not dims or dims[-1] != 1 or not content.ndim or content.ndim > len(dims) or content.size != content.shape[-1]:
        return False
    return content.size == _rows(m) <= _MOST_ROWS and bool(np.array_equal(content.reshape(-1), np.arange(content.size)))


@rule(
    op.MatMul(op.Cast(op.Equal(ids, numbers).any_order()).any_attributes(), w).opset(since=13),
    requires=[
        constant("w", "numbers"),
        structural("a matrix", lambda m: not m.w.is_constant or m.w.array.ndim == 2),
        finite("w"),
        UNSHARED,
        require("integers", lambda m: m.ids.dtype in _INDICES | _NARROW, lambda m: str(m.ids.dtype)),
        require("compared with the number of each row", _counts_up, lambda m: m.shapes.show(m.ids.value)),
        profitable(
            "no five operators for a tiny product",
            lambda m: _lie_within(m, 0, _rows(m) - 1) or _has_work(m),
            lambda m: m.shapes.show(m.ids.value),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source=_SOURCE,
)
def equal_matmul_to_gather(m: Match, op: Builder) -> ir.Value:
    """Rows of a matrix by their numbers; where an index may have no row, zeros before the first and after the last.

    before:  ids -> Unsqueeze(-1) -> Equal(·, [0, 1, 2, 3]) -> Cast -> MatMul(·, w[4, n]) -> y
    after:   ids -> Cast -> Clip(-1, 4) -> Add(1) -> Cast -> Gather([0, w, 0], ·) -> y
    """
    indices = op.Squeeze(m.ids, op.constant(np.array([-1], dtype=np.int64)))
    if not _lie_within(m, 0, _rows(m) - 1):
        return _gather_or_zeros(m.w.array, -1, indices, op)
    if m.ids.dtype in _NARROW:
        indices = op.Cast(indices, to=ir.DataType.INT64.value)
    return op.Gather(m.w, indices, axis=0)


def _gather_or_zeros(rows: ir.Array, below: int, indices: ir.Value | Operand, op: Builder) -> ir.Value:
    """`rows`, of which the first has the number `below + 1`, and zeros before and after them."""
    numbers = op.Cast(
        indices, to=ir.DataType.FLOAT.value
    )  # ONNX Runtime's Clip is wrong on int64, none on CUDA of int32
    least, most, shift = (np.asarray(each, dtype=np.float32) for each in (below, below + 1 + len(rows), -below))
    places = op.Add(op.Clip(numbers, op.constant(least), op.constant(most)), op.constant(shift))
    padded = op.constant(np.pad(rows, ((1, 1), (0, 0))))
    return op.Gather(padded, op.Cast(places, to=ir.DataType.INT64.value), axis=0)
