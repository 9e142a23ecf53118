"""Dims simplified on the assumption that none is 0: fewer cases, so that more dims are equal."""

from __future__ import annotations

from dataclasses import replace

from ... import ir
from ...ir.shapes.symbolic import Atom, Dim, Expr, broadcast, floordiv, maximum, minimum, mod
from .shapes import Shapes


def unless_empty(dim: Dim) -> Dim:
    """`dim` on the assumption that no size is 0. A rewrite that uses it may give empty results another empty shape."""
    has_functions = isinstance(dim, Expr) and any(atom.arguments for atoms in dim.terms for atom in atoms)
    return _simplify(dim) if has_functions else dim


def _simplify(dim: Dim) -> Dim:
    if isinstance(dim, int):
        return dim
    total: Dim = 0
    for atoms, factor in dim.terms.items():
        term: Dim = factor
        for atom in atoms:
            term = _atom(atom) * term
        total = total + term
    return total


def dims_unless_empty(shapes: Shapes, value: ir.Value) -> tuple[Dim, ...] | None:
    """The dims of a value on the assumption that no size is 0; None where not even the rank is known."""
    dims = shapes.dims(value)
    return None if dims is None else tuple(map(unless_empty, dims))


def _atom(atom: Atom) -> Dim:
    if not atom.arguments and atom.low == 0:  # a size: those that may be negative have no lower bound
        return Expr({(replace(atom, low=1),): 1})
    arguments = tuple(_simplify(each) for each in atom.arguments)
    if atom.name == "nonzero_or":
        return arguments[0]
    match atom.name:
        case "broadcast":
            return broadcast(*arguments)
        case "floordiv":
            return floordiv(*arguments)
        case "mod":
            return mod(*arguments)
        case "max":
            return maximum(*arguments)
        case "min":
            return minimum(*arguments)
        case _:
            return Expr({(atom,): 1})
