"""The view that an operator of data movement is of its input, and chains of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from ... import ir
from ...ir.shapes.facts import Dims
from ...ir.shapes.indexing import slice_indices
from ..analyses import Dim, Shapes
from .slice_ranges import axis_of, ranges, split_window
from .view import View, identity

_MOST_INDICES: Final = 1 << 14  # of a constant Gather

DimsOf = Callable[[ir.Value], Dims | None]


def node_view(value: ir.Value, shapes: Shapes, dims_of: DimsOf | None = None) -> View | None:
    """The view that `value` is of the first input of its producer; None where it is none, or not proven to be one.

    `dims_of` gives dims that hold on some assumption; by default those that `shapes` proves.
    """
    node, dims_of = value.producer(), dims_of or shapes.dims
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    build, source, result = BUILDERS.get(node.op_type), dims_of(node.inputs[0]), dims_of(value)
    if build is None or source is None or result is None or 0 in source:
        return None
    view = build(node, identity(source), result, value, shapes)
    return view if view is not None and view.dims == result else None


def chain(value: ir.Value, shapes: Shapes, dims_of: DimsOf | None = None) -> list[tuple[ir.Value, View]]:
    """The values that `value` is proven to be a view of, nearest first, itself included; none if it has no dims."""
    dims = (dims_of or shapes.dims)(value)
    if dims is None:
        return []
    found = [(value, identity(dims))]
    while (step := node_view(value, shapes, dims_of)) is not None and (composed := step.then(found[-1][1])) is not None:
        node = value.producer()
        assert node is not None
        assert node.inputs[0] is not None
        value = node.inputs[0]
        found.append((value, composed))
    return found


_Build = Callable[[ir.Node, View, Dims, ir.Value, Shapes], View | None]


def _reshape(_node: ir.Node, view: View, result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    return view.reshape(result)


def _transpose(node: ir.Node, view: View, _result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    perm = ir.attribute(node, "perm")
    axes = [int(axis) for axis in perm] if isinstance(perm, (list, tuple)) else list(reversed(range(len(view.groups))))
    return view.transpose(axes) if sorted(axes) == list(range(len(view.groups))) else None


def _identity(_node: ir.Node, view: View, _result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    return view


def _slice(node: ir.Node, view: View, result: Dims, _value: ir.Value, shapes: Shapes) -> View | None:
    taken = ranges(node, shapes)
    if taken is None:
        return None
    for axis, part in taken.items():
        size = view.dims[axis]
        if isinstance(size, int):
            indices = slice_indices(size, part.start, part.stop, part.step)
            if indices is None or len(indices) == 0:
                return None
            sliced = view.slice(axis, indices.start, indices.step, len(indices))
        elif part.start >= 0 and part.step == 1 and _is_kept(part.start, result[axis], size):
            sliced = view.slice(axis, part.start, 1, result[axis])
        else:
            return None
        if sliced is None:
            return None
        view = sliced
    return view


def _is_kept(start: int, count: Dim, size: Dim) -> bool:
    """Whether a range from `start` of `count` elements lies within an axis of symbolic size."""
    rest = size - (count + start)
    return isinstance(rest, int) and rest >= 0


def _split(node: ir.Node, view: View, _result: Dims, value: ir.Value, shapes: Shapes) -> View | None:
    part = split_window(node, value, shapes)
    return None if part is None or part[2] == 0 else view.slice(*part[:2], 1, part[2])


def _gather(node: ir.Node, view: View, result: Dims, _value: ir.Value, shapes: Shapes) -> View | None:
    """Indices in arithmetic progression, each of them perhaps repeated, or the whole of them."""
    axis, indices = axis_of(node, shapes), ir.constant(node.inputs[1]) if node.inputs[1] is not None else None
    return None if axis is None or indices is None else _gathered(view, axis, indices, result)


def _gather_nd(node: ir.Node, view: View, result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    indices = ir.constant(node.inputs[1]) if node.inputs[1] is not None else None
    if indices is None or indices.ndim == 0 or indices.shape[-1] != 1 or ir.attribute(node, "batch_dims") != 0:
        return None
    return _gathered(view, 0, indices[..., 0], result)


def _gathered(view: View, axis: int, indices: ir.Array, result: Dims) -> View | None:
    if not 0 < indices.size <= _MOST_INDICES:
        return None
    size = view.dims[axis]
    flat = indices.reshape(-1).astype(np.int64)
    if np.any(flat < 0) and not isinstance(size, int):
        return None
    flat = np.where(flat < 0, flat + size, flat) if isinstance(size, int) else flat
    gathered = _progression(view, axis, flat)
    if gathered is None:
        return None
    if indices.ndim == 0:
        return gathered.squeeze(axis)
    return gathered.reshape(result) if indices.ndim > 1 else gathered


def _progression(view: View, axis: int, flat: ir.Array) -> View | None:
    changes = np.flatnonzero(np.diff(flat))
    times = int(changes[0]) + 1 if changes.size else flat.size
    if flat.size % times:
        return None
    firsts = flat[::times]
    step = int(firsts[1] - firsts[0]) if firsts.size > 1 else 1
    if not np.array_equal(flat, np.repeat(int(firsts[0]) + step * np.arange(firsts.size), times)):
        return None
    sliced = view.slice(axis, int(firsts[0]), step, firsts.size)
    return None if sliced is None else sliced.expand_dim(axis, times)


def _expand(_node: ir.Node, view: View, result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    return view.expand(result)


def _concat(node: ir.Node, view: View, _result: Dims, _value: ir.Value, shapes: Shapes) -> View | None:
    """One value, several times."""
    axis = axis_of(node, shapes)
    if axis is None or len(set(node.inputs)) > 1:
        return None
    return view.expand_dim(axis, len(node.inputs), inner=False)


def _tile(node: ir.Node, view: View, _result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    repeats = ir.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    times_of = [] if repeats is None else [int(times) for times in repeats.reshape(-1)]
    if len(times_of) != len(view.groups) or min(times_of, default=0) < 1:
        return None
    for axis, times in enumerate(times_of):
        view = view.expand_dim(axis, times, inner=False)
    return view


def _depth_to_space(node: ir.Node, view: View, _result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    block, mode = ir.attribute(node, "blocksize"), ir.attribute(node, "mode")
    mode = "CRD" if mode in ("CRD", b"CRD") else "DCR"
    return view.depth_to_space(block, mode) if isinstance(block, int) and len(view.dims) == 4 else None


def _space_to_depth(node: ir.Node, view: View, _result: Dims, _value: ir.Value, _shapes: Shapes) -> View | None:
    block = ir.attribute(node, "blocksize")
    return view.space_to_depth(block) if isinstance(block, int) and len(view.dims) == 4 else None


BUILDERS: Final[Mapping[str, _Build]] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _reshape,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
