"""Products of one-hot rows and a constant matrix as Gather."""

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
_SMALL = 1 << 16  # bytes of a matrix that may be stored twice
_LEAST_WORK = 1 << 14  # multiplications; for fewer, ONNX Runtime is as fast or faster
_MOST_ROWS = 1 << 23  # exact in float32
_SOURCE = "ONNX Gather; a byte classifier from JAX, x31 for the operators and x1.17 for the model"


def _rows(m: Match) -> int:
    return int(m.w.array.shape[0]) if m.w.array.ndim == 2 else 0


def _are_within(m: Match, low: int, high: int) -> bool:
    """Whether all indices are proven to lie in [low, high]."""
    bounds = index_bounds(m.ids.value, m.shapes)
    return bounds is not None and low <= bounds[0] and bounds[1] <= high


def _are_in_range(m: Match) -> bool:
    return _are_within(m, -_rows(m), _rows(m) - 1)


def _has_work(m: Match) -> bool:
    """Whether the product is worth the five operators for indices out of range, as far as the dims are known."""
    dims = m.ids.static
    return dims is None or prod(dims) * m.w.array.size >= _LEAST_WORK


def _show_bounds(m: Match) -> str:
    return f"{m.ids.value.name!r} lies in {index_bounds(m.ids.value, m.shapes)}, the matrix has {_rows(m)} rows"


@rule(
    op.MatMul(op.OneHot(ids, depth, pair).any_attributes("axis"), w),
    requires=[
        constant("w", "pair"),
        structural("a matrix", lambda m: not m.w.is_constant or m.w.array.ndim == 2),
        finite("w"),
        require(
            "one 1 and zeros",
            lambda m: m.pair.array.reshape(-1).tolist() == [0, 1],
            lambda m: str(m.pair.array.reshape(-1).tolist()),
        ),
        require(
            "the last axis",
            lambda m: m.OneHot.attribute("axis") in (-1, m.ids.rank),
            lambda m: f"axis {m.OneHot.attribute('axis')} of {m.shapes.show(m.ids.value)}",
        ),
        require("int32 or int64 indices", lambda m: m.ids.dtype in _INDICES, lambda m: str(m.ids.dtype)),
        require(
            "indices that are proven to be in range, or a small matrix",
            lambda m: _are_in_range(m) or (m.w.array.nbytes <= _SMALL and (m.root.version or 0) >= 11),
            _show_bounds,
        ),
        profitable(
            "no five operators for a tiny product",
            lambda m: _are_in_range(m) or _has_work(m),
            lambda m: m.shapes.show(m.ids.value),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source=_SOURCE,
)
def onehot_matmul_to_gather(m: Match, op: Builder) -> ir.Value:
    """Gather rows of a matrix instead of multiplying by one-hot rows; zeros where an index is out of range.

    before:  y = MatMul(OneHot(ids, %4, %[0, 1]), %w)        w: [4, n]
    after:   y = Gather<axis = 0>(%w, ids)
    """
    if _are_in_range(m):
        return op.Gather(m.w, m.ids, axis=0)
    return _gather_or_zeros(np.concatenate([m.w.array] * 2), -_rows(m) - 1, m.ids, op)


def _is_arange_of_rows(m: Match) -> bool:
    """Whether the indices are compared with 0, 1, … up to the number of rows, along an axis of their own."""
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
        require("compared with the index of each row", _is_arange_of_rows, lambda m: m.shapes.show(m.ids.value)),
        profitable(
            "no five operators for a tiny product",
            lambda m: _are_within(m, 0, _rows(m) - 1) or _has_work(m),
            lambda m: m.shapes.show(m.ids.value),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source=_SOURCE,
)
def equal_matmul_to_gather(m: Match, op: Builder) -> ir.Value:
    """Gather rows of a matrix; those before the first and after the last are zeros where an index may be out of range.

    before:  y = MatMul(Cast(Equal(Unsqueeze(ids, %[-1]), %[0, 1, 2, 3])), %w)        w: [4, n]
    after:   y = Gather<axis = 0>(%[0, w, 0], Cast(Add(Clip(Cast(ids), %-1, %4), %1)))
    """
    indices = op.Squeeze(m.ids, axes=[-1])
    if not _are_within(m, 0, _rows(m) - 1):
        return _gather_or_zeros(m.w.array, -1, indices, op)
    if m.ids.dtype in _NARROW:
        indices = op.Cast(indices, to=ir.DataType.INT64.value)
    return op.Gather(m.w, indices, axis=0)


def _gather_or_zeros(rows: ir.Array, below: int, indices: ir.Value | Operand, op: Builder) -> ir.Value:
    """Gather from `rows`, of which the first has index `below + 1`; zeros before and after them."""
    # In float32: ONNX Runtime's Clip is wrong on int64, and there is none of int32 on CUDA.
    floats = op.Cast(indices, to=ir.DataType.FLOAT.value)
    shifted = op.Add(op.Clip(floats, below, below + 1 + len(rows)), -below)
    return op.Gather(np.pad(rows, ((1, 1), (0, 0))), op.Cast(shifted, to=ir.DataType.INT64.value), axis=0)
