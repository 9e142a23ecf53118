"""Softmax over an axis that is not the last, written out: ONNX Runtime transposes the whole value and back."""

from __future__ import annotations

from math import prod

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import profitable, structural
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .conv.nchwc import FLOAT32

(x,) = values("x")

_INNER = 1 << 10  # elements after the axis, from which on it pays


def _axis(m: Match) -> int | None:
    rank, axis = m.x.rank, m.Softmax.integer("axis", -1)
    return None if rank is None else axis % rank


def _inner(m: Match) -> int:
    axis, dims = _axis(m), m.x.dims
    if axis is None or dims is None:
        return 0
    inner = [dim for dim in dims[axis + 1 :] if isinstance(dim, int)]
    return prod(inner) if len(inner) == len(dims) - axis - 1 else 0


@rule(
    op.Softmax(x).any_attributes("axis").opset(since=13),
    requires=[
        structural("an axis before the last", lambda m: m.x.rank is None or _axis(m) != m.x.rank - 1),
        FLOAT32,
        profitable("many elements after the axis", lambda m: _inner(m) >= _INNER, lambda m: m.shapes.show(m.x.value)),
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=(
        "Bridle 1990, shifted by the maximum; ONNX Runtime's reductions over an outer axis run along the inner ones: "
        "x2 to x8 from 64x64 elements on, x0.6 with 32"
    ),
)
def decompose_softmax_outer_axis(m: Match, op: Builder) -> ir.Value:
    """The exponentials and their sum, without a transposition.

    before:  x -> Softmax(axis 1) -> y        x: [n, 19, 128, 128]
    after:   e = Exp(x - ReduceMax(x, axis 1));  e / ReduceSum(e, axis 1) -> y
    """
    axis = _axis(m)
    assert axis is not None
    axes = op.constant(np.array([axis], dtype=np.int64))
    # ReduceMax takes its axes as an attribute below opset 18, ReduceSum below 13.
    is_input = (m.root.version or 0) >= 18
    largest = op.ReduceMax(m.x, axes) if is_input else op.ReduceMax(m.x, axes=[axis])
    exponentials = op.Exp(op.Sub(m.x, largest))
    return op.Div(exponentials, op.ReduceSum(exponentials, axes))
