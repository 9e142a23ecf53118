"""Per-axis constants, and their axis in the input of an operator that only moves elements.

For rules that propagate a constant scale or shift up through Transpose, Reshape, Slice, … to an operator with weights.
Axes count from the end, as in broadcasting: -1 is the last; None means one number for every element.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .... import ir
from ....ir.shapes.symbolic import product
from ...analyses import Shapes
from .linear_ops import Vector

_INDEXING = ("Slice", "Expand", "Gather", "GatherElements", "GatherND", "Tile", "DepthToSpace", "SpaceToDepth", "Trilu")


@dataclass(frozen=True)
class PerAxisConstant:
    """`numbers` along `axis` (negative); a single number where axis is None."""

    numbers: Vector
    axis: int | None = None

    def spread(self) -> Vector:
        """The numbers as an array that broadcasts against a value that has the axis."""
        return self.numbers.reshape(-1, *(1,) * (-self.axis - 1)) if self.axis is not None else self.numbers.reshape(())

    def at(self, axis: int | None) -> PerAxisConstant:
        """The same numbers along another axis."""
        return PerAxisConstant(self.numbers, axis)


def read(content: ir.Array, shapes: Shapes, value: ir.Value) -> PerAxisConstant | None:
    """A constant that broadcasts against `value` as a constant per index of one of its axes.

    None when it varies along two axes, or would raise the rank or a dim of the value.
    """
    dims = shapes.dims(value)
    if dims is None or content.ndim > len(dims) or content.dtype.kind not in "fV":
        return None
    numbers = content.astype(np.float64)
    if content.size == 1:
        return PerAxisConstant(numbers.reshape(1))
    axes = [axis - content.ndim for axis, size in enumerate(content.shape) if size != 1]
    if len(axes) != 1 or dims[axes[0]] != content.shape[axes[0]]:
        return None
    return PerAxisConstant(numbers.reshape(-1), axes[0])


def fits(numbers: PerAxisConstant, shapes: Shapes, value: ir.Value) -> bool:
    """Whether `value` has the axis at full size: an operand that is broadcast along it does not."""
    if numbers.axis is None:
        return True
    dims = shapes.dims(value)
    return dims is not None and len(dims) >= -numbers.axis and dims[numbers.axis] == len(numbers.numbers)


def before(node: ir.Node, numbers: PerAxisConstant, shapes: Shapes) -> PerAxisConstant | None:
    """The equivalent constant of the data input of an operator that only moves elements; None for other operators."""
    source, result = node.inputs[0] if node.inputs else None, node.outputs[0]
    if source is None or node.domain != "":
        return None
    if node.op_type in (*ir.VIEWS, *_INDEXING, "Transpose") and numbers.axis is None:
        return numbers
    if node.op_type == "Transpose":
        order = _order(node, shapes.rank(source))
        return None if order is None else numbers.at(order[numbers.axis or 0] - len(order))
    if node.op_type in ir.VIEWS:
        return _before_view(source, result, numbers, shapes)
    return None


def _order(node: ir.Node, rank: int | None) -> tuple[int, ...] | None:
    perm = ir.attribute(node, "perm")
    if isinstance(perm, (list, tuple)):
        return tuple(int(axis) for axis in perm)
    return None if rank is None else tuple(reversed(range(rank)))


def _before_view(
    source: ir.Value, result: ir.Value, numbers: PerAxisConstant, shapes: Shapes
) -> PerAxisConstant | None:
    """The axis of the source with the same dim and the same product of the dims after it (its stride)."""
    before, after = shapes.dims(source), shapes.dims(result)
    if before is None or after is None or numbers.axis is None:
        return None
    stride = product(after[len(after) + numbers.axis + 1 :])
    for axis in range(-1, -len(before) - 1, -1):
        if before[axis] == after[numbers.axis] and product(before[len(before) + axis + 1 :]) == stride:
            return numbers.at(axis)
    return None
