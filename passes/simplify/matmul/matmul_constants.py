"""Products with constant matrices: chains, and low-rank adapters beside a weight."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ..weights.linear_ops import UNSHARED, Vector, carries

x, w, a, b, s, bias = values("x w a b s bias")

_MATRICES = require(
    "matrices",
    lambda m: all(getattr(m, name).array.ndim == 2 for name in ("w", "a", "b") if m.has(name)),
)


def _rounded(m: Match, exact: Vector, like: str) -> ir.Array | None:
    with np.errstate(over="ignore"):
        rounded = exact.astype(getattr(m, like).array.dtype)
    return rounded if carries(rounded, exact) else None


def _with_weight(m: Match, op: Builder, exact: Vector) -> ir.Value | None:
    """X times a weight, and the bias where there is one; None where the weight's type does not carry it."""
    weight = _rounded(m, exact, "w")
    if weight is None:
        return None
    product = op.MatMul(m.x, op.constant(weight))
    return op.Add(product, m.bias) if m.has("bias") else product


def _product(m: Match) -> Vector:
    left, right = (getattr(m, name).array.astype(np.float64) for name in ("a", "b"))
    product: Vector = left @ right
    return product * m.s.array.astype(np.float64).reshape(()) if m.has("s") else product


@rule(
    op.MatMul(op.MatMul(x, a).named("inner"), b),
    requires=[
        constant("a", "b"),
        floating("a"),
        finite("a", "b"),
        _MATRICES,
        require(
            "a product that is not larger than its factors",
            lambda m: m.a.array.shape[0] * m.b.array.shape[1] <= m.a.array.size + m.b.array.size,
            lambda m: f"{list(m.a.array.shape)} times {list(m.b.array.shape)}",
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="(xA)B = x(AB)",
)
def reassociate_constant_matmuls(m: Match, op: Builder) -> ir.Value | None:
    """Multiply the constants once.

    before:  x -> MatMul(a) -> MatMul(b) -> y
    after:   x -> MatMul(a·b) -> y
    """
    product = _rounded(m, _product(m), "a")
    return op.MatMul(m.x, op.constant(product)) if product is not None else None


_BASE = op.MatMul(x, w).named("base")
_BASE_OR_BIASED = _BASE | op.Add(_BASE, bias).any_order().named("biased")
_ADAPTER = op.MatMul(op.MatMul(x, a).named("down"), b).named("up")
_SCALED = (
    _ADAPTER
    | op.Mul(_ADAPTER, s).any_order().named("scaled")
    | op.MatMul(op.Mul(op.MatMul(x, a).named("down"), s).any_order().named("scaled"), b).named("up")
)


@rule(
    op.Add(_BASE_OR_BIASED, _SCALED).any_order(),
    requires=[
        constant("w", "a", "b", "s", "bias"),
        floating("w"),
        finite("w", "a", "b", "s"),
        _MATRICES,
        require("one scale", lambda m: not m.has("s") or (m.s.array.size == 1 and m.s.array.ndim <= (m.x.rank or 0))),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="Hu et al. 2021, LoRA, section 4.1: the adapter is merged for inference (arXiv:2106.09685)",
    benefit=1,
)
def merge_lora(m: Match, op: Builder) -> ir.Value | None:
    """Add the adapter to the weight.

    before:  Add(MatMul(x, w), MatMul(MatMul(x, a), b) * s) -> y        or with a bias in between
    after:   MatMul(x, w + s * a·b) -> y
    """
    return _with_weight(m, op, m.w.array.astype(np.float64) + _product(m))


@rule(
    op.Add(_BASE_OR_BIASED, op.MatMul(x, a).named("other")).any_order(),
    requires=[
        constant("w", "a", "bias"),
        floating("w"),
        finite("w", "a"),
        _MATRICES,
        require(
            "weights of the same dims",
            lambda m: m.w.array.shape == m.a.array.shape,
            lambda m: f"{list(m.w.array.shape)} and {list(m.a.array.shape)}",
        ),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="xA + xB = x(A + B)",
)
def merge_parallel_matmuls(m: Match, op: Builder) -> ir.Value | None:
    """Add the weights of two products of one value.

    before:  y = Add(MatMul(x, w), MatMul(x, a))        or with a bias in between
    after:   y = MatMul(x, w + a)
    """
    return _with_weight(m, op, m.w.array.astype(np.float64) + m.a.array.astype(np.float64))
