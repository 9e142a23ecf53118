"""What layer and RMS normalization have in common: division by the root of a mean of squares, over the last axes."""

from __future__ import annotations

import numpy as np

from ... import ir
from ..analyses import Dim
from ..rewriting.builder import Builder
from ..rewriting.constraints import profitable, require
from ..rewriting.match import Match
from ..rewriting.operand import Operand
from ..rewriting.pattern import Call, Pattern, Var, op, values

x, scale, bias, epsilon = values("x scale bias epsilon")


def mean_of(data: Pattern, name: str) -> Call:
    return op.ReduceMean(data, Var(f"{name}_axes").optional()).any_attributes("axes", "keepdims").named(name)


def over_deviation(data: Pattern) -> Pattern:
    """`data` divided by the root of the mean of its squares, in the spellings of the exporters."""
    squared = op.Pow(data, 2.0).named("squared") | op.Mul(data, data).named("squared")
    shifted = op.Add(mean_of(squared, "variance"), epsilon).any_order().named("shifted")
    root = op.Sqrt(shifted).named("root") | op.Pow(shifted, 0.5).named("root")
    inverse = (
        op.Reciprocal(root).named("inverse") | op.Div(1.0, root).named("inverse") | op.Pow(shifted, -0.5).named("root")
    )
    return op.Div(data, root).named("normalized") | op.Mul(data, inverse).any_order().named("normalized")


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


def goes_on(m: Match, value: ir.Value, operator: str) -> bool:
    """Whether a scale (Mul) or a bias (Add) of the right dims follows: then the larger form is meant."""
    reader = only_reader(value)
    if reader is None or reader.op_type != operator or reader.domain:
        return False
    others = [each for each in reader.inputs if each is not None and each is not value]
    return len(others) == 1 and m.shapes.dims(others[0]) == _normalized_dims(m)


def only_reader(value: ir.Value) -> ir.Node | None:
    readers = value.consumers()
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def _positive_number(m: Match) -> bool:
    number = m.epsilon.scalar
    return isinstance(number, float) and 0 < number < 1


FLOAT = require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))
REQUIRES = [
    require("means over the same last axes", lambda m: _axis(m) is not None, lambda m: m.shapes.show(m.x.value)),
    require("a scale and a bias of the dims that are normalized", _has_parameters, lambda m: m.shapes.show(m.x.value)),
    require("a small positive epsilon", _positive_number),
    profitable(  # the kernel takes 3 to 6 times as long for each element as the arithmetic does for all
        "more than one element in each mean",
        lambda m: _normalized_dims(m) is None or any(dim != 1 for dim in _normalized_dims(m) or ()),
        lambda m: m.shapes.show(m.x.value),
    ),
]


def parameters(m: Match, op: Builder) -> tuple[list[Operand | ir.Value], dict[str, int | float]]:
    axis, rank, dims = _axis(m), m.x.rank, _normalized_dims(m)
    assert axis is not None and rank is not None and dims is not None
    given: list[Operand | ir.Value] = [m.scale] if m.has("scale") else []
    if not given:
        given = [op.constant(np.ones([dim for dim in dims if isinstance(dim, int)], dtype=np.float32))]
    if m.has("bias"):
        given.append(m.bias)
    return given, {"axis": axis - rank, "epsilon": float(m.epsilon.scalar or 0)}
