"""A GatherND whose indices count through the axes of its data takes whole stretches of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values, variadic
from ...rewriting.rule import rule

(x,) = values("x")


def _source(value: ir.Value, m: Match, *op_types: str) -> ir.Value | None:
    """What the operator that makes `value` looks at, when it is one of these views."""
    node = value.producer()
    return node.inputs[0] if node is not None and node.domain == "" and node.op_type in op_types else None


def _count(part: ir.Value, m: Match) -> tuple[int, ir.Value] | None:
    """Of indices 0, 1, 2, … along one axis, repeated along the others: that axis, and the Range that counts."""
    value, dims = _source(part, m, "Unsqueeze", "Reshape"), m.shapes.dims(part)
    if value is None or dims is None or m.shapes.dims(value) != dims[:-1]:
        return None
    inner = _source(value, m, "Expand")
    if inner is not None and m.shapes.rank(inner) == m.shapes.rank(value):
        value = inner
    long = _long(value, m)
    if long is None or len(long) != 1:
        return None
    while (inner := _source(value, m, "Unsqueeze", "Reshape")) is not None:
        before, after = m.shapes.dims(inner), m.shapes.dims(value)
        if before is None or after is None or [d for d in before if d != 1] != [d for d in after if d != 1]:
            return None
        value = inner
    counted = value.producer()
    if counted is None or counted.op_type != "Range" or counted.domain != "":
        return None
    start, limit, step = counted.inputs
    counts = limit is not None and ir.scalar(start) == 0 and ir.scalar(step) == 1
    return (long[0], value) if counts else None


def _long(value: ir.Value, m: Match) -> list[int] | None:
    """The axes that are not known to be 1."""
    dims = m.shapes.dims(value)
    return None if dims is None else [axis for axis, dim in enumerate(dims) if dim != 1]


def _counts(m: Match) -> Sequence[tuple[int, ir.Value]] | None:
    """For each axis of x the axis of the result that it is counted along, and the count; in order, and all others 1."""
    parts = m.variadic("part")
    dims, result = m.x.dims, m.shapes.dims(m.root.outputs[0])
    if dims is None or result is None or len(parts) != len(dims):
        return None
    if (
        m.tuple.rank is None
        or m.tuple.integer("axis") not in (-1, m.tuple.rank - 1)
        or m.GatherND.integer("batch_dims")
    ):
        return None
    found = [_count(part.value, m) for part in parts]
    if any(each is None for each in found):
        return None
    counts = [each for each in found if each is not None]
    places = [place for place, _ in counts]
    others = [dim for place, dim in enumerate(result) if place not in places]
    return counts if places == sorted(set(places)) and all(dim == 1 for dim in others) else None


@rule(
    op.GatherND(x, op.Concat(variadic("part")).any_attributes("axis").named("tuple").shared())
    .any_attributes("batch_dims")
    .opset(since=13),
    requires=[
        require(
            "a count along an axis of its own for each axis of x, in order",
            lambda m: _counts(m) is not None,
            lambda m: m.shapes.show(m.tuple.value),
        )
    ],
    source="torch 2.13 exporter: the padding mask of transformers' masking_utils, indexed by arange",
)
def gather_nd_to_gather(m: Match, op: Builder) -> ir.Value:
    """Take what the indices count through axis by axis, an axis that is taken whole as it is, and add the dims of 1.

    before:  x[b, l] -> GatherND(Concat(arange(b)[:, None, None, None], arange(n)[None, None, :, None])) -> y[b, 1, n]
    after:   x -> Gather(arange(n), axis 1) -> Unsqueeze(1) -> y
    """
    counts = _counts(m)
    dims, rank = m.x.dims, len(m.shapes.dims(m.root.outputs[0]) or ())
    assert counts is not None and dims is not None
    result: ir.Value = m.x.value
    for axis, (_, counted) in enumerate(counts):
        if m.shapes.dims(counted) != (dims[axis],):
            result = op.Gather(result, counted, axis=axis)
    places = {place for place, _ in counts}
    axes = [place for place in range(rank) if place not in places]
    return op.Unsqueeze(result, op.constant(np.array(axes, dtype=np.int64))) if axes else op.Identity(result)
