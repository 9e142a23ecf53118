"""Dims and elements through elementwise operators, reductions and norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from ... import ir
from . import symbolic as d
from .facts import (
    MOST_ELEMENTS,
    Call,
    Dims,
    Elements,
    NothingKnownError,
    array_of,
    dims_of,
    elements_of,
    position,
    unknown_dims,
)
from .symbolic import Dim

_LIKE_THE_FIRST = ir.UNARY | frozenset(
    "Bernoulli CastLike CumProd CumSum EyeLike GroupNormalization Hardmax Identity InstanceNormalization LRN "
    "LogSoftmax LpNormalization MeanVarianceNormalization RMSNormalization RandomNormalLike RandomUniformLike "
    "ReverseSequence RotaryEmbedding Scatter ScatterElements ScatterND Softmax TensorScatter Trilu".split()
)


dims_of(*_LIKE_THE_FIRST)(lambda call: (call.dims(0),))
dims_of("Dropout")(lambda call: (call.dims(0), call.dims(0)))
dims_of("DynamicQuantizeLinear")(lambda call: (call.dims(0), (), ()))
dims_of("BatchNormalization")(lambda call: (call.dims(0), *[call.dims(1)] * 4))  # the statistics that training updates


@dims_of("LayerNormalization")
def _layer_normalization(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    axis = position(call.integer("axis"), len(x))
    statistics = x[:axis] + (1,) * (len(x) - axis)
    return (x, statistics, statistics)


def broadcast_dims(*shapes: Dims) -> Dims:
    """The dims that shapes broadcast to, as numpy does it."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(map(len, shapes))
    columns = zip(*[(1,) * (rank - len(shape)) + shape for shape in shapes], strict=True)
    return tuple(column[0] if len(set(column)) == 1 else d.broadcast(*column) for column in columns)


@dims_of(*ir.BROADCASTING)
def _broadcasting(call: Call) -> Sequence[Dims | None]:
    if call.version < 7 and call.integer("broadcast"):
        return (call.dims(0),)  # one-sided: the second input is stretched to the first
    return (broadcast_dims(*[call.dims(index) for index in range(len(call.inputs))]),)


# --- reductions -----------------------------------------------------------------------------------------------------


def _reduced_axes(call: Call, rank: int) -> tuple[int, ...]:
    axes = call.parameter("axes", 1)
    if not axes:
        return () if call.integer("noop_with_empty_axes") else tuple(range(rank))
    return tuple(position(axis, rank) for axis in axes)


def _reduce(dims: Dims, axes: Sequence[int], keep: int) -> Dims:
    if keep:
        return tuple(1 if axis in axes else dim for axis, dim in enumerate(dims))
    return tuple(dim for axis, dim in enumerate(dims) if axis not in axes)


