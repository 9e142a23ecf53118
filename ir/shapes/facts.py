"""Facts about one value, and the tables of inference rules by operator.

A *dims rule* infers the dims of each output of a node, an *elements rule* the elements of a small integer result. Rules
hold in every run that succeeds, at every size of the symbols, 0 and 1 included. A run that fails needs no facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from ... import ir
from .evaluate import evaluate
from .symbolic import Dim, fresh_dim

Dims = tuple[Dim, ...]
Elements = npt.NDArray[np.object_]
"""An array of Dims."""

MOST_ELEMENTS: Final = 64
"""Tensors with more elements are data, not shapes."""

INTEGERS: Final = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
"""Types whose elements are tracked. A size counts as smaller than 2**31 - 1, so that int32 holds it."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Type, dims and elements of a value; None where unknown. A known `dtype` implies a tensor.

    `elements` are those of a small integer tensor, row by row; booleans are 0 and 1.
    """

    dtype: ir.DataType | None
    dims: Dims | None = None
    elements: Dims | None = None

    @property
    def static(self) -> tuple[int, ...] | None:
        """The dims, when all of them are numbers."""
        if self.dims is None:
            return None
        known = tuple(dim for dim in self.dims if isinstance(dim, int))
        return known if len(known) == len(self.dims) else None

    @property
    def bytes(self) -> int | None:
        """The size of a tensor; None where it is not known and for strings."""
        dims = self.static
        if self.dtype is None or dims is None or self.dtype == ir.DataType.STRING:
            return None
        return (prod(dims) * self.dtype.bitwidth + 7) // 8

    def bound(self, bindings: Mapping[str, int]) -> Fact:
        """The same where the symbols have these values; nothing is known of dims where they do not suffice."""
        if self.dims is None or self.static is not None:
            return self
        sizes = [evaluate(dim, bindings) for dim in self.dims]
        known = tuple(size for size in sizes if size is not None)
        return Fact(self.dtype, known if len(known) == len(sizes) else None)


UNKNOWN: Final = Fact(None)


class NothingKnownError(Exception):
    """An inference rule lacks a fact that it needs."""


@dataclass(frozen=True, slots=True)
class Call:
    """A node with the facts about its inputs; `None` where an optional input is absent.

    The methods that give a plain result raise NothingKnownError where it is not known.
    """

    node: ir.Node
    inputs: Sequence[Fact | None]

    def has(self, index: int) -> bool:
        """Whether an input is present."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def fact(self, index: int) -> Fact:
        """The facts about an input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise NothingKnownError
        return found

    def dims(self, index: int) -> Dims:
        """The dims of an input."""
        found = self.fact(index).dims
        if found is None:
            raise NothingKnownError
        return found

    def rank(self, index: int) -> int:
        """The rank of an input."""
        return len(self.dims(index))

    def elements(self, index: int) -> Elements:
        """The elements of an input, in its shape."""
        fact = self.fact(index)
        if fact.elements is None or fact.static is None:
            raise NothingKnownError
        return array_of(fact.elements, fact.static)

    def vector(self, index: int) -> Dims:
        """The elements of an input, row by row."""
        found = self.fact(index).elements
        if found is None:
            raise NothingKnownError
        return found

    def numbers(self, index: int) -> tuple[int, ...]:
        """The elements of an input, where all of them are numbers."""
        return plain(self.vector(index))

    def content(self, index: int) -> ir.Array:
        """The content of a constant input of any type."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        found = ir.constant(value)
        if found is None:
            raise NothingKnownError
        return found

    def attribute(self, name: str) -> object:
        """An attribute, or its schema default."""
        return ir.attribute(self.node, name)

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        found = self.attribute(name)
        if found is None:
            return default
        if not isinstance(found, int):
            raise NothingKnownError
        return found

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """An integer-list attribute."""
        found = self.attribute(name)
        if found is None and default is not None:
            return tuple(default)
        if not isinstance(found, (tuple, list)):
            raise NothingKnownError
        return tuple(int(each) for each in found)

    def word(self, name: str, default: str | None = None) -> str:
        """A string attribute."""
        found = self.attribute(name)
        if found is None and default is not None:
            return default
        if not isinstance(found, str):
            raise NothingKnownError
        return found

    def parameter(self, name: str, index: int) -> tuple[int, ...] | None:
        """Integers that are an attribute at some opsets and input `index` at others; None when they are not given."""
        if name in self.node.attributes:
            return self.integers(name)
        return self.numbers(index) if self.has(index) else None

    @property
    def version(self) -> int:
        """The opset of the node."""
        return self.node.version or 0


DimsRule = Callable[[Call], Sequence[Dims | None]]
ElementsRule = Callable[[Call], "Elements | Sequence[Elements]"]
DIMS: Final[dict[str, DimsRule]] = {}
ELEMENTS: Final[dict[str, ElementsRule]] = {}
R = TypeVar("R", DimsRule, ElementsRule)


def dims_of(*operators: str) -> Callable[[DimsRule], DimsRule]:
    """Register the dims rule of standard operators."""
    return _register(DIMS, operators)


def elements_of(*operators: str) -> Callable[[ElementsRule], ElementsRule]:
    """Register the elements rule of standard operators."""
    return _register(ELEMENTS, operators)


def _register(table: dict[str, R], operators: Iterable[str]) -> Callable[[R], R]:
    def register(rule: R) -> R:
        for operator in operators:
            assert operator not in table, operator
            table[operator] = rule
        return rule

    return register


def array_of(elements: Iterable[Dim], shape: Sequence[int]) -> Elements:
    """Dims as an array of this shape."""
    flat = list(elements)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def plain(dims: Iterable[Dim]) -> tuple[int, ...]:
    """Dims that are all numbers. Raises NothingKnownError when one is not."""
    found = []
    for dim in dims:
        if not isinstance(dim, int):
            raise NothingKnownError
        found.append(dim)
    return tuple(found)


def unknown_dims(rank: int) -> Dims:
    """Dims with a fresh symbol each."""
    return tuple(fresh_dim() for _ in range(rank))


def position(axis: int, rank: int) -> int:
    """A non-negative axis. Raises IndexError for one out of range."""
    if not -rank <= axis < rank:
        raise IndexError(axis)
    return axis % rank if rank else 0
