"""Operator calls as inference rules see them, and the table of the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from .... import ir
from ..dim_solver import Equations
from ..symbolic_size import Size

MAX_ELEMENTS = 64  # of an integer tensor whose elements are tracked
MICROSOFT, ML = "com.microsoft", "ai.onnx.ml"
Dims: TypeAlias = tuple[Size, ...]


@dataclass(frozen=True)
class SymbolicTensor:
    """Facts about a tensor: element type, dims (None: unknown rank), elements of small integer tensors.

    `below`: what exceeds each element of an integer tensor, such as the number of positions.
    """

    dtype: ir.DataType | None = None
    dims: Dims | None = None
    elements: tuple[Size | None, ...] | None = None
    below: Size | None = None


Results: TypeAlias = Sequence[SymbolicTensor | None]


class Facts(Protocol):
    """What the walk over a model knows so far: facts about values, and the constraints collected."""

    equations: Equations
    tensors: dict[ir.Value, SymbolicTensor]

    def walk(self, graph: ir.Graph) -> None:
        """Infer the values of a body."""

    def tensor_of(self, value: ir.Value) -> SymbolicTensor:
        """The facts about a value."""

    def constant_of(self, value: ir.Value) -> SymbolicTensor:
        """The facts about a constant."""


@dataclass(frozen=True)
class Call:
    """A node with the facts about its operands; adds the constraints that the operator states."""

    collector: Facts
    node: ir.Node
    inputs: Results

    @property
    def op_type(self) -> str:
        """The operator's name, without its domain."""
        return self.node.op_type

    @property
    def equations(self) -> Equations:
        """The constraints collected so far."""
        return self.collector.equations

    # --- operands and attributes --------------------------------------------------------------------------------------

    def tensor(self, index: int) -> SymbolicTensor | None:
        """The facts about an operand; None when it is absent."""
        return self.inputs[index] if index < len(self.inputs) else None

    def required(self, index: int) -> SymbolicTensor:
        """The facts about an operand. Raises ValueError when it is absent."""
        tensor = self.inputs[index]
        if tensor is None:
            raise ValueError(f"expected input {index} of {self.op_type}, got none")
        return tensor

    def dims(self, index: int) -> Dims | None:
        """The dims of an operand; None when it is absent or of unknown rank."""
        tensor = self.tensor(index)
        return None if tensor is None else tensor.dims

    def dtype(self, index: int) -> ir.DataType | None:
        """The element type of an operand; None when it is absent or unknown."""
        tensor = self.tensor(index)
        return None if tensor is None else tensor.dtype

    def elements(self, index: int) -> tuple[Size | None, ...] | None:
        """The symbolic elements of a small integer operand; None when they are unknown."""
        tensor = self.tensor(index)
        return None if tensor is None else tensor.elements

    def constant(self, index: int) -> list[int] | None:
        """The elements of an integer operand that is constant, else None."""
        elements = self.elements(index)
        if elements is None:
            return None
        values = [None if element is None else element.constant for element in elements]
        return None if None in values else [value or 0 for value in values]

    def attribute(self, name: str) -> object:
        """The value of an attribute, or its schema default."""
        return ir.attribute(self.node, name)

    def integers(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """The integers of an attribute, or `default`."""
        value = self.attribute(name)
        return [int(element) for element in value] if isinstance(value, (tuple, list)) else list(default)

    def integer(self, name: str, default: int = 0) -> int:
        """The integer of an attribute, or `default`."""
        value = self.attribute(name)
        return value if isinstance(value, int) else default

    def string(self, name: str, default: str = "") -> str:
        """The string of an attribute, or `default`."""
        value = self.attribute(name)
        return value if isinstance(value, str) else default

    def length_of(self, name: str) -> int:
        """The number of elements of an attribute; 0 when it is absent."""
        value = self.attribute(name)
        return len(value) if isinstance(value, (tuple, list)) else 0

    # --- constraints --------------------------------------------------------------------------------------------------

    def unknown(self) -> Size:
        """A fresh symbol for a size without any constraint."""
        return self.equations.unknown()

    def sizes(self, elements: Sequence[Size | None]) -> Dims:
        """Elements as dims, with a fresh symbol for each that is unknown."""
        return tuple(self.unknown() if element is None else element for element in elements)

    def equal(self, one: Size, two: Size | int) -> None:
        """Require that two sizes are equal."""
        self.equations.require_equal(one, Size.number(two) if isinstance(two, int) else two)

    def broadcast(self, *shapes: Dims | None) -> Dims | None:
        """The dims after multidirectional broadcasting: aligned dims are equal or 1. None where a rank is unknown."""
        ranked = [dims for dims in shapes if dims is not None]
        if len(ranked) < len(shapes) or not ranked:
            return None
        result = []
        for axis in range(-max(map(len, ranked)), 0):
            aligned = [dims[axis] for dims in ranked if len(dims) >= -axis]
            best = aligned[0]
            for size in aligned[1:]:
                self.equations.require_alike(best, size)
                if best.constant == 1 or (size.constant not in (None, 1) and best.constant is None):
                    best = size
            result.append(best)
        return tuple(result)

    def require_within(self, indices: SymbolicTensor | None, rows: Size) -> None:
        """Require that `indices` are within a table of so many rows."""
        if indices is not None and indices.below is not None:
            self.equations.require_most(indices.below, rows)

    def equal_dims(self, one: Dims, two: Dims) -> None:
        """Require that two shapes of one rank are equal. Raises ValueError when the ranks differ."""
        for left, right in zip(one, two, strict=True):
            self.equal(left, right)

    def require_broadcast_into(self, tensor: SymbolicTensor | None, dims: Dims | None) -> None:
        """Require unidirectional broadcasting: `tensor` is broadcast to `dims`, which stay as they are."""
        if tensor is None or tensor.dims is None or dims is None:
            return
        for one, two in zip(reversed(tensor.dims), reversed(dims), strict=False):
            if one.constant in (None, 1):
                self.equations.require_alike(one, two)
            else:
                self.equal(one, two)


Rule: TypeAlias = Callable[[Call], Results | None]
"""Infers the results of a call, and adds its constraints; None leaves the results to onnx's own inference."""
RULES: Final[dict[tuple[str, str], Rule]] = {}


def infers(op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register the rule of operators, by domain and name."""

    def register(rule: Rule) -> Rule:
        RULES.update(((domain, op_type), rule) for op_type in op_types.split())
        return rule

    return register
