"""Slices of Slices, and Slices and Gathers that look into one piece of a Concat."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule
from .slice_ranges import Range, axis_of, ranges, slice_parameters, window

starts, ends, axes, steps, index = values("starts ends axes steps index")


def _both(m: Match) -> Mapping[int, Range] | None:
    """What the two Slices take together: axes that only one of them cuts, or ranges that compose."""
    inner, outer = ranges(m.inner.node, m.shapes), ranges(m.root, m.shapes)
    source = m.inner.node.inputs[0]
    if inner is None or outer is None or source is None:
        return None
    dims = m.shapes.dims(source)
    together = {**inner, **outer}
    for axis in inner.keys() & outer.keys():
        size = dims[axis] if dims is not None else None
        composed = inner[axis].then(outer[axis], size if isinstance(size, int) else None)
        if composed is None:
            return None
        together[axis] = composed
    return together


@rule(
    op.Slice(any_call("Slice").named("inner").opset(since=10), starts, ends, axes.optional(), steps.optional()).opset(
        since=10
    ),
    requires=[
        require(
            "constant ranges that compose: of axes that only one cuts, of known axes, or counted from the front",
            lambda m: _both(m) is not None,
            lambda m: m.shapes.show(m.root.outputs[0]),
        )
    ],
    source="ONNX Slice-10",
)
def merge_slices(m: Match, op: Builder) -> ir.Value:
    """Two Slices are one.

    before:  x -> Slice(axis 1) -> Slice(axis 2) -> y
    after:   x -> Slice(axes 1, 2) -> y
    """
    together = _both(m)
    assert together is not None
    return op.Slice(m.inner.node.inputs[0], *map(op.constant, slice_parameters(together)))


def _piece(m: Match, concat: ir.Node, axis: int | None, start: int, stop: int) -> tuple[ir.Value, int] | None:
    """The piece of a Concat that holds elements `start` to `stop`, and where in it they start."""
    if axis is None or axis != axis_of(concat, m.shapes):
        return None
    place = 0
    for value in concat.inputs:
        dims = m.shapes.dims(value) if value is not None else None
        size = dims[axis] if dims is not None else None
        if value is None or not isinstance(size, int):
            return None
        if place <= start < stop <= place + size:
            return value, start - place
        place += size
    return None


def _sliced_piece(m: Match) -> tuple[ir.Value, Range] | None:
    found = ranges(m.root, m.shapes)
    taken = window(m.root, m.shapes) or _from_the_front(found)
    if taken is None:
        return None
    axis, start, stop = taken[:3]
    piece = _piece(m, m.Concat.node, axis, start, stop)
    return None if piece is None else (piece[0], Range(piece[1], piece[1] + stop - start, 1))


def _from_the_front(found: Mapping[int, Range] | None) -> tuple[int, int, int] | None:
    """The window where the size of the axis is not known, and it is counted from the front."""
    if found is None or len(found) != 1:
        return None
    ((axis, taken),) = found.items()
    return (axis, taken.start, taken.stop) if taken.step == 1 and 0 <= taken.start < taken.stop else None


@rule(
    op.Slice(any_call("Concat").shared(), starts, ends, axes.optional(), steps.optional()).opset(since=10),
    requires=[
        require(
            "a constant range within one piece, with the pieces up to it of known sizes",
            lambda m: _sliced_piece(m) is not None,
            lambda m: m.shapes.show(m.Concat.value),
        )
    ],
    source="ONNX Slice-10, Concat",
)
def slice_of_concat(m: Match, op: Builder) -> ir.Value:
    """Slice the piece that holds the range, not the whole Concat.

    before:  Concat(a, b) -> Slice -> y        the range lies in b
    after:   b -> Slice -> y
    """
    found = _sliced_piece(m)
    assert found is not None
    piece, taken = found
    axis = axis_of(m.Concat.node, m.shapes)
    assert axis is not None
    return op.Slice(piece, *map(op.constant, slice_parameters({axis: taken})))


def _gathered_piece(m: Match) -> tuple[ir.Value, int] | None:
    axis = axis_of(m.root, m.shapes)
    index = m.index.scalar
    if axis is None or not isinstance(index, int):
        return None
    if index < 0:
        dims = m.shapes.dims(m.Concat.value)
        size = dims[axis] if dims is not None else None
        if not isinstance(size, int):
            return None
        index += size
    return _piece(m, m.Concat.node, axis, index, index + 1)


@rule(
    op.Gather(any_call("Concat").shared(), index).any_attributes("axis"),
    requires=[
        structural("one constant index", lambda m: m.index.scalar is not None),
        require(
            "an index within one piece, with the pieces up to it of known sizes",
            lambda m: _gathered_piece(m) is not None,
            lambda m: m.shapes.show(m.Concat.value),
        ),
    ],
    source="ONNX Gather, Concat",
)
def gather_of_concat(m: Match, op: Builder) -> ir.Value:
    """Gather from the piece that holds the element, not from the whole Concat.

    before:  Concat(a, b) -> Gather(2) -> y        a: [2, n]
    after:   b -> Gather(0) -> y
    """
    found = _gathered_piece(m)
    assert found is not None
    place = np.full_like(m.index.array, found[1])
    return op.Gather(found[0], op.constant(place), axis=axis_of(m.root, m.shapes))
