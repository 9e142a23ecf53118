"""GatherND whose indices are aranges along the axes of its data, as Gathers along single axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .... import ir
from ...analyses import Dim
from ...rewriting.builder import Builder
from ...rewriting.constraints import let
from ...rewriting.match import Match
from ...rewriting.pattern import op, values, variadic
from ...rewriting.rule import rule

(x,) = values("x")


def _source(value: ir.Value, *op_types: str) -> ir.Value | None:
    """The first operand of the producer of `value`, when it is one of these operators."""
    node = value.producer()
    return node.inputs[0] if node is not None and node.domain == "" and node.op_type in op_types else None


def _arange_of(part: ir.Value, m: Match) -> tuple[int, ir.Value] | None:
    """The axis along which indices are 0, 1, 2, …, broadcast along the others, and the value of their Range."""
    value, dims = _source(part, "Unsqueeze", "Reshape"), m.shapes.dims(part)
    if value is None or dims is None or m.shapes.dims(value) != dims[:-1]:
        return None
    inner = _source(value, "Expand")
    if inner is not None and m.shapes.rank(inner) == m.shapes.rank(value):
        value = inner
    axes = [axis for axis, dim in enumerate(m.shapes.dims(value) or ()) if dim != 1]
    if len(axes) != 1:
        return None
    while (inner := _source(value, "Unsqueeze", "Reshape")) is not None:
        before, after = m.shapes.dims(inner), m.shapes.dims(value)
        if before is None or after is None or [d for d in before if d != 1] != [d for d in after if d != 1]:
            return None
        value = inner
    arange = value.producer()
    if arange is None or arange.op_type != "Range" or arange.domain != "":
        return None
    start, limit, step = arange.inputs
    return (axes[0], value) if limit is not None and ir.scalar(start) == 0 and ir.scalar(step) == 1 else None


@dataclass(frozen=True)
class _Indices:
    """For each axis of the data the arange that indexes it, and the dims of 1 that the result has besides."""

    data_dims: tuple[Dim, ...]
    aranges: Sequence[ir.Value]
    unit_axes: list[int]


def _find_indices(m: Match) -> _Indices | str:
    parts, mismatch = m.variadic("part"), m.shapes.show(m.tuple.value)
    dims, result = m.x.dims, m.shapes.dims(m.root.outputs[0])
    if dims is None or result is None or len(parts) != len(dims):
        return mismatch
    if m.tuple.rank is None or m.tuple.integer("axis") not in (-1, m.tuple.rank - 1):
        return mismatch
    if m.GatherND.integer("batch_dims"):
        return f"batch_dims = {m.GatherND.integer('batch_dims')}"
    found = [arange for part in parts if (arange := _arange_of(part.value, m)) is not None]
    axes = [axis for axis, _ in found]
    others = [axis for axis in range(len(result)) if axis not in axes]
    if len(found) < len(parts) or axes != sorted(set(axes)) or any(result[axis] != 1 for axis in others):
        return mismatch
    return _Indices(dims, [arange for _, arange in found], others)


_indices = let("an arange along an axis of its own for each axis of x, in order", _find_indices)


@rule(
    op.GatherND(x, op.Concat(variadic("part")).any_attributes("axis").named("tuple").shared())
    .any_attributes("batch_dims")
    .opset(since=13),
    requires=[_indices],
    source="torch 2.13 exporter: the padding mask of transformers' masking_utils, indexed by arange",
)
def gather_nd_to_gather(m: Match, op: Builder) -> ir.Value:
    """Gather along each axis of the data that is not taken whole, and insert the dims of 1.

    before:  y = GatherND(x, Concat<axis = -1>(arange(b)[:, None, None, None], arange(n)[None, None, :, None]))
    after:   y = Unsqueeze(Gather<axis = 1>(x, arange(n)), %[1])        x: [b, l], y: [b, 1, n]
    """
    found = m[_indices]
    result: ir.Value = m.x.value
    for axis, arange in enumerate(found.aranges):
        if m.shapes.dims(arange) != (found.data_dims[axis],):
            result = op.Gather(result, arange, axis=axis)
    if not found.unit_axes:
        return op.Identity(result)
    return op.Unsqueeze(result, axes=found.unit_axes)
