"""MatMuls with constant matrices: chains, and products of one value that are added."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ..weights.linear_ops import UNSHARED, Vector, round_weight

x, w, a, b, bias = values("x w a b bias")

BASE = op.MatMul(x, w).named("base")
BASE_OR_BIASED = BASE | op.Add(BASE, bias).any_order().named("biased")
"""A MatMul by a constant, and one with a bias, to which a second product of `x` is added."""


def _bound_matrices(m: Match) -> list[ir.Array]:
    return [m[name].array for name in (w, a, b) if m.has(name.name)]


MATRICES = require(
    "matrices",
    lambda m: all(matrix.ndim == 2 for matrix in _bound_matrices(m)),
    lambda m: ", ".join(str(list(matrix.shape)) for matrix in _bound_matrices(m)),
)
"""The constants of the pattern, by the names w, a and b, have rank 2."""


def with_weight(m: Match, op: Builder, weight: Vector) -> ir.Value | None:
    """`x` times another weight, and the bias where there is one; None where the type of `w` cannot hold it."""
    rounded = round_weight(weight, m[w].array.dtype)
    if rounded is None:
        return None
    product = op.MatMul(m[x], rounded)
    return op.Add(product, m[bias]) if m.has("bias") else product


@rule(
    op.MatMul(op.MatMul(x, a).named("inner"), b),
    requires=[
        constant("a", "b"),
        floating("a"),
        finite("a", "b"),
        MATRICES,
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
    """Multiply the constants at compile time.

    before:  y = MatMul(MatMul(x, %a), %b)
    after:   y = MatMul(x, %(a·b))
    """
    product = round_weight(m.a.array.astype(np.float64) @ m.b.array.astype(np.float64), m.a.array.dtype)
    return op.MatMul(m.x, product) if product is not None else None


@rule(
    op.Add(BASE_OR_BIASED, op.MatMul(x, a).named("other")).any_order(),
    requires=[
        constant("w", "a", "bias"),
        floating("w"),
        finite("w", "a"),
        MATRICES,
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

    before:  y = Add(MatMul(x, %w), MatMul(x, %a))        or with a bias in between
    after:   y = MatMul(x, %(w + a))
    """
    return with_weight(m, op, m.w.array.astype(np.float64) + m.a.array.astype(np.float64))
