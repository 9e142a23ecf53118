"""Layer and RMS normalization written as reductions and arithmetic."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..analyses import Dim
from ..engine.conditions import fits, holds
from ..engine.exactness import Exactness
from ..engine.pattern import Call, Pattern, Var, op, values
from ..engine.rule import Builder, Match, Operand, rule

x, scale, bias, epsilon = values("x scale bias epsilon")

RMS_SOURCE = "Zhang and Sennrich 2019 (arXiv:1910.07467), in the form of ONNX RMSNormalization-23"


def _mean(data: Pattern, name: str) -> Call:
    return op.ReduceMean(data, Var(f"{name}_axes").optional()).any_attributes("axes", "keepdims").named(name)


def _over_deviation(data: Pattern) -> Pattern:
    """`data` divided by the root of the mean of its squares, in the spellings of the exporters."""
    squared = op.Pow(data, 2.0).named("squared") | op.Mul(data, data).named("squared")
    shifted = op.Add(_mean(squared, "variance"), epsilon).any_order().named("shifted")
    root = op.Sqrt(shifted).named("root") | op.Pow(shifted, 0.5).named("root")
    inverse = (
        op.Reciprocal(root).named("inverse") | op.Div(1.0, root).named("inverse") | op.Pow(shifted, -0.5).named("root")
    )
    return op.Div(data, root).named("normalized") | op.Mul(data, inverse).any_order().named("normalized")


_centered = op.Sub(x, _mean(x, "mean")).named("centered")


def _affine(normalized: Pattern) -> Pattern:
    """The same with a scale, with a scale and a bias, or alone."""
    scaled = op.Mul(normalized, scale).any_order().named("scaled")
    return op.Add(scaled, bias).any_order().named("biased") | scaled | normalized


def _first_axis(m: Match, name: str) -> int | None:
    """The first of the trailing axes that a ReduceMean goes over; None where it goes over others."""
    reduction: Operand = getattr(m, name)
    axes, rank = reduction.parameter("axes"), m.x.rank
    if not isinstance(axes, np.ndarray) or rank is None or reduction.integer("keepdims", 1) != 1:
        return None
    found = sorted(int(axis) % rank for axis in axes.reshape(-1))
    return found[0] if found and found == list(range(found[0], rank)) else None


def _axis(m: Match) -> int | None:
    axis = _first_axis(m, "variance")
    return axis if not m.has("mean") or _first_axis(m, "mean") == axis else None


def _normalized_dims(m: Match) -> tuple[Dim, ...] | None:
    axis, dims = _axis(m), m.x.dims
    return None if axis is None or dims is None else dims[axis:]


def _has_parameters(m: Match) -> bool:
    dims = _normalized_dims(m)
    if dims is None:
        return False
    if not m.has("scale"):
        return all(isinstance(dim, int) for dim in dims)
    return all(getattr(m, name).dims == dims for name in ("scale", "bias") if m.has(name))


def _goes_on(m: Match, value: ir.Value, operator: str) -> bool:
    """Whether a scale (Mul) or a bias (Add) of the right dims follows: then the larger form is meant."""
    reader = _only_reader(value)
    if reader is None or reader.op_type != operator or reader.domain:
        return False
    others = [each for each in reader.inputs if each is not None and each is not value]
    return len(others) == 1 and m.shapes.dims(others[0]) == _normalized_dims(m)


def _only_reader(value: ir.Value) -> ir.Node | None:
    readers = value.consumers()
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _is_scaled_as_half(m: Match) -> bool:
    """Whether the result is cast back to the type that x was cast from, and scaled there."""
    wide, back = m.x.value.producer(), _only_reader(m.root.outputs[0])
    if wide is None or back is None or wide.op_type != "Cast" or back.op_type != "Cast" or wide.inputs[0] is None:
        return False
    to = m.shapes.dtype(wide.inputs[0])
    return to is not None and ir.attribute(back, "to") == to and _goes_on(m, back.outputs[0], "Mul")


def _positive_number(m: Match) -> bool:
    number = m.epsilon.scalar
    return isinstance(number, float) and 0 < number < 1


def _is_half_again(m: Match) -> bool:
    return m.x.dtype == ir.DataType.FLOAT16 == m.back.dtype == m.scale.dtype


FLOAT = holds("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))
REQUIRES = [
    holds("means over the same last axes", lambda m: _axis(m) is not None, lambda m: m.shapes.show(m.x.value)),
    holds("a scale and a bias of the dims that are normalized", _has_parameters, lambda m: m.shapes.show(m.x.value)),
    holds("a small positive epsilon", _positive_number),
]


def _parameters(m: Match, op: Builder) -> tuple[list[Operand | ir.Value], dict[str, int | float]]:
    axis, rank, dims = _axis(m), m.x.rank, _normalized_dims(m)
    assert axis is not None and rank is not None and dims is not None
    given: list[Operand | ir.Value] = [m.scale] if m.has("scale") else []
    if not given:
        given = [op.constant(np.ones([dim for dim in dims if isinstance(dim, int)], dtype=np.float32))]
    if m.has("bias"):
        given.append(m.bias)
    return given, {"axis": axis - rank, "epsilon": float(m.epsilon.scalar or 0)}


@rule(
    _affine(_over_deviation(_centered)),
    requires=[
        fits("opset 17", lambda m: (m.root.version or 0) >= 17),
        fits("no scale above", lambda m: m.has("scale") or not _goes_on(m, m.root.outputs[0], "Mul")),
        fits("no bias above", lambda m: m.has("bias") or not _goes_on(m, m.root.outputs[0], "Add")),
        FLOAT,
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    source="Ba et al. 2016 (arXiv:1607.06450), in the form of ONNX LayerNormalization-17",
    group="recognize",
    benefit=1,
)
def recognize_layer_normalization(m: Match, op: Builder) -> ir.Value:
    """Centered, divided by the deviation, scaled and shifted.

    before:  d = x - ReduceMean(x);  d / Sqrt(ReduceMean(d * d) + epsilon) * scale + bias -> y
    after:   x -> LayerNormalization(scale, bias) -> y
    """
    given, attributes = _parameters(m, op)
    return op.LayerNormalization(m.x, *given, **attributes)


@rule(
    op.Mul(_over_deviation(x), scale).any_order().named("scaled") | _over_deviation(x),
    requires=[
        fits("opset 23", lambda m: (m.root.version or 0) >= 23),
        fits("no scale above", lambda m: m.has("scale") or not _goes_on(m, m.root.outputs[0], "Mul")),
        fits("no scale above a cast", lambda m: m.has("scale") or not _is_scaled_as_half(m)),
        fits("not the second half of a layer normalization", lambda m: not _is_centered(m)),
        FLOAT,
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    source=RMS_SOURCE,
    group="recognize",
)
def recognize_rms_normalization(m: Match, op: Builder) -> ir.Value:
    """Divided by the root of the mean of the squares, and scaled.

    before:  x * Reciprocal(Sqrt(ReduceMean(x * x) + epsilon)) * scale -> y
    after:   x -> RMSNormalization(scale) -> y
    """
    given, attributes = _parameters(m, op)
    return op.RMSNormalization(m.x, *given, **attributes)


_wide = op.Cast(x, to=1).named("wide").shared()


@rule(
    op.Mul(op.Cast(_over_deviation(_wide)).any_attributes("to").named("back"), scale).any_order(),
    requires=[
        fits("opset 23", lambda m: (m.root.version or 0) >= 23),
        holds("halves, before and after", _is_half_again, lambda m: f"{m.x.dtype}, {m.back.dtype}"),
        *REQUIRES,
    ],
    exactness=Exactness.ROUNDING,
    source=RMS_SOURCE,
    group="recognize",
    benefit=1,
)
def recognize_half_rms_normalization(m: Match, op: Builder) -> ir.Value:
    """Computed in floats and scaled in halves, which is what the operator does with halves.

    before:  f = Cast(x);  Cast(f * Reciprocal(Sqrt(ReduceMean(f * f) + epsilon))) * scale -> y
    after:   x -> RMSNormalization(scale) -> y
    """
    given, attributes = _parameters(m, op)
    return op.RMSNormalization(m.x, *given, **attributes)


def _is_centered(m: Match) -> bool:
    """Whether x is itself a value less its mean: its layer normalization goes first, where it may."""
    node = m.x.value.producer()
    if node is None or node.op_type != "Sub" or node.inputs[1] is None:
        return False
    mean = node.inputs[1].producer()
    return mean is not None and mean.op_type == "ReduceMean" and mean.inputs[0] is node.inputs[0]
