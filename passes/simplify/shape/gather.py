"""Gathers that take every element in order, and heads that are repeated by one Gather."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .constant_reshape import constant_target
from .slice_ranges import axis_of

x, indices, axes, shape, target = values("x indices axes shape target")

_MOST = 1 << 12  # indices that are looked at


def _takes_all(m: Match) -> bool:
    axis = axis_of(m.root, m.shapes)
    if axis is None or m.x.dims is None or m.indices.array.size > _MOST:
        return False
    size = m.x.dims[axis]
    flat = m.indices.array.reshape(-1).astype(np.int64)
    if not isinstance(size, int) or flat.size != size:
        return False
    return bool(np.array_equal(np.where(flat < 0, flat + size, flat), np.arange(size)))


def _target(m: Match) -> list[int] | None:
    return constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0]))


@rule(
    op.Gather(x, indices).any_attributes("axis").opset(since=5),
    requires=[
        constant("indices"),
        require("every element of the axis in order", _takes_all, lambda m: m.shapes.show(m.x.value)),
        require("dims that are numbers, copied from the input, or one -1", lambda m: _target(m) is not None),
    ],
    source="ONNX Gather",
)
def arange_gather_to_reshape(m: Match, op: Builder) -> ir.Value:
    """A Gather of everything in order is a view.

    before:  x[n, 1, c] -> Gather(0, axis 1) -> y
    after:   x[n, 1, c] -> Reshape[0, c] -> y
    """
    return op.Reshape(m.x, op.constant(np.array(_target(m), dtype=np.int64)))


def _repeats(m: Match) -> tuple[int, int, int] | None:
    """`axis, size, times` where each of `size` elements of an axis is repeated before the next comes."""
    given, parted, expanded = m.x.dims, m.parted.dims, m.expanded.dims
    result = m.shapes.dims(m.root.outputs[0])
    if given is None or parted is None or expanded is None or result is None:
        return None
    for axis, size in enumerate(given):
        times = expanded[axis + 1] if axis + 1 < len(expanded) else None
        if not isinstance(size, int) or not isinstance(times, int) or size * times > _MOST:
            continue
        before, after = given[: axis + 1], given[axis + 1 :]
        fitting = (
            parted == (*before, 1, *after)
            and expanded == (*before, times, *after)
            and result == (*given[:axis], size * times, *after)
        )
        if fitting and size >= 1 and times >= 1:
            return axis, size, times
    return None


@rule(
    op.Reshape(
        op.Expand(
            op.Unsqueeze(x, axes.optional()).any_attributes().named("parted")
            | op.Reshape(x, axes).any_attributes().named("parted"),
            shape,
        ).named("expanded"),
        target,
    ).any_attributes(),
    requires=[
        require(
            "an axis of known size whose elements are repeated a known number of times",
            lambda m: _repeats(m) is not None,
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
        structural("more than one time", lambda m: (found := _repeats(m)) is None or found[2] > 1),
    ],
    source="transformers repeat_kv (models/llama/modeling_llama.py): keys and values of grouped-query attention",
    phase=Phase.SIMPLIFY,
)
def expand_repeat_to_gather(m: Match, op: Builder) -> ir.Value | None:
    """Repeat the elements of an axis by one Gather.

    before:  x[b, 2, s, d] -> Unsqueeze(2) -> Expand[b, 2, 4, s, d] -> Reshape[b, 8, s, d] -> y
    after:   x[b, 2, s, d] -> Gather([0, 0, 0, 0, 1, 1, 1, 1], axis 1) -> y
    """
    found = _repeats(m)
    if found is None:
        return None
    axis, size, times = found
    return op.Gather(m.x, op.constant(np.repeat(np.arange(size, dtype=np.int64), times)), axis=axis)
