"""ArgMax, ArgMin, Hardmax and TopK over functions that keep or reverse the order of elements."""

from __future__ import annotations

from collections.abc import Sequence

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule

(k,) = values("k")

_WIDE = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""In 16 bits the probabilities of many classes are subnormal, and hundreds of them are equal."""

_SOFTMAX = any_call("Softmax").named("inner") | any_call("LogSoftmax").named("inner")
_NEG = any_call("Neg").named("inner")


def _axis(node: ir.Node, rank: int | None) -> int | None:
    axis = ir.attribute(node, "axis")
    return axis % rank if rank and isinstance(axis, int) and -rank <= axis < rank else None


def _same_slices(m: Match) -> bool:
    """Whether all elements that are compared were divided by the same sum.

    Below opset 13, Softmax and Hardmax flatten all axes from `axis` on into one.
    """
    normalized, compared = _axis(m.inner.node, m.inner.rank), _axis(m.root, m.inner.rank)
    if normalized is None or compared is None:
        return False
    if (m.inner.node.version or 0) >= 13:
        return normalized == compared
    if m.root.op_type == "Hardmax":
        return (m.root.version or 0) < 13 and normalized == compared
    return normalized <= compared


def _show_axes(m: Match) -> str:
    inner, outer = m.inner.node, m.root
    return f"{inner.op_type} along {ir.attribute(inner, 'axis')}, {outer.op_type} along {ir.attribute(outer, 'axis')}"


@rule(
    op.ArgMax(_SOFTMAX).any_attributes() | op.Hardmax(_SOFTMAX).any_attributes(),
    requires=[
        require("float32 or float64", lambda m: m.inner.dtype in _WIDE, lambda m: str(m.inner.dtype)),
        require("normalized along the compared axis", _same_slices, _show_axes),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Softmax, LogSoftmax, ArgMax, Hardmax: exp(x - c) / s rises with x",
)
def eliminate_softmax_before_argmax(m: Match, op: Builder) -> ir.Value | None:
    """Remove a Softmax before ArgMax: it does not change which element is the largest.

    Where the two largest differ by less than the rounding error of Softmax (some 1e-7), it makes them equal and the
    first is taken; without it the larger one is. The smallest elements underflow to the same zero: ArgMin stays.

    before:  y = ArgMax<axis = 1>(Softmax<axis = 1>(x))
    after:   y = ArgMax<axis = 1>(x)
    """
    return op.node(m.root.op_type, [m.inner.node.inputs[0]], attributes=m.root.attributes)[0]


def _keeps_order(m: Match) -> bool:
    """Whether the chosen elements are told apart: the largest, or those of logarithms, which do not underflow."""
    return m.inner.node.op_type == "LogSoftmax" or (m.TopK.integer("largest", 1) == 1 and m.k.scalar == 1)


@rule(
    op.TopK(_SOFTMAX, k).any_attributes(),
    requires=[
        require("float32 or float64", lambda m: m.inner.dtype in _WIDE, lambda m: str(m.inner.dtype)),
        require("normalized along the compared axis", _same_slices, _show_axes),
        require("the largest element, or logarithms", _keeps_order, lambda m: f"k {m.shapes.show(m.k.value)}"),
        require(
            "indices alone",
            lambda m: not m.root.outputs[0].uses() and not m.root.outputs[0].is_graph_output(),
            lambda m: "the values have users",
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="ONNX Softmax, LogSoftmax, TopK: exp(x - c) / s rises with x",
    outputs=2,
)
def eliminate_softmax_before_topk(m: Match, op: Builder) -> Sequence[ir.Value | None]:
    """Remove a Softmax before TopK of which the indices alone are used.

    Elements below the largest by more than 103 have a probability of 0 each, in the order of their indices: of Softmax,
    only the largest is chosen, not one of many.

    before:  _, i = TopK<axis = 1>(Softmax<axis = 1>(x), 1)
    after:   _, i = TopK<axis = 1>(x, 1)
    """
    x = m.inner.node.inputs[0]
    return [None, op.node("TopK", [x, m.k], outputs=2, attributes=m.root.attributes)[1]]


@rule(
    op.ArgMax(_NEG).any_attributes() | op.ArgMin(_NEG).any_attributes(),
    requires=[
        require(
            "floating-point: the lowest integer is its own negative",
            lambda m: m.inner.dtype in _WIDE,
            lambda m: str(m.inner.dtype),
        )
    ],
    exactness=Exactness.ROUNDING,
    source="ONNX Neg, ArgMax, ArgMin: min(-x) = -max(x); of NaN the kernels take one or the other",
)
def argmax_neg_to_argmin(m: Match, op: Builder) -> ir.Value | None:
    """Exchange ArgMax and ArgMin instead of negating their input.

    before:  y = ArgMin(Neg(x))        the same for ArgMax
    after:   y = ArgMax(x)
    """
    other = "ArgMin" if m.root.op_type == "ArgMax" else "ArgMax"
    return op.node(other, [m.inner.node.inputs[0]], attributes=m.root.attributes)[0]
