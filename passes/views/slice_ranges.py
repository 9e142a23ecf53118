"""Constant ranges of Slice, Split and Gather, per axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ... import ir
from ...ir.shapes.indexing import slice_indices
from ..analyses import Dim, Shapes

_LAST = (1 << 63) - 1


@dataclass(frozen=True)
class Range:
    """The range of a Slice along one axis, as in its operands: `stop` may exceed the size, both may be negative."""

    start: int
    stop: int
    step: int

    def is_whole(self) -> bool:
        """Whether this is all of an axis of any size: `stop` is one of the numbers that stand for the end."""
        return self.start == 0 and self.step == 1 and self.stop in (_LAST, (1 << 31) - 1)

    def window(self, size: int) -> tuple[int, int] | None:
        """`start, stop` within an axis of `size`; None for a step other than 1."""
        if self.step != 1:
            return None
        start, stop, _ = slice(self.start, self.stop).indices(size)
        return start, max(start, stop)

    def then(self, outer: Range, size: int | None) -> Range | None:
        """The composition of this range and `outer`, of an axis of `size`; None where it is not one range.

        Where the size is not known, both must count forward from the front: either is clamped to the end.
        """
        if size is not None:
            inner = slice_indices(size, self.start, self.stop, self.step)
            both = None if inner is None else slice_indices(len(inner), outer.start, outer.stop, outer.step)
            if inner is None or both is None:
                return None
            if not both:
                return Range(0, 0, 1)
            composed = inner[both.start : both.stop if both.stop >= 0 else None : both.step]
            # Counting down to the first element, a stop of -1 would mean the last one.
            stop = composed.stop if composed.stop >= 0 else -size - 1
            return Range(composed.start, stop, composed.step)
        if min(self.start, self.stop, outer.start, outer.stop) < 0 or min(self.step, outer.step) < 1:
            return None
        stop = min(self.stop, self.start + outer.stop * self.step)
        return Range(min(self.start + outer.start * self.step, _LAST), min(stop, _LAST), self.step * outer.step)


def ranges(node: ir.Node, shapes: Shapes) -> Mapping[int, Range] | None:
    """The ranges of a Slice by axis; those of a whole axis are left out if there are others.

    None where a parameter is computed, or an axis is negative and the rank is not known.
    """
    source = node.inputs[0] if node.inputs else None
    starts, ends = ir.parameter(node, "starts"), ir.parameter(node, "ends")
    if source is None or not isinstance(starts, np.ndarray) or not isinstance(ends, np.ndarray):
        return None
    axes_or_none = ir.parameter(node, "axes")
    steps_or_none = ir.parameter(node, "steps") if (node.version or 0) >= 10 else None
    if axes_or_none is ir.UNKNOWN or steps_or_none is ir.UNKNOWN:
        return None
    axes = _integers(axes_or_none) if isinstance(axes_or_none, np.ndarray) else list(range(starts.size))
    steps = _integers(steps_or_none) if isinstance(steps_or_none, np.ndarray) else [1] * starts.size
    rank = shapes.rank(source)
    if min(axes, default=0) < 0 and rank is None:
        return None
    axes = [axis if axis >= 0 else axis + (rank or 0) for axis in axes]
    if not len(set(axes)) == len(axes) == starts.size == ends.size == len(steps):
        return None
    by_axis = dict(zip(axes, map(Range, _integers(starts), _integers(ends), steps), strict=True))
    return {axis: taken for axis, taken in by_axis.items() if not taken.is_whole()} or by_axis


def _integers(content: ir.Array) -> list[int]:
    return [int(each) for each in content.reshape(-1)]


def window(node: ir.Node, shapes: Shapes) -> tuple[int, int, int, int] | None:
    """`axis, start, stop, size` of a Slice that takes consecutive elements along one axis of known size."""
    by_axis = ranges(node, shapes)
    if by_axis is None or len(by_axis) != 1:
        return None
    ((axis, taken),) = by_axis.items()
    dims = shapes.dims(node.inputs[0]) if node.inputs[0] is not None else None
    size = dims[axis] if dims is not None and axis < len(dims) else None
    if not isinstance(size, int) or (bounds := taken.window(size)) is None:
        return None
    return axis, *bounds, size


def split_window(node: ir.Node, value: ir.Value, shapes: Shapes) -> tuple[int, int, Dim] | None:
    """`axis, start, size` of an output of a Split; None where a size before it is not known."""
    axis, start = axis_of(node, shapes), 0
    if axis is None:
        return None
    for output in node.outputs:
        dims = shapes.dims(output)
        if dims is None:
            return None
        size = dims[axis]
        if output is value:
            return axis, start, size
        if not isinstance(size, int):
            return None
        start += size
    return None


def slice_parameters(taken: Mapping[int, Range]) -> dict[str, list[int]]:
    """starts, ends, axes and steps: the operands of Slice-10 and later."""
    axes = sorted(taken)
    starts, ends, steps = zip(*((taken[axis].start, taken[axis].stop, taken[axis].step) for axis in axes), strict=True)
    return {"starts": [*starts], "ends": [*ends], "axes": axes, "steps": [*steps]}


def axis_of(node: ir.Node, shapes: Shapes) -> int | None:
    """The axis attribute of a Concat, Split or Gather, counted from the front."""
    axis = ir.attribute(node, "axis")
    if not isinstance(axis, int):
        return None
    if axis >= 0:
        return axis
    ranked = (value for value in (*node.inputs[:1], *node.outputs[:1]) if value is not None)
    if node.op_type == "Gather":  # its axis counts the dims of the input, not of the result
        ranked = (value for value in node.inputs[:1] if value is not None)
    rank = next((rank for value in ranked if (rank := shapes.rank(value)) is not None), None)
    return None if rank is None else axis + rank
