"""Of a scale and a shift before an operator with weights, the scale goes where the weights can take it."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import UNSHARED, along, inputs_of, rebuild, scaled_inputs

x, w, b, c, d = values("x w b c d")

_AFFINE = op.Add(op.Mul(x, c).any_order() | op.Div(x, c), d).any_order()


def _shift(m: Match) -> ir.Array | None:
    """The shift that comes before the scale instead: d / c, or d · c before a division."""
    scale, shift = m.c.array.astype(np.float64), m.d.array.astype(np.float64)
    if not np.all(scale):
        return None
    moved: ir.Array = (shift * scale if m.has("Div") else shift / scale).astype(m.d.array.dtype)
    return moved if np.isfinite(moved.astype(np.float64)).all() and moved.size <= m.d.array.size else None


def _per_input(m: Match) -> bool:
    rank = m.x.rank
    return rank is not None and along(m.c.array, rank, 1, inputs_of(m)) is not None


@rule(
    op.Conv(_AFFINE, w, b.optional()).any_attributes(),
    requires=[
        constant("w", "b", "c", "d"),
        finite("w", "b", "c", "d"),
        require("c varies along the input channels alone", _per_input, lambda m: f"c has dims {list(m.c.array.shape)}"),
        require("a shift that can be divided by the scale", lambda m: _shift(m) is not None),
        UNSHARED,
    ],
    exactness=Exactness.ROUNDING,
    source="W(cx + d) = (cW)(x + d/c): the shift cannot go into a Conv that pads with zeros, the scale can",
    benefit=-1,
)
def commute_scale_shift(m: Match, op: Builder) -> ir.Value | None:
    """Take the scale of an affine step into the weights that read it, also where padding keeps the shift out.

    before:  x -> Mul(c) -> Add(d) -> Conv(w, b) -> y        the same for Div
    after:   x -> Add(d / c) -> Conv(w * c, b) -> y
    """
    rank, shift = m.x.rank, _shift(m)
    assert rank is not None and shift is not None
    scale = along(m.c.array, rank, 1, inputs_of(m))
    assert scale is not None
    moved = op.Add(m.x, op.constant(shift))
    bias = m.b.array.astype(np.float64) if m.has("b") else None
    return rebuild(m, op, scaled_inputs(m, 1.0 / scale if m.has("Div") else scale), bias, data=moved)
