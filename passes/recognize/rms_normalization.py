"""RMS normalization written as a reduction and arithmetic, in floats or within casts from halves and back."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import op
from ..rewriting.rule import rule
from .norm_patterns import FLOAT, REQUIRES, goes_on, only_reader, over_deviation, parameters, scale, x

RMS_SOURCE = "Zhang and Sennrich 2019 (arXiv:1910.07467), in the form of ONNX RMSNormalization-23"


def _is_scaled_as_half(m: Match) -> bool:
    """Whether the result is cast back to the type that x was cast from, and scaled there."""
    wide, back = m.x.value.producer(), only_reader(m.root.outputs[0])
    if wide is None or back is None or wide.op_type != "Cast" or back.op_type != "Cast" or wide.inputs[0] is None:
        return False
    to = m.shapes.dtype(wide.inputs[0])
    return to is not None and ir.attribute(back, "to") == to and goes_on(m, back.outputs[0], "Mul")


def _is_half_again(m: Match) -> bool:
    return m.x.dtype == ir.DataType.FLOAT16 == m.back.dtype == m.scale.dtype


def _is_centered(m: Match) -> bool:
    """Whether x is itself a value less its mean: its layer normalization goes first, where it may."""
    node = m.x.value.producer()
    if node is None or node.op_type != "Sub" or node.inputs[1] is None:
        return False
    mean = node.inputs[1].producer()
    return mean is not None and mean.op_type == "ReduceMean" and mean.inputs[0] is node.inputs[0]


@rule(
    op.Mul(over_deviation(x), scale).any_order().named("scaled") | over_deviation(x),
    requires=[
        structural("opset 23", lambda m: (m.root.version or 0) >= 23),
        structural("no scale above", lambda m: m.has("scale") or not goes_on(m, m.root.outputs[0], "Mul")),
        structural("no scale above a cast", lambda m: m.has("scale") or not _is_scaled_as_half(m)),
        structural("not the second half of a layer normalization", lambda m: not _is_centered(m)),
        FLOAT,
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=RMS_SOURCE,
)
def recognize_rms_normalization(m: Match, op: Builder) -> ir.Value:
    """Divided by the root of the mean of the squares, and scaled.

    before:  x * Reciprocal(Sqrt(ReduceMean(x * x) + epsilon)) * scale -> y
    after:   x -> RMSNormalization(scale) -> y
    """
    given, attributes = parameters(m, op)
    return op.RMSNormalization(m.x, *given, **attributes)


_wide = op.Cast(x, to=1).named("wide").shared()


@rule(
    op.Mul(op.Cast(over_deviation(_wide)).any_attributes("to").named("back"), scale).any_order(),
    requires=[
        structural("opset 23", lambda m: (m.root.version or 0) >= 23),
        require("halves, before and after", _is_half_again, lambda m: f"{m.x.dtype}, {m.back.dtype}"),
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    is_heuristic=True,
    source=RMS_SOURCE,
    benefit=1,
)
def recognize_rms_normalization_upcast(m: Match, op: Builder) -> ir.Value:
    """Computed in floats and scaled in halves, which is what the operator does with halves.

    before:  f = Cast(x);  Cast(f * Reciprocal(Sqrt(ReduceMean(f * f) + epsilon))) * scale -> y
    after:   x -> RMSNormalization(scale) -> y
    """
    given, attributes = parameters(m, op)
    return op.RMSNormalization(m.x, *given, **attributes)
