"""The guard against rows of NaN after Softmax goes where the scores are finite and no mask holds an infinity."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..engine.conditions import constant, holds
from ..engine.exactness import Exactness
from ..engine.pattern import op, values
from ..engine.rule import Builder, Match, rule

z, zero = values("z zero")

_MOST_STEPS = 32
_MOVING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Slice", "Identity", "Cast")
_CLOSED = ("Add", "Sub", "Sum", "Mul", "Max", "Min", "Concat", "Neg")  # finite of finite; overflow is rounding


def _nonzero(divisor: ir.Value | None) -> bool:
    content = ir.constant(divisor)
    return content is not None and bool(np.all(content))


def _infinite(m: Match) -> str | None:
    """What in the scores is, or may be, an infinity; None for sums and choices of products and finite constants.

    A mask of the lowest number overflows to -inf in float16, where it has no room for a score of -16.
    """
    pending, seen = [m.z.value], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        content, node = ir.constant(value), value.producer()
        if content is not None:
            largest = np.abs(content.astype(np.float64)).max(initial=0.0)
            if not largest < (3e4 if m.shapes.dtype(m.z.value) == ir.DataType.FLOAT16 else np.inf):
                return f"{value.name!r} holds {content.astype(np.float64).min()}"
        elif node is None or node.domain != "" or len(seen) > _MOST_STEPS:
            return f"{value.name!r} may hold anything"
        elif node.op_type in ("MatMul", "Gemm"):
            continue
        elif node.op_type == "Where":
            pending += [each for each in node.inputs[1:] if each is not None]
        elif node.op_type in _MOVING or (node.op_type == "Div" and _nonzero(node.inputs[1])):
            pending += [each for each in node.inputs[:1] if each is not None]
        elif node.op_type in _CLOSED:
            pending += [each for each in node.inputs if each is not None]
        else:
            return f"{value.name!r} is made by {node.op_type}"
    return None


@rule(
    op.Where(
        op.IsNaN(op.Softmax(z).any_attributes().shared()),
        zero,
        op.Softmax(z).any_attributes().shared(),
    ),
    requires=[
        constant("zero"),
        holds(
            "scores that are finite, with a mask that is", lambda m: _infinite(m) is None, lambda m: str(_infinite(m))
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="torch 2.13 exporter, scaled_dot_product_attention; Softmax is NaN where a row has only -inf, +inf, or NaN",
    group="fuse",
)
def drop_nan_guard_of_softmax(m: Match, op: Builder) -> ir.Value:
    """A Softmax of finite scores is never NaN. (A model that is fed NaN sees it, where the guard hid it.)

    before:  Softmax(z) -> IsNaN -> Where(·, 0, Softmax(z)) -> y        z = MatMul(q, k) + Where(mask, 0, -3.4e38)
    after:   Softmax(z) -> y
    """
    return m.Softmax.value
