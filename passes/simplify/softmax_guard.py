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
_KNOWN = ("Add", "Sub", "Sum", "Mul", "Max", "Min", "Concat", "Neg", "Where", "Div", *_MOVING)
_SCORE = 1e4  # a product's magnitude is unknown: next to float32's lowest number it rounds away
_MOST_HALF = 3e4
_LARGEST_FLOAT = float(np.finfo(np.float32).max)
_LARGEST = {
    ir.DataType.FLOAT16: float(np.finfo(np.float16).max),
    ir.DataType.BFLOAT16: float.fromhex("0x1.fep127"),
    ir.DataType.DOUBLE: float(np.finfo(np.float64).max),
}


def _bound(node: ir.Node, bounds: list[float]) -> float | None:
    """The largest magnitude of what `node` computes of operands with these bounds; None for other operators."""
    match node.op_type:
        case "MatMul" | "Gemm":
            return _SCORE
        case "Where":
            return max(bounds[1:])
        case "Add" | "Sub" | "Sum":
            return sum(bounds)
        case "Mul":
            return bounds[0] * bounds[1]
        case "Max" | "Min" | "Concat":
            return max(bounds)
        case "Neg":
            return bounds[0]
        case "Div":
            divisor = ir.constant(node.inputs[1])
            least = 0.0 if divisor is None else float(np.abs(divisor.astype(np.float64)).min(initial=np.inf))
            return bounds[0] / least if least > 0 else None
        case kind if kind in _MOVING:
            return bounds[0]
    return None


def _infinite(m: Match) -> str | None:
    """What in the scores is, or may be, an infinity; None for sums and choices of products and finite constants.

    Each intermediate value is bounded within its own type, so that finite masks whose sum overflows are seen. A mask
    of the lowest number overflows to -inf in float16, where it has no room for a score of -16.
    """
    bounds: dict[ir.Value, float] = {}
    pending = [m.z.value]
    while pending:
        value = pending[-1]
        if value in bounds:
            pending.pop()
            continue
        content, node, dtype = ir.constant(value), value.producer(), m.shapes.dtype(value)
        is_half = dtype == ir.DataType.FLOAT16
        if content is not None:
            bound: float | None = float(np.abs(content.astype(np.float64)).max(initial=0.0))
            if bound is None or not bound < (_MOST_HALF if is_half else np.inf):
                return f"{value.name!r} holds {content.astype(np.float64).min()}"
        elif node is None or node.domain != "" or len(pending) + len(bounds) > _MOST_STEPS:
            return f"{value.name!r} may hold anything"
        else:
            operands = [] if node.op_type in ("MatMul", "Gemm") else [each for each in node.inputs if each is not None]
            operands = operands[1:] if node.op_type == "Where" else operands
            operands = operands[:1] if node.op_type in ("Div", *_MOVING) else operands
            if not operands and node.op_type not in ("MatMul", "Gemm"):
                return f"{value.name!r} may hold anything"
            if missing := [each for each in operands if each not in bounds]:
                if node.op_type not in _KNOWN or any(each in pending for each in missing):
                    return f"{value.name!r} is made by {node.op_type}"
                pending += missing
                continue
            known = [bounds[each] for each in operands]
            bound = _bound(node, [0.0, *known] if node.op_type == "Where" else known)
            if bound is None:
                return f"{value.name!r} is made by {node.op_type}"
        if not bound <= _LARGEST.get(dtype or ir.DataType.UNDEFINED, _LARGEST_FLOAT):
            return f"{value.name!r} may overflow: up to {bound:.3g}"
        bounds[value] = bound
        pending.pop()
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
