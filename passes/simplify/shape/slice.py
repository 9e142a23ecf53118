"""Slices of Slices, and Slices and Gathers of one operand of a Concat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .... import ir
from ....ir.shapes.facts import Dims
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, structural
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule
from ...views.slice_ranges import Range, axis_of, ranges, slice_parameters, window

starts, ends, axes, steps, index = values("starts ends axes steps index")


def _compose(m: Match) -> Mapping[int, Range] | str:
    """The ranges of both Slices together: of axes that only one of them slices, or composed."""
    inner, outer, source = ranges(m.inner.node, m.shapes), ranges(m.root, m.shapes), m.inner.node.inputs[0]
    if inner is None or outer is None or source is None:
        return "a range is computed, or counts its axis from the end of an unknown rank"
    dims = m.shapes.dims(source)
    merged = {**inner, **outer}
    for axis in inner.keys() & outer.keys():
        size = dims[axis] if dims is not None else None
        composed = inner[axis].then(outer[axis], size if isinstance(size, int) else None)
        if composed is None:
            return f"{inner[axis]} and {outer[axis]} of an axis of size {size}"
        merged[axis] = composed
    return merged


_merged = let(
    "constant ranges that compose: of axes that only one slices, of known size, or counted from the front", _compose
)


@rule(
    op.Slice(any_call("Slice").named("inner").opset(since=10), starts, ends, axes.optional(), steps.optional()).opset(
        since=10
    ),
    requires=[_merged],
    source="ONNX Slice-10",
)
def merge_slices(m: Match, op: Builder) -> ir.Value:
    """Merge two Slices into one.

    before:  y = Slice(Slice(x, %1, %3, %axis1), %0, %2, %axis2)
    after:   y = Slice(x, %[1, 0], %[3, 2], %[axis1, axis2])
    """
    return op.Slice(m.inner.node.inputs[0], **slice_parameters(m[_merged]))


def _operand_of(m: Match, concat: ir.Node, axis: int | None, start: int, stop: int) -> tuple[ir.Value, int] | None:
    """The operand of a Concat that holds elements `start` to `stop`, and the index of the first one in it.

    Its other dims must be those of the result: ONNX Runtime passes over operands without elements, whatever their dims.
    """
    result = m.shapes.dims(concat.outputs[0])
    if axis is None or axis != axis_of(concat, m.shapes) or result is None:
        return None
    offset = 0
    for value in concat.inputs:
        dims = m.shapes.dims(value) if value is not None else None
        size = dims[axis] if dims is not None else None
        if value is None or not isinstance(size, int):
            return None
        if offset <= start < stop <= offset + size:
            is_alike = dims is not None and _without(dims, axis) == _without(result, axis)
            return (value, start - offset) if is_alike else None
        offset += size
    return None


def _without(dims: Dims, axis: int) -> Dims:
    return (*dims[:axis], *dims[axis + 1 :])


def _find_sliced(m: Match) -> tuple[ir.Value, int, Range] | str:
    """The operand of the Concat that holds the slice, the axis, and the range in it."""
    taken = window(m.root, m.shapes) or _from_the_front(ranges(m.root, m.shapes))
    if taken is None:
        return "the range is computed, of several axes, or of steps other than 1"
    axis, start, stop = taken[:3]
    found = _operand_of(m, m.Concat.node, axis, start, stop)
    if found is None:
        return f"elements {start} to {stop} of {m.shapes.show(m.Concat.value)}"
    return found[0], axis, Range(found[1], found[1] + stop - start, 1)


def _from_the_front(found: Mapping[int, Range] | None) -> tuple[int, int, int] | None:
    """The window of a range that is counted from the front, where the size of the axis is not known."""
    if found is None or len(found) != 1:
        return None
    ((axis, taken),) = found.items()
    return (axis, taken.start, taken.stop) if taken.step == 1 and 0 <= taken.start < taken.stop else None


_sliced = let("a constant range within one operand, with the operands up to it of known sizes", _find_sliced)


@rule(
    op.Slice(any_call("Concat").shared(), starts, ends, axes.optional(), steps.optional()).opset(since=10),
    requires=[_sliced],
    source="ONNX Slice-10, Concat",
)
def slice_of_concat(m: Match, op: Builder) -> ir.Value:
    """Slice the operand that holds the range instead of the Concat.

    before:  y = Slice(Concat<axis = 0>(a, b), %[3], %[4], %[0])        a: [2, n], b: [2, n]
    after:   y = Slice(b, %[1], %[2], %[0])
    """
    operand, axis, taken = m[_sliced]
    return op.Slice(operand, **slice_parameters({axis: taken}))


def _find_gathered(m: Match) -> tuple[ir.Value, int, int] | str:
    """The operand of the Concat that holds the element, the axis, and the index in it."""
    axis, index, mismatch = axis_of(m.root, m.shapes), m.index.scalar, m.shapes.show(m.Concat.value)
    if axis is None or not isinstance(index, int):
        return mismatch
    if index < 0:
        dims = m.shapes.dims(m.Concat.value)
        size = dims[axis] if dims is not None else None
        if not isinstance(size, int):
            return mismatch
        index += size
    found = _operand_of(m, m.Concat.node, axis, index, index + 1)
    return f"element {index} of {mismatch}" if found is None else (found[0], axis, found[1])


_gathered = let("an index within one operand, with the operands up to it of known sizes", _find_gathered)


@rule(
    op.Gather(any_call("Concat").shared(), index).any_attributes("axis"),
    requires=[structural("one constant index", lambda m: m.index.scalar is not None), _gathered],
    source="ONNX Gather, Concat",
)
def gather_of_concat(m: Match, op: Builder) -> ir.Value:
    """Gather from the operand that holds the element instead of the Concat.

    before:  y = Gather<axis = 0>(Concat<axis = 0>(a, b), %2)        a: [2, n]
    after:   y = Gather<axis = 0>(b, %0)
    """
    operand, axis, index = m[_gathered]
    return op.Gather(operand, np.full_like(m.index.array, index), axis=axis)
