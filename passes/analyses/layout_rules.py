"""Dims and elements through operators that move data: reshapes, slices, gathers, concatenations, and shape queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from . import dims as d
from .dims import Dim
from .elementwise_rules import broadcast_dims
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

FAR: Final = 2**31 - 1
"""From here on a slice means "to the end"; no dim is as large."""


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
    return ((len(_shape_part(call)),),)


@elements_of("Shape")
def shape_elements(call: Call) -> Elements:
    part = _shape_part(call)
    return array_of(part, (len(part),))


@dims_of("Size")
def size(call: Call) -> Sequence[Dims | None]:
    return ((),)


@elements_of("Size")
def size_elements(call: Call) -> Elements:
    return array_of([d.product(call.dims(0))], ())


@dims_of("ConstantOfShape")
def constant_of_shape(call: Call) -> Sequence[Dims | None]:
    return (tuple(map(as_dim, call.vector(0))),)


@elements_of("ConstantOfShape")
def constant_of_shape_elements(call: Call) -> Elements:
    given = call.node.attributes.get("value")
    fill = 0 if given is None else int(np.asarray(given.as_tensor().numpy()).reshape(()))
    dims = call.numbers(0)
    if math.prod(dims) > MOST_ELEMENTS:
        raise NothingKnownError
    return array_of([fill] * math.prod(dims), dims)


@dims_of("Range")
def range_dims(call: Call) -> Sequence[Dims | None]:
    try:
        (start,), (limit,), (delta,) = call.vector(0), call.vector(1), call.vector(2)
    except NothingKnownError:
        first, last, step = (call.content(index).reshape(()) for index in range(3))
        if not (np.isfinite(first) and np.isfinite(last) and np.isfinite(step) and step):
            raise
        return ((max(math.ceil(float(last - first) / float(step)), 0),),)
    if isinstance(delta, int) and delta > 0:
        return ((d.maximum(-d.floordiv(start - limit, delta), 0),),)
    if isinstance(delta, int) and delta < 0:
        return ((d.maximum(-d.floordiv(limit - start, -delta), 0),),)
    return (unknown_dims(1),)


@elements_of("Range")
def range_elements(call: Call) -> Elements:
    (start,), (limit,), (delta,) = call.numbers(0), call.numbers(1), call.numbers(2)
    numbers = range(start, limit, delta)
    if len(numbers) > MOST_ELEMENTS:
        raise NothingKnownError
    return array_of(numbers, (len(numbers),))


# --- same elements, other dims --------------------------------------------------------------------------------------


@dims_of("Reshape")
def reshape(call: Call) -> Sequence[Dims | None]:
    source = call.inputs[0].dims if call.inputs[0] is not None else None
    if call.version < 5:
        return (reshape_dims(source, call.integers("shape"), False),)
    target = call.fact(1)
    if target.elements is None:
        (length,) = plain(call.dims(1))
        return (unknown_dims(length),)
    return (reshape_dims(source, target.elements, bool(call.integer("allowzero"))),)


def reshape_dims(source: Dims | None, target: Dims, allowzero: bool) -> Dims:
    """The dims that Reshape gives. A 0 at run time copies from the source, so that a symbol stands for itself only
    where it is not 0 or the source agrees; -1 beside a 0 makes a run fail."""
    if any(not d.nonnegative(each) and each != -1 for each in target):
        return tuple(each if isinstance(each, int) and each > 0 else d.fresh_dim() for each in target)  # some may be -1
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
def same_elements(call: Call) -> Elements:
    fact = call.fact(0)
    if fact.elements is None:
        raise NothingKnownError
    return array_of(fact.elements, (len(fact.elements),))


@dims_of("Flatten")
def flatten(call: Call) -> Sequence[Dims | None]:
    dims, axis = call.dims(0), call.integer("axis", 1)
    return ((d.product(dims[:axis]), d.product(dims[axis:])),)


@dims_of("Squeeze")
def squeeze(call: Call) -> Sequence[Dims | None]:
    dims, axes = call.dims(0), call.parameter("axes", 1)
    if axes is None:
        return (tuple(dim for dim in plain(dims) if dim != 1),)
    gone = {position(axis, len(dims)) for axis in axes}
    return (tuple(dim for axis, dim in enumerate(dims) if axis not in gone),)


@dims_of("Unsqueeze")
def unsqueeze(call: Call) -> Sequence[Dims | None]:
    dims, axes = call.dims(0), call.parameter("axes", 1) or ()
    new = {position(axis, len(dims) + len(axes)) for axis in axes}
    rest = iter(dims)
    return (tuple(1 if axis in new else next(rest) for axis in range(len(dims) + len(axes))),)


def _permutation(call: Call) -> tuple[int, ...]:
    return call.integers("perm", tuple(reversed(range(call.rank(0)))))


@dims_of("Transpose")
def transpose(call: Call) -> Sequence[Dims | None]:
    dims = call.dims(0)
    return (tuple(dims[axis] for axis in _permutation(call)),)


@elements_of("Transpose")
def transpose_elements(call: Call) -> Elements:
    return call.elements(0).transpose(_permutation(call))


@dims_of("DepthToSpace")
def depth_to_space(call: Call) -> Sequence[Dims | None]:
    n, c, h, w = call.dims(0)
    block = call.integer("blocksize")
    return ((n, d.floordiv(c, block * block), h * block, w * block),)


@dims_of("SpaceToDepth")
def space_to_depth(call: Call) -> Sequence[Dims | None]:
    n, c, h, w = call.dims(0)
    block = call.integer("blocksize")
    return ((n, c * block * block, d.floordiv(h, block), d.floordiv(w, block)),)


# --- repeating and padding ------------------------------------------------------------------------------------------


@dims_of("Expand")
def expand(call: Call) -> Sequence[Dims | None]:
    target = call.fact(1)
    if target.elements is None:
        (length,) = plain(call.dims(1))
        return (unknown_dims(max(length, call.rank(0))),)
    return (broadcast_dims(call.dims(0), tuple(map(as_dim, target.elements))),)


@elements_of("Expand")
def expand_elements(call: Call) -> Elements:
    array, target = call.elements(0), call.numbers(1)
    shape = np.broadcast_shapes(array.shape, target)
    if math.prod(shape) > MOST_ELEMENTS:
        raise NothingKnownError
    return np.broadcast_to(array, shape)


@dims_of("Tile")
def tile(call: Call) -> Sequence[Dims | None]:
    dims = call.dims(0)
    if call.fact(1).elements is None or call.version < 6:
        return (unknown_dims(len(dims)),)
    return (tuple(as_dim(dim * times) for dim, times in zip(dims, call.vector(1), strict=True)),)


@dims_of("Pad")
def pad(call: Call) -> Sequence[Dims | None]:
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


# --- cutting, picking, joining --------------------------------------------------------------------------------------


def _slices(call: Call) -> list[tuple[int, Dim, Dim, int]]:
    """Axis, start, end and step of each sliced axis. Raises NothingKnownError."""
    rank = call.rank(0)
    starts: Dims = call.integers("starts") if call.version < 10 else call.vector(1)
    ends: Dims = call.integers("ends") if call.version < 10 else call.vector(2)
    axes = call.parameter("axes", 3) or tuple(range(len(starts)))
    steps = call.numbers(4) if call.version >= 10 and call.has(4) else (1,) * len(starts)
    return list(zip([position(axis, rank) for axis in axes], starts, ends, steps, strict=True))


@dims_of("Slice")
def slice_dims(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    try:
        for axis, start, end, step in _slices(call):
            dims[axis] = sliced(dims[axis], start, end, step)
    except NothingKnownError:
        try:
            axes = {position(axis, len(dims)) for axis in call.parameter("axes", 3) or range(len(dims))}
        except NothingKnownError:
            axes = set(range(len(dims)))
        return (tuple(d.fresh_dim() if axis in axes else dim for axis, dim in enumerate(dims)),)
    return (tuple(dims),)


def sliced(dim: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many of `dim` elements a slice takes."""
    if step < 0:
        # The standard reads a huge end as the last element, ONNX Runtime as "before the first".
        if not (isinstance(dim, int) and isinstance(start, int) and isinstance(end, int)) or end >= FAR:
            return d.fresh_dim()
        return len(range(dim)[slice(start, end, step)])
    first, last = _clamped(start, dim), _clamped(end, dim)
    if first is None or last is None or step == 0:
        return d.fresh_dim()
    return d.maximum(-d.floordiv(first - last, step), 0)


