"""Exchange a scale and a shift before a Conv, so that the scale folds into the weights."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, let
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import UNSHARED, Vector, along, bias_of, inputs_of, rebuild, scaled_inputs

x, w, b, c, d = values("x w b c d")

_AFFINE = op.Add(op.Mul(x, c).any_order() | op.Div(x, c), d).any_order()


def _move_shift(m: Match) -> ir.Array | str:
    """The shift that comes before the scale instead: d / c, or d · c before a division."""
    scale, shift = m.c.array.astype(np.float64), m.d.array.astype(np.float64)
    if not np.all(scale):
        return "c holds zeros"
    moved: ir.Array = (shift * scale if m.has("Div") else shift / scale).astype(m.d.array.dtype)
    if not np.isfinite(moved.astype(np.float64)).all():
        return f"the quotient overflows {m.d.array.dtype}"
    return moved if moved.size <= m.d.array.size else f"c has more elements ({m.c.array.size}) than d"


def _scale_per_input(m: Match) -> Vector | str:
    rank = m.x.rank
    scale = along(m.c.array, rank, 1, inputs_of(m)) if rank is not None else None
    return f"c has dims {list(m.c.array.shape)}" if scale is None else scale


_scale = let("c varies along the input channels alone", _scale_per_input)
_shift = let("a shift that can be divided by the scale", _move_shift)


@rule(
    op.Conv(_AFFINE, w, b.optional()).any_attributes(),
    requires=[constant("w", "b", "c", "d"), finite("w", "b", "c", "d"), _scale, _shift, UNSHARED],
    exactness=Exactness.ROUNDING,
    source="W(cx + d) = (cW)(x + d/c): the shift cannot go into a Conv that pads with zeros, the scale can",
    benefit=-1,
)
def commute_scale_shift(m: Match, op: Builder) -> ir.Value | None:
    """Fold the scale before a Conv into its weights where padding prevents it for the shift.

    before:  y = Conv(Add(Mul(x, %c), %d), %w, %b)        the same for Div
    after:   y = Conv(Add(x, %(d / c)), %(w * c), %b)
    """
    scale = 1.0 / m[_scale] if m.has("Div") else m[_scale]
    return rebuild(m, op, scaled_inputs(m, scale), bias_of(m), data=op.Add(m.x, m[_shift]))
