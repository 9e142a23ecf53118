"""Rules that are wrong on purpose, one for each way in which a rule goes wrong. A plugin: `--plugin wrong_rules`.

All but the one they are tried with are left out with `--disable`.
"""

from __future__ import annotations

import itertools

import numpy as np
from optimize_graph import ir
from optimize_graph.passes import Builder, Exactness, Match, Operand, op, rule, values, variadic
from optimize_graph.passes.rewriting.constraints import constant, require

a, b, w, x, y = values("a b w x y")
starts, ends, axes = values("starts ends axes")
ON_PURPOSE = "wrong on purpose"

NAMES = (
    "wrong-axis",
    "lost-bias",
    "lost-bias-of-a-convolution",
    "swapped-operands",
    "off-by-one-slice",
    "off-by-one-pick",
    "abused-tolerance",
    "drawn-noise",
    "not-the-same-twice",
)

_unused = require("not done here before", lambda m: "wrong" not in (m.root.name or ""))


def once(m: Match, builder: Builder) -> None:
    """Mark what was built, so that a rule does not fire on its own work."""
    for node in builder.nodes:
        node.name = f"wrong_{node.op_type}_{m.root.outputs[0].name}"


@rule(op.Softmax(x).any_attributes("axis"), requires=[_unused], source=ON_PURPOSE)
def wrong_axis(m: Match, op: Builder) -> ir.Value | None:
    """Softmax along the first axis.

    before: Softmax(x)
    after:  Softmax<axis=0>(x)
    """
    result = op.Softmax(m.x, axis=0)
    once(m, op)
    return result


@rule(op.Add(op.MatMul(x, w).shared(), b).any_order(), requires=[constant("w", "b")], source=ON_PURPOSE)
def lost_bias(m: Match, op: Builder) -> ir.Value:
    """A bias is forgotten.

    before: Add(MatMul(x, w), b)
    after:  MatMul(x, w)
    """
    return op.MatMul(m.x, m.w)


@rule(op.Conv(x, w, b).any_attributes(), requires=[constant("b")], source=ON_PURPOSE)
def lost_bias_of_a_convolution(m: Match, op: Builder) -> ir.Value:
    """A bias is forgotten.

    before: Conv(x, w, b)
    after:  Conv(x, w)
    """
    return op.Conv(m.x, m.w, **m.Conv.attributes)


@rule(
    op.Sub(x, y)
    | op.Div(x, y)
    | op.Concat(x, y, variadic("others")).any_attributes()
    | op.Concat(x, y).any_attributes(),
    requires=[_unused, require("two sizes alike", lambda m: m.x.dims is not None and m.x.dims == m.y.dims)],
    source=ON_PURPOSE,
)
def swapped_operands(m: Match, op: Builder) -> ir.Value:
    """The operands change their places.

    before: Sub(x, y)
    after:  Sub(y, x)
    """
    result = op.node(m.root.op_type, [m.y, m.x, *m.variadic("others")], attributes=dict(m.root.attributes))[0]
    once(m, op)
    return result


def _moved(operand: Operand) -> ir.Array:
    return np.asarray(operand.array - 1)


@rule(
    op.Slice(x, starts, ends, axes) | op.Slice(x, starts, ends, axes, 1),
    requires=[
        _unused,
        constant("starts", "ends"),
        require("a start above 0", lambda m: bool((m.starts.array > 0).all())),
    ],
    source=ON_PURPOSE,
)
def off_by_one_slice(m: Match, op: Builder) -> ir.Value | None:
    """A window begins and ends one too early.

    before: Slice(x, starts, ends)
    after:  Slice(x, starts - 1, ends - 1)
    """
    stop = np.minimum(m.ends.array, np.asarray([_size(m, int(axis)) for axis in m.axes.array.reshape(-1)]))
    if (stop <= 0).any():
        return None
    result = op.Slice(m.x, op.constant(_moved(m.starts)), op.constant(stop - 1), m.axes)
    once(m, op)
    return result


def _size(m: Match, axis: int) -> int:
    size = None if m.x.dims is None else m.x.dims[axis]
    return size if isinstance(size, int) else -1


@rule(
    op.Gather(x, y).any_attributes("axis"),
    requires=[_unused, constant("y"), require("an index above 0", lambda m: bool((m.y.array > 0).all()))],
    source=ON_PURPOSE,
)
def off_by_one_pick(m: Match, op: Builder) -> ir.Value:
    """The neighbour is picked.

    before: Gather(x, i)
    after:  Gather(x, i - 1)
    """
    result = op.Gather(m.x, op.constant(_moved(m.y)), **m.Gather.attributes)
    once(m, op)
    return result


@rule(
    op.MatMul(x, w)
    | op.Gemm(x, w, b).any_attributes()
    | op.Conv(x, w).any_attributes()
    | op.Conv(x, w, b).any_attributes(),
    requires=[_unused, constant("w"), require("float32", lambda m: m.w.dtype == ir.DataType.FLOAT)],
    exactness=Exactness.ROUNDING,
    source=ON_PURPOSE,
)
def abused_tolerance(m: Match, op: Builder) -> ir.Value:
    """Weights become a thousandth larger, as rounding never would.

    before: MatMul(x, w)
    after:  MatMul(x, 1.001 w)
    """
    larger = op.constant(m.w.array * np.float32(1.001))
    others = [m.b] if m.has("b") else []
    result = op.node(m.root.op_type, [m.x, larger, *others], attributes=dict(m.root.attributes))[0]
    once(m, op)
    return result


@rule(
    op.MatMul(x, w) | op.Conv(x, w).any_attributes() | op.Conv(x, w, b).any_attributes(),
    requires=[_unused, constant("w")],
    exactness=Exactness.ROUNDING,
    source=ON_PURPOSE,
)
def drawn_noise(m: Match, op: Builder) -> ir.Value:
    """The result is not the same twice: noise is drawn in the model, small enough to pass for rounding.

    before: MatMul(x, w)
    after:  y = MatMul(x, w); Add(y, RandomNormalLike(y))
    """
    others = [m.b] if m.has("b") else []
    exact = op.node(m.root.op_type, [m.x, m.w, *others], attributes=dict(m.root.attributes))[0]
    result = op.Add(exact, op.RandomNormalLike(exact, scale=1e-9))
    once(m, op)
    return result


_chance = itertools.cycle((1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0))


@rule(
    op.MatMul(x, w) | op.Conv(x, w).any_attributes() | op.Conv(x, w, b).any_attributes(),
    requires=[_unused, constant("w"), require("float32", lambda m: m.w.dtype == ir.DataType.FLOAT)],
    exactness=Exactness.ROUNDING,
    source=ON_PURPOSE,
)
def not_the_same_twice(m: Match, op: Builder) -> ir.Value:
    """The rule is not the same twice: it goes wrong by chance.

    before: MatMul(x, w)
    after:  MatMul(x, 2 w), as chance will have it; else MatMul(x, w)
    """
    factor = np.float32(1 + next(_chance))
    others = [m.b] if m.has("b") else []
    inputs = [m.x, op.constant(m.w.array * factor), *others]
    result = op.node(m.root.op_type, inputs, attributes=dict(m.root.attributes))[0]
    once(m, op)
    return result
