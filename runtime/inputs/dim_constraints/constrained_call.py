"""Operator calls as constraint rules see them, and the table of the rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from .... import ir
from ....ir.shapes.facts import Call, Dims, Fact
from ....ir.shapes.symbolic import Dim
from ..dim_solver import Equations

MICROSOFT, ML = "com.microsoft", "ai.onnx.ml"


@dataclass(frozen=True, slots=True)
class ConstrainedCall(Call):
    """A node with the facts about its inputs and results, which takes the constraints that its operator states.

    `below`: what exceeds each element of an integer tensor, such as the number of positions.
    """

    results: Sequence[Fact]
    equations: Equations
    below: MutableMapping[ir.Value, Dim]
    facts: Callable[[ir.Value], Fact]

    def known(self, index: int) -> Dims | None:
        """The dims of an operand; None where it is absent or of unknown rank."""
        return self.fact(index).dims if self.has(index) else None

    def all_known(self, *indices: int) -> list[Dims]:
        """The dims of those operands whose rank is known."""
        return [dims for index in indices if (dims := self.known(index)) is not None]

    def equal(self, one: Dim, two: Dim) -> None:
        """Require that two sizes are equal."""
        self.equations.require_equal(one, two)

    def equal_dims(self, one: Dims | None, two: Dims | None) -> None:
        """Require that two shapes are equal, where both are known. Raises ValueError when the ranks differ."""
        for left, right in zip(one or (), two or (), strict=one is not None and two is not None):
            self.equal(left, right)

    def broadcast(self, *shapes: Dims) -> None:
        """Require multidirectional broadcasting: aligned dims are equal or 1."""
        if all(dims == shapes[0] for dims in shapes):
            return
        for axis in range(-max(map(len, shapes)), 0):
            aligned = [dims[axis] for dims in shapes if len(dims) >= -axis]
            first = next((dim for dim in aligned if isinstance(dim, int) and dim != 1), aligned[0])
            for dim in aligned:
                self.equations.require_alike(first, dim)

    def broadcast_into(self, dims: Dims, *indices: int) -> None:
        """Require unidirectional broadcasting: operands are broadcast to `dims`, which stay as they are."""
        for operand in self.all_known(*indices):
            for one, two in zip(reversed(operand), reversed(dims), strict=False):
                require = self.equal if isinstance(one, int) and one != 1 else self.equations.require_alike
                require(one, two)

    def not_empty(self, first: int) -> None:
        """Require that the dims of the result, from `first` on, are positive: windows fit, padding takes not all."""
        for dim in (self.results[0].dims or ())[first:]:
            self.equations.require_least(dim, 1)

    def within(self, index: int, rows: Dim) -> None:
        """Require that the elements of an operand are indices of a table of so many rows."""
        value = self.node.inputs[index] if self.has(index) else None
        if value is not None and value in self.below:
            self.equations.require_most(self.below[value], rows)

    def bounded(self, bound: Dim) -> None:
        """Note what exceeds the elements of the first result."""
        self.below[self.node.outputs[0]] = bound


Rule: TypeAlias = Callable[[ConstrainedCall], None]
_RULES: Final[dict[tuple[str, str], Rule]] = {}
RULES: Final[Mapping[tuple[str, str], Rule]] = _RULES
"""The constraints of a call, by domain and operator."""


def constrains(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register the constraints of operators."""

    def register(rule: Rule) -> Rule:
        _RULES.update(((domain, op_type), rule) for op_type in op_types)
        return rule

    return register
