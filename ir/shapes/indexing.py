"""Dims and elements through operators that cut, pick and join: slices, gathers, concatenations, splits, selections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from . import symbolic as d
from .facts import (
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
from .layout import as_dim
from .symbolic import Dim

FAR: Final = 2**31 - 1
"""From here on a slice means "to the end"; no dim is as large."""


def slice_bounds(call: Call) -> list[tuple[int, Dim, Dim, int]]:
    """Axis, start, end and step of each sliced axis. Raises NothingKnownError."""
    rank = call.rank(0)
    starts: Dims = call.integers("starts") if call.version < 10 else call.vector(1)
    ends: Dims = call.integers("ends") if call.version < 10 else call.vector(2)
    axes = call.parameter("axes", 3) or tuple(range(len(starts)))
    steps = call.numbers(4) if call.version >= 10 and call.has(4) else (1,) * len(starts)
    return list(zip([position(axis, rank) for axis in axes], starts, ends, steps, strict=True))


@dims_of("Slice")
def _slice_dims(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    try:
        for axis, start, end, step in slice_bounds(call):
            dims[axis] = sliced(dims[axis], start, end, step)
    except NothingKnownError:
        try:
            axes = {position(axis, len(dims)) for axis in call.parameter("axes", 3) or range(len(dims))}
        except NothingKnownError:
            axes = set(range(len(dims)))
        return (tuple(d.fresh_dim() if axis in axes else dim for axis, dim in enumerate(dims)),)
    return (tuple(dims),)


def slice_indices(size: int, start: int, end: int, step: int) -> range | None:
    """The indices that a slice takes of an axis of `size`; None where the standard and ONNX Runtime differ.

    Not as Python counts: with a negative step, a start before the first element is the first element (ONNX, Slice:
    "clamped to [0, dims[axes[i]]-1]"), where Python takes nothing. The standard reads a huge end as the last element,
    ONNX Runtime as "before the first"; an empty axis has no element to clamp to; a step of zero is an error.
    """
    if step == 0:
        return None
    if step > 0:
        return range(size)[start:end:step]
    if end >= FAR or not size:
        return None
    return range(size)[max(start, -size) : end : step]


def sliced(dim: Dim, start: Dim, end: Dim, step: int) -> Dim:
    """How many of `dim` elements a slice takes."""
    if step < 0:
        if not (isinstance(dim, int) and isinstance(start, int) and isinstance(end, int)):
            return d.fresh_dim()
        indices = slice_indices(dim, start, end, step)
        return d.fresh_dim() if indices is None else len(indices)
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
def _slice_elements(call: Call) -> Elements:
    array = call.elements(0)
    for axis, start, end, step in slice_bounds(call):
        first, last = plain((start, end))
        indices = slice_indices(array.shape[axis], first, last, step)
        if indices is None:
            raise NothingKnownError
        array = np.take(array, indices, axis=axis)
    return array


@dims_of("Gather")
def _gather(call: Call) -> Sequence[Dims | None]:
    data = call.dims(0)
    axis = position(call.integer("axis"), len(data))
    return (data[:axis] + call.dims(1) + data[axis + 1 :],)


@elements_of("Gather")
def _gather_elements(call: Call) -> Elements:
    array = call.elements(0)
    where = array_of(call.numbers(1), call.fact(1).static or ()).astype(np.int64)
    taken = np.take(array, where, axis=call.integer("axis"))
    return taken if isinstance(taken, np.ndarray) else array_of([taken], ())


dims_of("GatherElements")(lambda call: (call.dims(1),))


@dims_of("GatherND")
def gather_nd(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of GatherND."""
    data, indices = call.dims(0), call.dims(1)
    (last,) = plain(indices[-1:])
    return (indices[:-1] + data[call.integer("batch_dims") + last :],)


@dims_of("Concat")
def _concat(call: Call) -> Sequence[Dims | None]:
    shapes = [call.dims(index) for index in range(len(call.inputs))]
    axis = position(call.integer("axis", 1), len(shapes[0]))
    total: Dim = 0
    for shape in shapes:
        total = total + shape[axis]
    columns = zip(*shapes, strict=True)
    return (tuple(total if place == axis else agreed(column) for place, column in enumerate(columns)),)


def agreed(dims: Sequence[Dim]) -> Dim:
    """A size that all operands of Concat have. ONNX Runtime lets an empty one differ, so one does not speak for all."""
    first = next((dim for dim in dims if isinstance(dim, int)), dims[0])
    return first if all(dim == first for dim in dims) else d.fresh_dim(likely=first)


@elements_of("Concat")
def _concat_elements(call: Call) -> Elements:
    return np.concatenate([call.elements(index) for index in range(len(call.inputs))], axis=call.integer("axis", 1))


@dims_of("Split")
def split(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Split."""
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
def _split_elements(call: Call) -> Sequence[Elements]:
    array, axis = call.elements(0), call.integer("axis")
    parts = plain(_parts(call, array.shape[axis], len(call.node.outputs)))
    return np.split(array, np.cumsum(parts)[:-1], axis=axis)


@dims_of("OneHot")
def _one_hot(call: Call) -> Sequence[Dims | None]:
    indices = call.dims(0)
    depth = call.fact(1).elements
    axis = position(call.integer("axis", -1), len(indices) + 1)
    return ((*indices[:axis], as_dim(depth[0]) if depth else d.fresh_dim(), *indices[axis:]),)


@dims_of("TopK")
def _top_k(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    axis = position(call.integer("axis", -1), len(dims))
    if call.version < 10:
        dims[axis] = call.integer("k")
    else:
        wanted = call.fact(1).elements
        dims[axis] = as_dim(wanted[0]) if wanted else d.fresh_dim()
    return (tuple(dims), tuple(dims))


dims_of("NonZero")(lambda call: ((call.rank(0), d.fresh_dim()),))
dims_of("NonMaxSuppression")(lambda call: ((d.fresh_dim(), 3),))
