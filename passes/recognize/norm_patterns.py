"""Patterns and conditions of layer and RMS normalization: division by the root mean square over the last axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import ir
from ..analyses import Dim
from ..rewriting.builder import Builder
from ..rewriting.constraints import let, profitable, require
from ..rewriting.match import Match
from ..rewriting.operand import Operand
from ..rewriting.pattern import Call, Pattern, Var, op, values

x, scale, bias, epsilon = values("x scale bias epsilon")


def mean_of(data: Pattern, name: str) -> Call:
    """The ReduceMean of `data` over any axes, bound under `name`."""
    return op.ReduceMean(data, Var(f"{name}_axes").optional()).any_attributes("axes", "keepdims").named(name)


def over_deviation(data: Pattern) -> Pattern:
    """`data` divided by the root of the mean of its squares, in the forms of the exporters."""
    squared = op.Pow(data, 2.0).named("squared") | op.Mul(data, data).named("squared")
    shifted = op.Add(mean_of(squared, "variance"), epsilon).any_order().named("shifted")
    root = op.Sqrt(shifted).named("root") | op.Pow(shifted, 0.5).named("root")
    inverse = (
        op.Reciprocal(root).named("inverse") | op.Div(1.0, root).named("inverse") | op.Pow(shifted, -0.5).named("root")
    )
    return op.Div(data, root).named("normalized") | op.Mul(data, inverse).any_order().named("normalized")


def affine(normalized: Pattern) -> Pattern:
    """`normalized` with a scale and a bias, with a scale, or alone."""
    scaled = op.Mul(normalized, scale).any_order().named("scaled")
    return op.Add(scaled, bias).any_order().named("biased") | scaled | normalized


@dataclass(frozen=True)
class Normalized:
    """The trailing axes that are normalized: the first of them, counted from the end, and their dims."""

    axis: int
    dims: tuple[Dim, ...]


def _first_axis(m: Match, name: str) -> int | None:
    """The first of the trailing axes of a ReduceMean; None where it reduces others."""
    reduction = m.operand(name)
    axes, rank = reduction.parameter("axes"), m.x.rank
    if not isinstance(axes, np.ndarray) or rank is None or reduction.integer("keepdims", 1) != 1:
        return None
    sorted_axes = sorted(int(axis) % rank for axis in axes.reshape(-1))
    return sorted_axes[0] if sorted_axes and sorted_axes == list(range(sorted_axes[0], rank)) else None


def _find_normalized(m: Match) -> Normalized | None:
    axis, dims = _first_axis(m, "variance"), m.x.dims
    if axis is None or dims is None or (m.has("mean") and _first_axis(m, "mean") != axis):
        return None
    return Normalized(axis - len(dims), dims[axis:])


def _has_parameters(m: Match) -> bool:
    dims = m[NORMALIZED].dims
    if not m.has("scale"):
        return all(isinstance(dim, int) for dim in dims)
    return all(m[operand].dims == dims for operand in (scale, bias) if m.has(operand.name))


def goes_on(m: Match, value: ir.Value, operator: str) -> bool:
    """Whether a scale (Mul) or a bias (Add) of the right dims follows: then the larger form is matched."""
    user, normalized = only_user(value), _find_normalized(m)
    if user is None or user.op_type != operator or user.domain:
        return False
    others = [each for each in user.inputs if each is not None and each is not value]
    return len(others) == 1 and m.shapes.dims(others[0]) == (None if normalized is None else normalized.dims)


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that is the only user of `value`."""
    users = value.consumers()
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def _read_epsilon(m: Match) -> float | str:
    epsilon = m.epsilon.scalar
    return epsilon if isinstance(epsilon, float) and 0 < epsilon < 1 else f"epsilon = {epsilon}"


FLOAT = require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))
NORMALIZED = let("means over the same last axes", lambda m: _find_normalized(m) or m.shapes.show(m.x.value))
EPSILON = let("a small positive epsilon", _read_epsilon)
REQUIRES = [
    NORMALIZED,
    require("a scale and a bias of the dims that are normalized", _has_parameters, lambda m: m.shapes.show(m.x.value)),
    EPSILON,
    profitable(  # the kernel takes 3 to 6 times as long for each element as the arithmetic does for all
        "more than one element in each mean",
        lambda m: any(dim != 1 for dim in m[NORMALIZED].dims),
        lambda m: m.shapes.show(m.x.value),
    ),
]


def parameters(m: Match, op: Builder) -> tuple[list[Operand | ir.Content], dict[str, int | float]]:
    """The scale (ones where there is none) and bias of the normalization operator, and its attributes."""
    operands: list[Operand | ir.Content] = [m[scale]] if m.has("scale") else []
    if not operands:
        operands = [np.ones([dim for dim in m[NORMALIZED].dims if isinstance(dim, int)], dtype=np.float32)]
    if m.has("bias"):
        operands.append(m[bias])
    return operands, {"axis": m[NORMALIZED].axis, "epsilon": m[EPSILON]}
