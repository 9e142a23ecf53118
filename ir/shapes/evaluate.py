"""The numbers that dims are at given sizes of the symbols."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from math import prod
from typing import Final

from .symbolic import Atom, Dim


def evaluate(dim: Dim, bindings: Mapping[str, int]) -> int | None:
    """The number that `dim` is where symbols have these values, by name; None when it needs one that is not given."""
    try:
        return _evaluate(dim, bindings)
    except (LookupError, ValueError, ZeroDivisionError):
        return None


def _evaluate(dim: Dim, bindings: Mapping[str, int]) -> int:
    if isinstance(dim, int):
        return dim
    return sum(factor * prod(_value(atom, bindings) for atom in atoms) for atoms, factor in dim.terms.items())


def _value(atom: Atom, bindings: Mapping[str, int]) -> int:
    if not atom.arguments:  # a fresh symbol goes by its text, "?12", which no interface name equals: those are quoted
        return bindings[atom.name if atom.born == 0 else atom.text]
    return _FUNCTIONS[atom.name](*(_evaluate(each, bindings) for each in atom.arguments))


def _windows(room: int, stride: int) -> int:
    if room < 0:
        raise ValueError("runtimes differ: see `symbolic.windows`")
    return room // stride + 1


_FUNCTIONS: Final[Mapping[str, Callable[..., int]]] = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": max,
    "min": min,
    "broadcast": lambda *sizes: next((size for size in sizes if size != 1), 1),
    "nonzero_or": lambda size, other: size or other,
    "windows": _windows,
}