def _clamped(index: Dim, dim: Dim) -> Dim | None:
    if isinstance(index, int) and index >= FAR:
        return dim
    if d.nonnegative(index):
        return d.minimum(index, dim)
    if d.at_least(-1, index):
        return d.maximum(index + dim, 0)
    return None


@elements_of("Slice")
def slice_elements(call: Call) -> Elements:
    array = call.elements(0)
    chosen = [slice(None)] * array.ndim
    for axis, start, end, step in _slices(call):
        (first, last) = plain((start, end))
        if step < 0 and last >= FAR:
            raise NothingKnownError
        chosen[axis] = slice(first, last, step)
    return array[tuple(chosen)]


@dims_of("Gather")
def gather(call: Call) -> Sequence[Dims | None]:
    data = call.dims(0)
    axis = position(call.integer("axis"), len(data))
    return (data[:axis] + call.dims(1) + data[axis + 1 :],)


@elements_of("Gather")
def gather_elements(call: Call) -> Elements:
    array = call.elements(0)
    where = array_of(call.numbers(1), call.fact(1).static or ()).astype(np.int64)
    taken = np.take(array, where, axis=call.integer("axis"))
    return taken if isinstance(taken, np.ndarray) else array_of([taken], ())


@dims_of("GatherElements")
def gather_along(call: Call) -> Sequence[Dims | None]:
    return (call.dims(1),)


