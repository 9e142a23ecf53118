"""Powers with small constant exponents as products and roots."""

from __future__ import annotations

from ...pipeline.exactness import Exactness
from ...rewriting.constraints import constant, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite

x, a, b, c = values("x a b c")

_SQUARES = op.Add(op.Mul(a, a).shared().named("one"), op.Mul(b, b).shared().named("other")).shared().named("sum")
_ROOT = op.Sqrt(_SQUARES).named("root")
_RANK = require(
    "an exponent of no higher rank than x",
    lambda m: m.c.array.ndim <= (-1 if m.x.rank is None else m.x.rank),
    lambda m: f"{list(m.c.array.shape)} against {m.shapes.show(m.x.value)}",
)


def _feeds_mean(m: Match) -> bool:
    return any(user.op_type in ("ReduceMean", "ReduceSum") for user in m.root.outputs[0].consumers())


rewrite(
    "pow2-to-mul",
    "A square is one product.",
    op.Pow(x, c),
    op.Mul(x, x),
    when=[
        constant("c"),
        floating("x"),
        require("an exponent of 2", lambda m: m.c.scalar == 2, lambda m: f"{m.c.scalar}"),
        _RANK,
        require("no mean of the result", lambda m: not _feeds_mean(m), lambda m: "ReduceMean or ReduceSum uses it"),
    ],
    source=(
        "ONNX Pow; ONNX Runtime squares exactly so (core/providers/cpu/math/element_wise_ops.cc), but its fusions of "
        "LayerNormalization look for the Pow before a ReduceMean"
    ),
)

rewrite(
    "pow-half-to-sqrt",
    "The power of one half is the square root.",
    op.Pow(x, c),
    op.Sqrt(x),
    when=[
        constant("c"),
        floating("x"),
        require("an exponent of one half", lambda m: m.c.scalar == 0.5, lambda m: f"{m.c.scalar}"),
        _RANK,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Pow, Sqrt: they differ at -inf and -0.0",
)

rewrite(
    "cancel-sqrt-square",
    "The square of the root of a sum of squares is the sum.",
    op.Mul(_ROOT, _ROOT) | op.Pow(_ROOT, c),
    _SQUARES,
    when=[
        constant("c"),
        require(
            "an exponent of 2, of no higher rank than the sum",
            lambda m: m.has("Mul") or (m.c.scalar == 2 and m.c.array.ndim <= (m.sum.rank or 0)),
            lambda m: f"{m.c.scalar} with dims {list(m.c.array.shape)}",
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="√s·√s = s where s is a sum of squares, and so not negative",
)
