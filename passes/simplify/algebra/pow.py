"""Powers with small constant exponents are products and roots."""

from __future__ import annotations

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, a, b, c = values("x a b c")

_SQUARES = op.Add(op.Mul(a, a).shared().named("one"), op.Mul(b, b).shared().named("other")).shared().named("sum")
_ROOT = op.Sqrt(_SQUARES).named("root")
_SCALAR = require(
    "an exponent of no higher rank than x", lambda m: m.c.array.ndim <= (-1 if m.x.rank is None else m.x.rank)
)


def _feeds_mean(m: Match) -> bool:
    return any(reader.op_type in ("ReduceMean", "ReduceSum") for reader in m.root.outputs[0].consumers())


@rule(
    op.Pow(x, c),
    requires=[
        constant("c"),
        floating("x"),
        require("the exponent is 2", lambda m: m.c.scalar == 2),
        _SCALAR,
        require("no mean that reads the result", lambda m: not _feeds_mean(m)),
    ],
    source=(
        "ONNX Pow; ONNX Runtime squares exactly so (core/providers/cpu/math/element_wise_ops.cc), but its fusions of "
        "LayerNormalization look for the Pow before a ReduceMean"
    ),
)
def pow2_to_mul(m: Match, op: Builder) -> ir.Value:
    """A square is one product.

    before:  x -> Pow(2) -> y
    after:   Mul(x, x) -> y
    """
    return op.Mul(m.x, m.x)


@rule(
    op.Pow(x, c),
    requires=[
        constant("c"),
        floating("x"),
        require("the exponent is one half", lambda m: m.c.scalar == 0.5),
        _SCALAR,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Pow, Sqrt: they differ at -inf and -0.0",
)
def pow_half_to_sqrt(m: Match, op: Builder) -> ir.Value:
    """The power of one half is the square root.

    before:  x -> Pow(0.5) -> y
    after:   x -> Sqrt -> y
    """
    return op.Sqrt(m.x)


@rule(
    op.Mul(_ROOT, _ROOT) | op.Pow(_ROOT, c),
    requires=[
        constant("c"),
        require("the square", lambda m: m.has("Mul") or (m.c.scalar == 2 and m.c.array.ndim <= (m.sum.rank or 0))),
    ],
    exactness=Exactness.ROUNDING,
    source="√s·√s = s where s is a sum of squares, and so not negative",
)
def cancel_sqrt_square(m: Match, op: Builder) -> ir.Value:
    """The square of a magnitude needs no root.

    before:  Mul(a, a) + Mul(b, b) -> Sqrt -> Mul(r, r) -> y        the same for Pow(2)
    after:   Mul(a, a) + Mul(b, b) -> y
    """
    return m.sum.value