@dims_of("GatherND")
def gather_nd(call: Call) -> Sequence[Dims | None]:
    data, indices = call.dims(0), call.dims(1)
    (last,) = plain(indices[-1:])
    return (indices[:-1] + data[call.integer("batch_dims") + last :],)


@dims_of("Concat")
def concat(call: Call) -> Sequence[Dims | None]:
    shapes = [call.dims(index) for index in range(len(call.inputs))]
    axis = position(call.integer("axis", 1), len(shapes[0]))
    total: Dim = 0
    for shape in shapes:
        total = total + shape[axis]
    columns = zip(*shapes, strict=True)
    return (tuple(total if place == axis else _agreed(column) for place, column in enumerate(columns)),)


def _agreed(dims: Sequence[Dim]) -> Dim:
    """The most telling of sizes that are equal in a run that succeeds."""
    return min(dims, key=lambda dim: (not isinstance(dim, int), d.born(dim)))


@elements_of("Concat")
def concat_elements(call: Call) -> Elements:
    return np.concatenate([call.elements(index) for index in range(len(call.inputs))], axis=call.integer("axis", 1))


@dims_of("Split")
def split(call: Call) -> Sequence[Dims | None]:
    dims, count = call.dims(0), len(call.node.outputs)
    axis = position(call.integer("axis"), len(dims))
    return tuple((*dims[:axis], part, *dims[axis + 1 :]) for part in _parts(call, dims[axis], count))


def _parts(call: Call, dim: Dim, count: int) -> Sequence[Dim]:
    if call.has(1) or "split" in call.node.attributes:
        fact = call.fact(1) if call.has(1) else None
        sizes: Dims | None = fact.elements if fact is not None else call.integers("split")
        if sizes is None:
            return unknown_dims(count)
        return [as_dim(each) for each in sizes] if len(sizes) == count else unknown_dims(count)
    if call.version >= 18 and call.integer("num_outputs", count) != count:
        return unknown_dims(count)
    chunk = d.floordiv(dim + (count - 1), count) if call.version >= 18 else d.floordiv(dim, count)
    return [*[chunk] * (count - 1), as_dim(dim - chunk * (count - 1))]


@elements_of("Split")
def split_elements(call: Call) -> Sequence[Elements]:
    array, axis = call.elements(0), call.integer("axis")
    parts = plain(_parts(call, array.shape[axis], len(call.node.outputs)))
    return np.split(array, np.cumsum(parts)[:-1], axis=axis)


@dims_of("OneHot")
def one_hot(call: Call) -> Sequence[Dims | None]:
    indices = call.dims(0)
    depth = call.fact(1).elements
    axis = position(call.integer("axis", -1), len(indices) + 1)
    return ((*indices[:axis], as_dim(depth[0]) if depth else d.fresh_dim(), *indices[axis:]),)


@dims_of("TopK")
def top_k(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    axis = position(call.integer("axis", -1), len(dims))
    if call.version < 10:
        dims[axis] = call.integer("k")
    else:
        wanted = call.fact(1).elements
        dims[axis] = as_dim(wanted[0]) if wanted else d.fresh_dim()
    return (tuple(dims), tuple(dims))


@dims_of("NonZero")
def non_zero(call: Call) -> Sequence[Dims | None]:
    return ((call.rank(0), d.fresh_dim()),)


@dims_of("NonMaxSuppression")
def non_max_suppression(call: Call) -> Sequence[Dims | None]:
    return ((d.fresh_dim(), 3),)


@dims_of("Resize")
def resize(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    axes = [position(axis, len(dims)) for axis in call.integers("axes", tuple(range(len(dims))))]
    if call.version < 11 or call.attribute("keep_aspect_ratio_policy") not in (None, "stretch"):
        return (unknown_dims(len(dims)),)
    if call.has(3):
        sizes = call.fact(3).elements
        new = [d.fresh_dim()] * len(axes) if sizes is None else list(map(as_dim, sizes))
        if sizes is None:
            return (tuple(d.fresh_dim() if axis in axes else dim for axis, dim in enumerate(dims)),)
    elif call.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        return (unknown_dims(len(dims)),)
    else:
        try:
            new = [_scaled(dims[axis], float(s)) for axis, s in zip(axes, call.content(2), strict=True)]
        except NothingKnownError:
            return (tuple(d.fresh_dim() if axis in axes else dim for axis, dim in enumerate(dims)),)
    for axis, dim in zip(axes, new, strict=True):
        dims[axis] = dim
    return (tuple(dims),)


def _scaled(dim: Dim, scale: float) -> Dim:
    """`floor(dim * scale)`, which is computed in float32: certain only where no rounding can happen."""
    if scale == int(scale) and 1 <= scale <= 64:
        return dim * int(scale)
    if isinstance(dim, int):
        exact, rounded = dim * scale, float(np.float32(dim) * np.float32(scale))
        if abs(exact - round(exact)) > 1e-3 * max(1.0, abs(exact)) or (exact == rounded == int(exact)):
            return math.floor(exact)
    return d.fresh_dim()
