"""Dims and elements through operators that ask for shapes, and those that lay the same data out anew."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import symbolic as d
from .elementwise import broadcast_dims
from .facts import (
    MOST_ELEMENTS,
    Call,
    Dims,
    Elements,
    NothingKnownError,
    array_of,
    dims_of,
    elements_of,
    plain,
    position,
    unknown_dims,
)
from .symbolic import Dim


def as_dim(number: Dim) -> Dim:
    """A number that is used as a size: it is not negative in a run that succeeds."""
    return d.maximum(number, 0)


# --- what a shape is ------------------------------------------------------------------------------------------------


def _shape_part(call: Call) -> Dims:
    dims = call.dims(0)
    start, end = call.integer("start"), call.attribute("end")
    return dims[start : end if isinstance(end, int) else None]


@dims_of("Shape")
def shape(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Shape."""
    return ((len(_shape_part(call)),),)


@elements_of("Shape")
def _shape_elements(call: Call) -> Elements:
    part = _shape_part(call)
    return array_of(part, (len(part),))


@dims_of("Size")
def size(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Size."""
    return ((),)


elements_of("Size")(lambda call: array_of([d.product(call.dims(0))], ()))
dims_of("ConstantOfShape")(lambda call: (tuple(map(as_dim, call.vector(0))),))


@elements_of("ConstantOfShape")
def _constant_of_shape_elements(call: Call) -> Elements:
    given = call.node.attributes.get("value")
    fill = 0 if given is None else int(np.asarray(given.as_tensor().numpy()).reshape(()))
    dims = call.numbers(0)
    if math.prod(dims) > MOST_ELEMENTS:
        raise NothingKnownError
    return array_of([fill] * math.prod(dims), dims)


@dims_of("Range")
def range_dims(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Range."""
    try:
        (start,), (limit,), (delta,) = call.vector(0), call.vector(1), call.vector(2)
    except NothingKnownError:
        first, last, step = (call.content(index).reshape(-1) for index in range(3))
        span = np.subtract(last, first)[0]  # in the type of the range, as runtimes compute it
        return ((max(math.ceil(float(span) / float(step[0])), 0),),)
    if isinstance(delta, int) and delta > 0:
        return ((d.maximum(-d.floordiv(start - limit, delta), 0),),)
    if isinstance(delta, int) and delta < 0:
        return ((d.maximum(-d.floordiv(limit - start, -delta), 0),),)
    return (unknown_dims(1),)


@elements_of("Range")
def _range_elements(call: Call) -> Elements:
    (start,), (limit,), (delta,) = call.numbers(0), call.numbers(1), call.numbers(2)
    numbers = range(start, limit, delta)
    if len(numbers) > MOST_ELEMENTS:
        raise NothingKnownError
    return array_of(numbers, (len(numbers),))


# --- same elements, other dims --------------------------------------------------------------------------------------


@dims_of("Reshape")
def reshape(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Reshape."""
    source = call.inputs[0].dims if call.inputs[0] is not None else None
    if call.version < 5:
        return (reshape_dims(source, call.integers("shape"), False),)
    target = call.fact(1)
    if target.elements is None:
        (length,) = plain(call.dims(1))
        return (unknown_dims(length),)
    return (reshape_dims(source, target.elements, bool(call.integer("allowzero"))),)


def _positive(size: Dim) -> Dim:
    if isinstance(size, int):
        return size if size > 0 else d.fresh_dim()
    return d.fresh_dim(likely=size)


def reshape_dims(source: Dims | None, target: Dims, allowzero: bool) -> Dims:
    """The dims that Reshape gives. A 0 at run time copies from the source, so that a symbol stands for itself only
    where it is not 0 or the source agrees; -1 beside a 0 makes a run fail.
    """
    if any(not d.nonnegative(each) and each != -1 for each in target):
        return tuple(map(_positive, target))  # some may be -1
    sizes: list[Dim | None] = []
    for axis, wanted in enumerate(target):
        if wanted == -1:
            sizes.append(None)
        elif allowzero or d.at_least(wanted, 1):
            sizes.append(wanted)
        elif source is None:
            sizes.append(d.fresh_dim())
        else:
            sizes.append(d.nonzero_or(wanted, source[axis]) if axis < len(source) else wanted)
    others = [each for each in sizes if each is not None]
    if len(others) == len(sizes):
        return tuple(others)
    inferred = d.fresh_dim() if source is None else _quotient(source, others)
    return tuple(inferred if each is None else each for each in sizes)


def _quotient(source: Dims, others: Sequence[Dim]) -> Dim:
    """The product of `source` over that of `others`, which is no 0 and divides it in a run that succeeds."""
    left, divisors = list(source), []
    for each in others:
        if each in left:
            left.remove(each)
        else:
            divisors.append(each)
    return as_dim(d.floordiv(d.product(left), d.product(divisors)))


@elements_of("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _same_elements(call: Call) -> Elements:
    fact = call.fact(0)
    if fact.elements is None:
        raise NothingKnownError
    return array_of(fact.elements, (len(fact.elements),))


@dims_of("Flatten")
def _flatten(call: Call) -> Sequence[Dims | None]:
    dims, axis = call.dims(0), call.integer("axis", 1)
    return ((d.product(dims[:axis]), d.product(dims[axis:])),)


@dims_of("Squeeze")
def _squeeze(call: Call) -> Sequence[Dims | None]:
    dims, axes = call.dims(0), call.parameter("axes", 1)
    if axes is None:
        return (tuple(dim for dim in plain(dims) if dim != 1),)
    if not len(axes) and 1 in plain(dims):
        return (None,)  # none of them by the standard, all of them in ONNX Runtime
    gone = {position(axis, len(dims)) for axis in axes}
    return (tuple(dim for axis, dim in enumerate(dims) if axis not in gone),)


@dims_of("Unsqueeze")
def _unsqueeze(call: Call) -> Sequence[Dims | None]:
    dims, axes = call.dims(0), call.parameter("axes", 1) or ()
    new = {position(axis, len(dims) + len(axes)) for axis in axes}
    rest = iter(dims)
    return (tuple(1 if axis in new else next(rest) for axis in range(len(dims) + len(axes))),)


def _permutation(call: Call) -> tuple[int, ...]:
    return call.integers("perm", tuple(reversed(range(call.rank(0)))))


@dims_of("Transpose")
def transpose(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Transpose."""
    dims = call.dims(0)
    return (tuple(dims[axis] for axis in _permutation(call)),)


elements_of("Transpose")(lambda call: call.elements(0).transpose(_permutation(call)))


@dims_of("DepthToSpace")
def _depth_to_space(call: Call) -> Sequence[Dims | None]:
    n, c, h, w = call.dims(0)
    block = call.integer("blocksize")
    return ((n, d.floordiv(c, block * block), h * block, w * block),)


@dims_of("SpaceToDepth")
def _space_to_depth(call: Call) -> Sequence[Dims | None]:
    n, c, h, w = call.dims(0)
    block = call.integer("blocksize")
    return ((n, c * block * block, d.floordiv(h, block), d.floordiv(w, block)),)


# --- repeating and padding ------------------------------------------------------------------------------------------


@dims_of("Expand")
def _expand(call: Call) -> Sequence[Dims | None]:
    target = call.fact(1)
    if target.elements is None:
        (length,) = plain(call.dims(1))
        return (unknown_dims(max(length, call.rank(0))),)
    return (broadcast_dims(call.dims(0), tuple(map(as_dim, target.elements))),)


@elements_of("Expand")
def _expand_elements(call: Call) -> Elements:
    array, target = call.elements(0), call.numbers(1)
    shape = np.broadcast_shapes(array.shape, target)
    if math.prod(shape) > MOST_ELEMENTS:
        raise NothingKnownError
    return np.broadcast_to(array, shape)


@dims_of("Tile")
def _tile(call: Call) -> Sequence[Dims | None]:
    dims = call.dims(0)
    if call.fact(1).elements is None or call.version < 6:
        return (unknown_dims(len(dims)),)
    return (tuple(as_dim(dim * times) for dim, times in zip(dims, call.vector(1), strict=True)),)


@dims_of("Pad")
def _pad(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    try:
        axes = [position(axis, len(dims)) for axis in call.numbers(3)] if call.has(3) else list(range(len(dims)))
        if call.version < 11:
            pads: Dims = call.integers("pads") if call.version >= 2 else call.integers("paddings")
        else:
            pads = call.vector(1)
    except NothingKnownError:
        return (unknown_dims(len(dims)),)
    if len(pads) != 2 * len(axes):
        raise NothingKnownError
    for place, axis in enumerate(axes):
        dims[axis] = as_dim(dims[axis] + pads[place] + pads[place + len(axes)])
    return (tuple(dims),)
