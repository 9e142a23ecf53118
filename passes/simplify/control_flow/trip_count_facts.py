"""Comparisons of the iteration counter that the trip count implies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .... import ir
from ....ir.shapes.symbolic import nonnegative
from ...analyses import Dim, Shapes
from .scan_loops import number_in, uncast

_COMPARISONS: Final = {"Less": (1, 0, 1), "LessOrEqual": (1, 0, 0), "Greater": (0, 1, 1), "GreaterOrEqual": (0, 1, 0)}
"""The index of the larger operand, that of the smaller, and the least difference."""


@dataclass(frozen=True)
class TripCountFacts:
    """Facts where a condition matters: the trip count is `least` or more, the counter at most the trip count - 2.

    `offsets`: values that are the counter plus a number.
    """

    shapes: Shapes
    count: ir.Value
    trips: Dim
    offsets: Mapping[ir.Value, int]
    least: int

    def remainder(self, condition: ir.Value) -> ir.Value | None:
        """The part of a conjunction that is not implied; None where all of it is."""
        node = ir.origin(condition).producer()
        if ir.scalar(condition) is True or (node is not None and self._is_implied(node)):
            return None
        if node is None or node.op_type != "And" or node.domain != "" or None in node.inputs:
            return condition
        a, b = (value for value in node.inputs if value is not None)
        left, right = self.remainder(a), self.remainder(b)
        if left is None or right is None:
            return right if left is None else left
        return condition

    def _is_implied(self, node: ir.Node) -> bool:
        if node.op_type not in _COMPARISONS or node.domain != "" or None in node.inputs:
            return False
        larger, smaller, gap = _COMPARISONS[node.op_type]
        low, high = self._bound(node.inputs[larger], upper=False), self._bound(node.inputs[smaller], upper=True)
        if low is None or high is None:
            return False
        room = low - high - gap
        return nonnegative(room) or nonnegative(room - self.trips + self.least)

    def _bound(self, value: ir.Value | None, *, upper: bool) -> Dim | None:
        """The least that `value` may be, or the most."""
        if value is None or self.shapes.rank(value) != 0:
            return None
        value, offset = _without_offset(uncast(value, self.shapes), self.shapes)
        if value in self.offsets:
            return offset + self.offsets[value] + (self.trips - 2 if upper else 0)
        number = self.trips if value is self.count else number_in(value, self.shapes)
        return None if number is None else number + offset


def _without_offset(value: ir.Value, shapes: Shapes) -> tuple[ir.Value, int]:
    """`value` as the sum of another value and an integer."""
    total = 0
    while (node := value.producer()) is not None and node.domain == "" and node.op_type in ("Add", "Sub"):
        a, b = node.inputs
        if node.op_type == "Add" and isinstance(ir.scalar(a), (int, float)):
            a, b = b, a
        number = ir.scalar(b)
        if a is None or number is None or not float(number).is_integer():
            break
        total += int(number) if node.op_type == "Add" else -int(number)
        value = uncast(a, shapes)
    return value, total
