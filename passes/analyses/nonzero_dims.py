"""Dims simplified on the assumption that none is 0: fewer cases, so that more dims are equal."""

from __future__ import annotations

from dataclasses import replace

from ... import ir
from ...ir.shapes.evaluate import substitute
from ...ir.shapes.symbolic import Atom, Dim, Expr
from .shapes import Shapes


def unless_empty(dim: Dim) -> Dim:
    """`dim` on the assumption that no size is 0. A rewrite that uses it may give empty results another empty shape."""
    has_functions = isinstance(dim, Expr) and any(atom.arguments for atoms in dim.terms for atom in atoms)
    return substitute(dim, _positive) if has_functions else dim


def dims_unless_empty(shapes: Shapes, value: ir.Value) -> tuple[Dim, ...] | None:
    """The dims of a value on the assumption that no size is 0; None where not even the rank is known."""
    dims = shapes.dims(value)
    return None if dims is None else tuple(map(unless_empty, dims))


def _positive(atom: Atom) -> Dim | None:
    if not atom.arguments and atom.low == 0:  # a size: those that may be negative have no lower bound
        return Expr({(replace(atom, low=1),): 1})
    return substitute(atom.arguments[0], _positive) if atom.name == "nonzero_or" and atom.arguments else None
