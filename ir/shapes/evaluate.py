"""Dims with other values for their symbols: as numbers, or as dims again."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Final

from . import symbolic as d
from .symbolic import Atom, Dim, Expr


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


# --- dims again -------------------------------------------------------------------------------------------------------


def substitute(dim: Dim, replacement: Callable[[Atom], Dim | None]) -> Dim:
    """`dim` with atoms replaced; those that have no replacement stay, with atoms in their arguments replaced."""
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for atoms, factor in dim.terms.items():
        term: Dim = factor
        for atom in atoms:
            other = replacement(atom)
            term = (_applied(atom, replacement) if other is None else other) * term
        total = total + term
    return total


def _applied(atom: Atom, replacement: Callable[[Atom], Dim | None]) -> Dim:
    if not atom.arguments:
        return Expr({(atom,): 1})
    return _OF_DIMS[atom.name](*(substitute(each, replacement) for each in atom.arguments))


_OF_DIMS: Final[Mapping[str, Callable[..., Dim]]] = {
    "floordiv": d.floordiv,
    "mod": d.mod,
    "max": d.maximum,
    "min": d.minimum,
    "broadcast": d.broadcast,
    "nonzero_or": d.nonzero_or,
    "windows": d.windows,
}


def likely(dim: Dim) -> Dim:
    """`dim` as it is in most runs: no size is 0, windows fit, and fresh symbols are what they are likely to be."""
    return substitute(dim, _likely)


def _likely(atom: Atom) -> Dim | None:
    if atom.likely is not None:
        return likely(atom.likely)
    match atom.arguments:
        case (size, other) if atom.name == "nonzero_or" or (atom.name == "max" and other == 0):
            return likely(size)
        case (0, size) if atom.name == "max":
            return likely(size)
        case (room, stride) if atom.name == "windows":
            return d.floordiv(likely(room), stride) + 1
    return None


def symbols(dim: Dim) -> Iterator[Atom]:
    """The symbols in `dim`, and in what its functions are applied to; each as often as it occurs."""
    for atoms in dim.terms if isinstance(dim, Expr) else ():
        for atom in atoms:
            if not atom.arguments:
                yield atom
            for argument in atom.arguments:
                yield from symbols(argument)
