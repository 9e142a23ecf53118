"""Recognize RMS normalization written as a reduction and arithmetic, in float32 or between casts from and to fp16."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import op
from ..rewriting.rule import rule
from .norm_patterns import FLOAT, REQUIRES, goes_on, only_user, over_deviation, parameters, scale, x

RMS_SOURCE = "Zhang and Sennrich 2019 (arXiv:1910.07467), in the form of ONNX RMSNormalization-23"


def _is_scaled_in_fp16(m: Match) -> bool:
    """Whether the result is cast back to the type that x was cast from, and scaled in it."""
    wide, back = m.x.value.producer(), only_user(m.root.outputs[0])
    if wide is None or back is None or wide.op_type != "Cast" or back.op_type != "Cast" or wide.inputs[0] is None:
        return False
    to = m.shapes.dtype(wide.inputs[0])
    return to is not None and ir.attribute(back, "to") == to and goes_on(m, back.outputs[0], "Mul")


def _is_fp16(m: Match) -> bool:
    return m.x.dtype == ir.DataType.FLOAT16 == m.back.dtype == m.scale.dtype


def _is_centered(m: Match) -> bool:
    """Whether x is itself a value minus its mean: layer normalization takes precedence."""
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
        structural("no scale above a cast", lambda m: m.has("scale") or not _is_scaled_in_fp16(m)),
        structural("no mean subtracted before (layer normalization)", lambda m: not _is_centered(m)),
        FLOAT,
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    source=RMS_SOURCE,
)
def recognize_rms_normalization(m: Match, op: Builder) -> ir.Value:
    """Recognize RMSNormalization.

    before:  y = Mul(Mul(x, Reciprocal(Sqrt(Add(ReduceMean(Mul(x, x)), epsilon)))), scale)
    after:   y = RMSNormalization(x, scale)
    """
    operands, attributes = parameters(m, op)
    return op.RMSNormalization(m.x, *operands, **attributes)


_wide = op.Cast(x, to=1).named("wide").shared()


@rule(
    op.Mul(op.Cast(over_deviation(_wide)).any_attributes("to").named("back"), scale).any_order(),
    requires=[
        structural("opset 23", lambda m: (m.root.version or 0) >= 23),
        require("float16 input, result and scale", _is_fp16, lambda m: f"{m.x.dtype}, {m.back.dtype}, {m.scale.dtype}"),
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    source=RMS_SOURCE,
    benefit=1,
)
def recognize_rms_normalization_upcast(m: Match, op: Builder) -> ir.Value:
    """Recognize RMSNormalization computed in float32 and scaled in float16, as the operator computes float16.

    before:  f = Cast(x); y = Mul(Cast(Mul(f, Reciprocal(Sqrt(Add(ReduceMean(Mul(f, f)), epsilon))))), scale)
    after:   y = RMSNormalization(x, scale)
    """
    operands, attributes = parameters(m, op)
    return op.RMSNormalization(m.x, *operands, **attributes)
