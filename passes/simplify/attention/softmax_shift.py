"""Eliminate the largest element that is subtracted before Softmax."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, axes = values("x axes")


def _reduced(m: Match) -> set[int]:
    """The axes of the largest element, all where none are named; none where they are not known."""
    rank, axes = m.x.rank or 0, ir.parameter(m.ReduceMax.node, "axes")
    known = range(rank) if axes is None else axes.flat if isinstance(axes, np.ndarray) else ()
    return {int(axis) % rank for axis in known if rank}


def _is_of_rows(m: Match) -> bool:
    """Whether one element is subtracted from each row of the Softmax: in its place, or the only one."""
    rank, axis, reduced = m.x.rank, m.Softmax.integer("axis"), _reduced(m)
    is_kept = bool(m.ReduceMax.integer("keepdims")) or len(reduced) == rank
    return rank is not None and axis is not None and is_kept and axis % rank in reduced


largest = op.ReduceMax(x, axes.optional()).any_attributes("axes", "keepdims")


@rule(
    op.Softmax(op.Sub(x, largest)).any_attributes().opset(13),
    requires=[
        require(
            "the largest of whole rows of the Softmax",
            _is_of_rows,
            lambda m: f"axes {sorted(_reduced(m))} of {m.x.rank} dims, Softmax over axis {m.Softmax.integer('axis')}",
        )
    ],
    exactness=Exactness.ROUNDING,
    source="Softmax subtracts it itself (ONNX Softmax, stable); GPT-OSS and GroundingDINO write it out",
)
def eliminate_softmax_shift(m: Match, op: Builder) -> ir.Value:
    """Softmax does not change where one number is subtracted from a whole row.

    before:  y = Softmax(Sub(x, ReduceMax(x, %[-1])))
    after:   y = Softmax(x)
    """
    return op.Softmax(m.x, **m.Softmax.attributes)
