"""Gathers of an arange as views, and repeat_interleave (repeated heads) as Gather."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...views.slice_ranges import axis_of
from .constant_reshape import CONSTANT_TARGET

x, indices, axes, shape, target = values("x indices axes shape target")

_MOST = 1 << 12  # indices that are compared, or written


def _takes_all(m: Match) -> bool:
    axis = axis_of(m.root, m.shapes)
    if axis is None or m.x.dims is None or m.indices.array.size > _MOST:
        return False
    size = m.x.dims[axis]
    flat = m.indices.array.reshape(-1).astype(np.int64)
    if not isinstance(size, int) or flat.size != size:
        return False
    return bool(np.array_equal(np.where(flat < 0, flat + size, flat), np.arange(size)))


@rule(
    op.Gather(x, indices).any_attributes("axis").opset(since=5),
    requires=[
        constant("indices"),
        require("every element of the axis in order", _takes_all, lambda m: m.shapes.show(m.x.value)),
        CONSTANT_TARGET,
    ],
    source="ONNX Gather",
)
def arange_gather_to_reshape(m: Match, op: Builder) -> ir.Value:
    """Reshape instead of gathering every element in order.

    before:  y = Gather<axis = 1>(x, %0)        x: [n, 1, c]
    after:   y = Reshape(x, %[0, c])
    """
    return op.Reshape(m.x, m[CONSTANT_TARGET])


def _find_repeats(m: Match) -> tuple[int, int, int] | str:
    """`axis, size, times` where each of `size` elements of an axis is repeated `times` times in a row."""
    dims, unsqueezed, expanded = m.x.dims, m.unsqueezed.dims, m.expanded.dims
    result = m.shapes.dims(m.root.outputs[0])
    mismatch = f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}"
    if dims is None or unsqueezed is None or expanded is None or result is None:
        return mismatch
    for axis, size in enumerate(dims):
        times = expanded[axis + 1] if axis + 1 < len(expanded) else None
        if not isinstance(size, int) or not isinstance(times, int) or size * times > _MOST:
            continue
        before, after = dims[: axis + 1], dims[axis + 1 :]
        fits = (
            unsqueezed == (*before, 1, *after)
            and expanded == (*before, times, *after)
            and result == (*dims[:axis], size * times, *after)
        )
        if fits and size >= 1 and times >= 1:
            return axis, size, times
    return mismatch


_repeats = let("an axis of known size whose elements are repeated a known number of times", _find_repeats)


def _repeats_more_than_once(m: Match) -> bool:
    found = _find_repeats(m)
    return isinstance(found, str) or found[2] > 1


@rule(
    op.Reshape(
        op.Expand(
            op.Unsqueeze(x, axes.optional()).any_attributes().named("unsqueezed")
            | op.Reshape(x, axes).any_attributes().named("unsqueezed"),
            shape,
        ).named("expanded"),
        target,
    ).any_attributes(),
    requires=[_repeats, structural("more than one time", _repeats_more_than_once)],
    source="transformers repeat_kv (models/llama/modeling_llama.py): keys and values of grouped-query attention",
    phase=Phase.SIMPLIFY,
)
def expand_repeat_to_gather(m: Match, op: Builder) -> ir.Value | None:
    """Repeat the elements of an axis by one Gather.

    before:  y = Reshape(Expand(Unsqueeze(x, %[2]), %[b, 2, 4, s, d]), %[b, 8, s, d])        x: [b, 2, s, d]
    after:   y = Gather<axis = 1>(x, %[0, 0, 0, 0, 1, 1, 1, 1])
    """
    axis, size, times = m[_repeats]
    return op.Gather(m.x, np.repeat(np.arange(size, dtype=np.int64), times), axis=axis)