@dims_of(*ir.REDUCTIONS)
def reduction(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of reductions."""
    dims, keep = call.dims(0), call.integer("keepdims", 1)
    try:
        axes = _reduced_axes(call, len(dims))
    except NothingKnownError:
        return (unknown_dims(len(dims)) if keep else None,)
    return (_reduce(dims, axes, keep),)


@dims_of("ArgMax", "ArgMin")
def _arg_reduction(call: Call) -> Sequence[Dims | None]:
    dims = call.dims(0)
    return (_reduce(dims, (position(call.integer("axis"), len(dims)),), call.integer("keepdims", 1)),)


# --- elements -------------------------------------------------------------------------------------------------------


def _divide(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int) and b:
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)  # integer division truncates
    return d.floordiv(a, b) if d.nonnegative(a) and d.nonnegative(b) else d.fresh_integer()


def _modulo(a: Dim, b: Dim) -> Dim:
    return d.mod(a, b) if isinstance(b, int) or d.nonnegative(b) else d.fresh_integer()


def _c_remainder(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int) and b:
        return int(math.fmod(a, b))
    return d.mod(a, b) if d.nonnegative(a) and d.nonnegative(b) else d.fresh_integer()


def _decide(yes: bool, no: bool) -> Dim:
    return 1 if yes else 0 if no else d.fresh_integer()


def _equal(a: Dim, b: Dim) -> Dim:
    return _decide(a == b, d.differ(a, b))


def _less(a: Dim, b: Dim) -> Dim:
    return _decide(d.at_least(b, a + 1), d.at_least(a, b))


def _and(a: Dim, b: Dim) -> Dim:
    return _decide(a == 1 == b, a == 0 or b == 0)


def _or(a: Dim, b: Dim) -> Dim:
    return _decide(a == 1 or b == 1, a == 0 == b)


def _not(a: Dim) -> Dim:
    return 1 - a if isinstance(a, int) else d.fresh_integer()


def _absolute(a: Dim) -> Dim:
    if isinstance(a, int):
        return abs(a)
    return a if d.nonnegative(a) else d.fresh_integer()


def _choose(condition: Dim, yes: Dim, no: Dim) -> Dim:
    if yes == no:
        return yes
    if isinstance(condition, int):
        return yes if condition else no
    return d.fresh_integer()


PAIRWISE: dict[str, Callable[[Dim, Dim], Dim]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": _divide,
    "Max": d.maximum,
    "Min": d.minimum,
    "Sum": lambda a, b: a + b,
    "Equal": _equal,
    "Less": _less,
    "Greater": lambda a, b: _less(b, a),
    "LessOrEqual": lambda a, b: _not(_less(b, a)),
    "GreaterOrEqual": lambda a, b: _not(_less(a, b)),
    "And": _and,
    "Or": _or,
}


@elements_of(*PAIRWISE)
def _pairwise(call: Call) -> Elements:
    operator = call.node.op_type
    operands = [call.elements(index) for index in range(len(call.inputs))]
    if operator in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Max", "Min") and _is_bool(call):
        raise NothingKnownError
    return reduce(lambda a, b: _each(PAIRWISE[operator], a, b), operands)


def _is_bool(call: Call) -> bool:
    return call.fact(0).dtype == ir.DataType.BOOL


@elements_of("Mod")
def _infer_modulo(call: Call) -> Elements:
    rule = _c_remainder if call.integer("fmod") else _modulo
    return _each(rule, call.elements(0), call.elements(1))


@elements_of("Where")
def where(call: Call) -> Elements:
    """Infer the elements of Where."""
    return _each(_choose, *[call.elements(index) for index in range(3)])


@elements_of("Neg", "Abs", "Not")
def _unary(call: Call) -> Elements:
    rule: Callable[[Dim], Dim] = {"Neg": lambda a: -a, "Abs": _absolute, "Not": _not}[call.node.op_type]
    return _each(rule, call.elements(0))


elements_of("Identity")(lambda call: call.elements(0))


@elements_of("Cast", "CastLike")
def _cast(call: Call) -> Elements:
    to = call.integer("to") if call.node.op_type == "Cast" else call.fact(1).dtype
    if call.fact(0).elements is None:
        content = call.content(0)
        if content.dtype.kind != "f" or content.size > MOST_ELEMENTS or to == ir.DataType.BOOL:
            raise NothingKnownError
        return array_of((math.trunc(float(each)) for each in content.ravel()), content.shape)
    if to == ir.DataType.BOOL and not _is_bool(call):
        return _each(lambda a: _decide(d.differ(a, 0), a == 0), call.elements(0))
    return call.elements(0)


def _each(rule: Callable[..., Dim], *operands: Elements) -> Elements:
    shape = np.broadcast_shapes(*[operand.shape for operand in operands])
    columns = [np.broadcast_to(operand, shape).ravel() for operand in operands]
    return array_of((rule(*row) for row in zip(*columns, strict=True)), shape)


@elements_of("ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin")
def _reduced(call: Call) -> Elements:
    array = call.elements(0)
    axes, keep = _reduced_axes(call, array.ndim), call.integer("keepdims", 1)
    rule = {"ReduceProd": "Mul", "ReduceSum": "Add", "ReduceMax": "Max", "ReduceMin": "Min"}[call.node.op_type]
    kept = [axis for axis in range(array.ndim) if axis not in axes]
    rows = array.transpose(kept + sorted(axes)).reshape([*(array.shape[axis] for axis in kept), -1])
    found = [reduce(PAIRWISE[rule], row) for row in rows.reshape(-1, rows.shape[-1])]
    shape = _reduce(array.shape, axes, keep)
    return array_of(found, [size for size in shape if isinstance(size, int)])
