"""An operand of a match: a value that a name of the pattern is bound to, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ... import ir
from ..analyses import Dim, Shapes
from .pattern import Bound


@dataclass(frozen=True)
class Operand:
    """A bound name, with what is known about it. An absent optional input is an operand too: `present` is False."""

    name: str
    bound: Bound | None
    shapes: Shapes

    @property
    def present(self) -> bool:
        """Whether an optional input is given."""
        return self.bound is not None

    @property
    def value(self) -> ir.Value:
        """The value itself. Raises LookupError for an absent optional input."""
        if self.bound is None:
            raise LookupError(f"optional input {self.name!r} is absent")
        return self.bound.value

    @property
    def node(self) -> ir.Node:
        """The node of a call. Raises LookupError for a plain value."""
        if self.bound is None or self.bound.node is None:
            raise LookupError(f"{self.name!r} is not a call of the pattern")
        return self.bound.node

    @property
    def is_constant(self) -> bool:
        """Whether the value is a constant that no caller can override."""
        return self.bound is not None and ir.is_constant(self.bound.value)

    @property
    def array(self) -> ir.Array:
        """The content of a constant. Raises LookupError when it is none: require `constant(…)`."""
        content = ir.constant(self.value)
        if content is None:
            raise LookupError(f"{self.name!r} is not constant")
        return content

    def array_or(self, default: float) -> ir.Array:
        """The content of a constant, or `default` where the optional input is absent."""
        return self.array if self.present else np.asarray(default)

    @property
    def scalar(self) -> float | int | bool | None:
        """The number in a constant of one element, else None."""
        return ir.scalar(self.bound.value) if self.bound is not None else None

    @property
    def dtype(self) -> ir.DataType | None:
        """The element type, where it is known."""
        return self.shapes.dtype(self.value)

    @property
    def rank(self) -> int | None:
        """The rank, where it is known."""
        return self.shapes.rank(self.value)

    @property
    def dims(self) -> tuple[Dim, ...] | None:
        """The dims, where the rank is known."""
        return self.shapes.dims(self.value)

    @property
    def static(self) -> tuple[int, ...] | None:
        """The dims, when all of them are known numbers."""
        return self.shapes.static(self.value)

    @property
    def attributes(self) -> Mapping[str, ir.Attr]:
        """The attributes that a call was given, to be handed on as they are."""
        return dict(self.node.attributes)

    def attribute(self, name: str) -> object:
        """An attribute of a call, or its schema default."""
        return ir.attribute(self.node, name)

    def number(self, name: str, default: float = 0.0) -> float:
        """A float attribute of a call, or its schema default, or `default`."""
        value = self.attribute(name)
        return float(value) if isinstance(value, (int, float)) else default

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute of a call, or its schema default, or `default`."""
        value = self.attribute(name)
        return value if isinstance(value, int) else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An integer list attribute of a call, or its schema default, or None."""
        value = self.attribute(name)
        return tuple(int(each) for each in value) if isinstance(value, (list, tuple)) else None

    def parameter(self, name: str) -> object:
        """See `ir.parameter`: an attribute at some opsets, an input at others."""
        return ir.parameter(self.node, name)
