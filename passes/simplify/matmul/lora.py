"""Low-rank adapters (LoRA) beside a constant weight."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ..weights.linear_ops import UNSHARED, Vector
from .matmul_constants import BASE_OR_BIASED, MATRICES, with_weight

x, a, b, s = values("x a b s")

_ADAPTER = op.MatMul(op.MatMul(x, a).named("down"), b).named("up")
_SCALED = (
    _ADAPTER
    | op.Mul(_ADAPTER, s).any_order().named("scaled")
    | op.MatMul(op.Mul(op.MatMul(x, a).named("down"), s).any_order().named("scaled"), b).named("up")
)


@rule(
    op.Add(BASE_OR_BIASED, _SCALED).any_order(),
    requires=[
        constant("w", "a", "b", "s", "bias"),
        floating("w"),
        finite("w", "a", "b", "s"),
        MATRICES,
        require(
            "one scale",
            lambda m: not m.has("s") or (m.s.array.size == 1 and m.s.array.ndim <= (m.x.rank or 0)),
            lambda m: f"{list(m.s.array.shape)} on {m.shapes.show(m.x.value)}",
        ),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="Hu et al. 2021, LoRA, section 4.1: the adapter is merged for inference (arXiv:2106.09685)",
    benefit=1,
)
def merge_lora(m: Match, op: Builder) -> ir.Value | None:
    """Add the adapter to the weight.

    before:  y = Add(MatMul(x, %w), Mul(MatMul(MatMul(x, %a), %b), %s))        or with a bias in between
    after:   y = MatMul(x, %(w + s·a·b))
    """
    adapter: Vector = m.a.array.astype(np.float64) @ m.b.array.astype(np.float64)
    if m.has("s"):
        adapter = adapter * m.s.array.astype(np.float64).reshape(())
    return with_weight(m, op, m.w.array.astype(np.float64) + adapter)
