"""Operators that take a tensor apart or join tensors along an axis."""

from __future__ import annotations

from ..symbolic_size import Size
from .call import MAX_ELEMENTS, Call, Results, SymbolicTensor, infers

OPEN_END = 1 << 30  # bounds beyond it stand for the end of the axis


@infers("Concat")
def _concat(call: Call) -> Results | None:
    shapes = [call.dims(index) for index in range(len(call.inputs))]
    ranked = [dims for dims in shapes if dims is not None]
    if not ranked:
        return None
    axis = call.integer("axis", 1) % len(ranked[0])
    for dims in ranked[1:]:
        for index, (one, two) in enumerate(zip(ranked[0], dims, strict=True)):
            if index != axis:
                call.equal(one, two)
    length = call.unknown()
    if len(ranked) == len(shapes):
        length = Size(())
        for dims in ranked:
            length = length + dims[axis]
    result = list(ranked[0])
    for index, dim in enumerate(result):
        result[index] = next((dims[index] for dims in ranked if dims[index].constant is not None), dim)
    result[axis] = length
    return [SymbolicTensor(None, tuple(result), _joined_elements(call) if len(result) == 1 else None)]


def _joined_elements(call: Call) -> tuple[Size | None, ...] | None:
    """The elements of joined vectors; those of an operand without known elements are unknown, the others stay."""
    parts = [call.elements(index) for index in range(len(call.inputs))]
    if all(part is not None for part in parts):
        return tuple(element for part in parts for element in part or ())
    shapes = [call.dims(index) for index in range(len(call.inputs))]
    lengths = [None if dims is None else dims[0].constant for dims in shapes]
    if None in lengths or sum(length or 0 for length in lengths) > MAX_ELEMENTS:
        return None
    filled = (part or (None,) * (length or 0) for part, length in zip(parts, lengths, strict=True))
    return tuple(element for part in filled for element in part)


@infers("Split")
def _split(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None:
        return None
    axis = call.integer("axis") % len(dims)
    is_input = call.tensor(1) is not None
    sizes = call.constant(1) if is_input else call.integers("split") or None
    count = len(call.node.outputs)
    if sizes is not None:
        call.equal(dims[axis], sum(sizes))
        parts = [Size.number(size) for size in sizes]
    elif is_input:
        parts = [call.unknown() for _ in range(count)]
    else:
        call.equations.require_multiple(dims[axis], count)
        parts = [call.equations.floor_div(dims[axis], count)] * count
    return [SymbolicTensor(None, (*dims[:axis], part, *dims[axis + 1 :])) for part in parts]


@infers("Slice")
def _slice(call: Call) -> Results | None:
    x = call.required(0)
    if x.dims is None:
        return None
    if len(call.inputs) > 1:
        starts, ends = call.constant(1), call.constant(2)
        axes = call.constant(3) if call.tensor(3) is not None else list(range(len(starts or ())))
        steps = call.constant(4) if call.tensor(4) is not None else [1] * len(starts or ())
    else:
        starts, ends = call.integers("starts"), call.integers("ends")
        axes, steps = call.integers("axes", range(len(starts))), [1] * len(starts)
    if axes is None or starts is None or ends is None or steps is None:
        if axes is not None and starts == [0] and steps == [1] and (first := _first_rows(call, x.dims[axes[0]])):
            axis = axes[0] % len(x.dims)
            return [SymbolicTensor(None, (*x.dims[:axis], first, *x.dims[axis + 1 :]))]
        sliced = {axis % len(x.dims) for axis in axes} if axes is not None else set(range(len(x.dims)))
        return [SymbolicTensor(None, tuple(call.unknown() if i in sliced else dim for i, dim in enumerate(x.dims)))]
    dims = list(x.dims)
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        dims[axis] = _sliced(call, dims[axis], *bounds)
    elements = None
    if x.elements is not None and len(dims) == 1:
        elements = tuple(x.elements[_as_slice(starts[0], ends[0], steps[0])])
    return [SymbolicTensor(None, tuple(dims), elements)]


def _first_rows(call: Call, rows: Size) -> Size | None:
    """The length of a slice from 0 to a symbolic end of an axis of constant length, which it is required to be within.

    A size without negative terms is no index from the end.
    """
    end = (call.elements(2) or (None,))[0]
    if end is None or end.constant is not None or rows.constant is None or any(count < 0 for _, count in end.terms):
        return None
    call.equations.require_most(end, rows)
    return end


def _as_slice(start: int, end: int, step: int) -> slice:
    return slice(start, None if abs(end) > OPEN_END else end, step)


def _sliced(call: Call, dim: Size, start: int, end: int, step: int) -> Size:
    """The length of a slice of an axis; of symbolic dims, the bounds are required to be within the axis."""
    length = dim.constant
    if length is not None:
        return Size.number(len(range(*_as_slice(start, end, step).indices(length))))
    if step < 0:
        return dim if step == -1 and start == -1 and end < -OPEN_END else call.unknown()
    call.equations.require_least(dim, start + 1 if start >= 0 else -start)
    first = Size.number(start) if start >= 0 else dim + start
    if end > OPEN_END:
        last = dim
    elif end < 0:
        last = dim + end
    else:
        call.equations.require_least(dim, end)  # an end beyond the axis is legal, but not the typical use
        last = Size.number(end)
    return call.equations.floor_div(last - first + (step - 1), step)


@infers("Gather")
def _gather(call: Call) -> Results | None:
    x, indices = call.required(0), call.required(1)
    if x.dims is None or indices.dims is None:
        return None
    axis = call.integer("axis") % len(x.dims)
    call.require_within(call.tensor(1), x.dims[axis])
    values = call.constant(1)
    elements = None
    if values:
        call.equations.require_least(x.dims[axis], max(max(values) + 1, -min(values)))
        if x.elements is not None and len(x.dims) == 1 and len(indices.dims) <= 1:
            elements = tuple(x.elements[value] for value in values)
    return [SymbolicTensor(x.dtype, (*x.dims[:axis], *indices.dims, *x.dims[axis + 1 :]), elements)]


@infers("GatherElements ScatterElements Scatter")
def _gather_elements(call: Call) -> Results | None:
    x, indices, updates = call.dims(0), call.dims(1), call.dims(2)
    if updates is not None and indices is not None:
        call.equal_dims(indices, updates)
    if x is not None and indices is not None:
        axis = call.integer("axis") % len(x)
        for index, (one, two) in enumerate(zip(x, indices, strict=True)):
            if index == axis:
                continue
            if two.constant is None:
                call.equal(one, two)
            elif one.constant is None:
                call.equations.require_least(one, two.constant)
    return None


@infers("TopK")
def _top_k(call: Call) -> Results | None:
    dims = call.dims(0)
    count = call.constant(1) if len(call.inputs) > 1 else [call.integer("k", 1)]
    if dims is not None and count:
        call.equations.require_least(dims[call.integer("axis", -1)], count[0])
    return None
