"""Integers that are known, or known up to symbols: sizes of dims and elements of shape tensors.

A `Dim` is an int or an `Expr`: a polynomial with integer coefficients over atoms. An atom is a symbol or a function
that polynomials cannot say (floordiv, mod, max, …), applied to Dims. Polynomials are canonical: equal text means equal
size in every run. Different text proves nothing. sympy says the same a thousand times slower.

An expression that would grow beyond bounds becomes a fresh symbol: less precise, still correct.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Final

_LONGEST: Final = 400  # characters of canonical text; bounds the size, the nesting and the cost of comparing
_LARGEST: Final = 2**62
_counter = count()


@dataclass(frozen=True, slots=True)
class Atom:
    """A symbol (no arguments), or a function of Dims. `born` counts fresh symbols; those of the interface have 0.

    `likely`: what a fresh symbol is in most runs; nothing follows from it.
    """

    text: str
    name: str
    arguments: tuple[Dim, ...]
    low: int | None
    born: int
    likely: Dim | None = None

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Atom) and self.text == other.text


Monomial = tuple[Atom, ...]


class Expr:
    """A polynomial over atoms that is not a plain number. Immutable; `+`, `-`, `*` work with ints and Exprs."""

    __slots__ = ("born", "low", "terms", "text")

    terms: Mapping[Monomial, int]
    text: str
    low: int | None
    """The greatest number that is proven to be no greater than this."""
    born: int
    """When the youngest symbol in it was made."""

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        self.terms = terms
        self.text = "+".join(
            sorted("*".join([str(factor), *(atom.text for atom in atoms)]) for atoms, factor in terms.items())
        )
        self.low = _sum_of_lows(terms)
        self.born = max((atom.born for atoms in terms for atom in atoms), default=0)

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.text == other.text

    def __add__(self, other: Dim) -> Dim:
        if other == 0:
            return self
        total = dict(self.terms)
        for atoms, factor in _terms(other).items():
            total[atoms] = total.get(atoms, 0) + factor
        return _polynomial(total)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return self * -1

    def __sub__(self, other: Dim) -> Dim:
        return self + other * -1

    def __rsub__(self, other: Dim) -> Dim:
        return self * -1 + other

    def __mul__(self, other: Dim) -> Dim:
        if other == 1:
            return self
        if len(self.terms) > 8 and not isinstance(other, int) and len(other.terms) > 8:
            return fresh_integer()
        product: dict[Monomial, int] = {}
        for left, a in self.terms.items():
            for right, b in _terms(other).items():
                atoms = tuple(sorted(left + right, key=_text))
                product[atoms] = product.get(atoms, 0) + a * b
        return _polynomial(product)

    __rmul__ = __mul__

    def __str__(self) -> str:
        words = [_spell(atoms, factor) for atoms, factor in sorted(self.terms.items(), key=_display_order)]
        return " + ".join(words).replace("+ -", "- ")

    __repr__ = __str__


Dim = int | Expr


def _text(atom: Atom) -> str:
    return atom.text


def _terms(dim: Dim) -> Mapping[Monomial, int]:
    return dim.terms if isinstance(dim, Expr) else {(): dim}


def _sum_of_lows(terms: Mapping[Monomial, int]) -> int | None:
    total = 0
    for atoms, factor in terms.items():
        lows = [atom.low for atom in atoms if atom.low is not None]
        if len(lows) < len(atoms) or (atoms and factor < 0) or (len(atoms) > 1 and min(lows) < 0):
            return None
        total += factor * prod(lows)
    return total


def _polynomial(terms: dict[Monomial, int]) -> Dim:
    terms = {atoms: factor for atoms, factor in terms.items() if factor}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    if any(abs(factor) > _LARGEST for factor in terms.values()):
        return fresh_integer()
    made = Expr(terms)
    if len(made.text) <= _LONGEST:
        return made
    return fresh_dim() if nonnegative(made) else fresh_integer()


def _display_order(item: tuple[Monomial, int]) -> tuple[bool, str]:
    atoms, _ = item
    return not atoms, "*".join(map(_text, atoms))


def _spell(atoms: Monomial, factor: int) -> str:
    words = [_spell_atom(atom) for atom in atoms]
    if factor == -1 and words:
        return "-" + "*".join(words)
    return "*".join(([str(factor)] if factor != 1 or not words else []) + words)


def _spell_atom(atom: Atom) -> str:
    if atom.arguments:
        return f"{atom.name}({', '.join(map(str, atom.arguments))})"
    return atom.name


def _symbol(text: str, name: str, low: int | None, born: int, likely: Dim | None = None) -> Expr:
    return Expr({(Atom(text, name, (), low, born, likely),): 1})


def named_dim(name: str, least: int = 0) -> Expr:
    """The size that the interface calls `name`: the same wherever it says so; 0 and 1 are sizes too.

    Of a name that is too long to handle, nothing is known.
    """
    return _symbol(repr(name), name, least, 0) if len(name) <= _LONGEST // 4 else fresh_dim()


def fresh_dim(likely: Dim | None = None) -> Expr:
    """A size of which nothing is known, not even that it equals another, though it may be `likely` in most runs."""
    born = next(_counter) + 1
    return _symbol(f"?{born}", "?", 0, born, likely)


def fresh_integer() -> Expr:
    """An integer of which nothing is known, not even its sign."""
    born = next(_counter) + 1
    return _symbol(f"?{born}", "?", None, born)


def born(dim: Dim) -> int:
    """The largest `born` of the symbols in `dim`; 0 for numbers and symbols of the interface."""
    return dim.born if isinstance(dim, Expr) else 0


def low(dim: Dim) -> int | None:
    """The greatest number that is proven to be no greater than `dim`."""
    return dim.low if isinstance(dim, Expr) else dim


def nonnegative(dim: Dim) -> bool:
    """Whether `dim >= 0` is proven."""
    return at_least(dim, 0)


def at_least(dim: Dim, bound: Dim) -> bool:
    """Whether `dim >= bound` is proven."""
    lowest = low(dim) if isinstance(bound, int) else low(dim - bound)
    return lowest is not None and lowest >= (bound if isinstance(bound, int) else 0)


def differ(a: Dim, b: Dim) -> bool:
    """Whether `a != b` is proven."""
    return at_least(a, b + 1) or at_least(b, a + 1)


def _apply(name: str, arguments: tuple[Dim, ...], lowest: int | None) -> Dim:
    text = f"{name}({','.join(each.text if isinstance(each, Expr) else str(each) for each in arguments)})"
    if len(text) > _LONGEST:
        return fresh_integer() if lowest is None or lowest < 0 else fresh_dim()
    return Expr({(Atom(text, name, arguments, lowest, max(map(born, arguments))),): 1})


def product(dims: Iterable[Dim]) -> Dim:
    """The product of `dims`; 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def floordiv(a: Dim, b: Dim) -> Dim:
    """`a // b`, rounded down; `b` is not 0 in a run that succeeds."""
    if isinstance(b, int):
        if isinstance(a, int):
            return a // b if b else fresh_integer()
        if b == 1:
            return a
        if b > 0:
            whole, rest = _split(a, b)
            if isinstance(rest, int):
                return whole + rest // b
            lowest = low(rest)
            return whole + _apply("floordiv", (rest, b), None if lowest is None else lowest // b)
    elif (exact := exact_quotient(a, b)) is not None:
        return exact
    return _apply("floordiv", (a, b), 0 if nonnegative(a) and nonnegative(b) else None)


def exact_quotient(a: Dim, b: Dim) -> Dim | None:
    """`q` with `a == q * b` as polynomials; None when there is none, or none is found."""
    terms = _terms(b)
    if len(terms) != 1:
        return 1 if a == b else _long_division(a, b)
    ((divisor, number),) = terms.items()
    if number == 0:
        return None
    quotient: dict[Monomial, int] = {}
    for atoms, factor in _terms(a).items():
        left = list(atoms)
        for atom in divisor:
            if atom not in left:
                return None
            left.remove(atom)
        if factor % number:
            return None
        quotient[tuple(left)] = factor // number
    return _polynomial(quotient)


def _long_division(a: Dim, b: Dim) -> Dim | None:
    """The quotient of polynomials by their leading terms."""
    quotient: Dim = 0
    for _ in range(len(_terms(a))):
        part = exact_quotient(_leading(a), _leading(b))
        if part is None:
            return None
        quotient, a = quotient + part, a - b * part
        if a == 0:
            return quotient
    return None


def _leading(dim: Dim) -> Dim:
    atoms, factor = max(_terms(dim).items(), key=lambda term: (len(term[0]), *map(_text, term[0])))
    return _polynomial({atoms: factor})


def mod(a: Dim, b: Dim) -> Dim:
    """`a % b` with the sign of `b` (Python's); `b` is not 0 in a run that succeeds."""
    if isinstance(b, int) and b > 0:
        _, rest = _split(a, b)
        return rest % b if isinstance(rest, int) else _apply("mod", (rest, b), 0)
    if isinstance(a, int) and isinstance(b, int) and b:
        return a % b
    return _apply("mod", (a, b), 0 if nonnegative(b) else None)


def _split(a: Dim, b: int) -> tuple[Dim, Dim]:
    """`whole, rest` with `a == whole * b + rest`; every factor of `rest` lies in 0 … b-1."""
    terms = _terms(a)
    whole = _polynomial({atoms: factor // b for atoms, factor in terms.items()})
    return whole, _polynomial({atoms: factor % b for atoms, factor in terms.items()})


def maximum(a: Dim, b: Dim) -> Dim:
    """The greater of two."""
    if at_least(a, b):
        return a
    if at_least(b, a):
        return b
    lows = [each for each in (low(a), low(b)) if each is not None]
    return _apply("max", _ordered(a, b), max(lows, default=None))


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of two."""
    if at_least(a, b):
        return b
    if at_least(b, a):
        return a
    one, other = low(a), low(b)
    return _apply("min", _ordered(a, b), None if one is None or other is None else min(one, other))


def broadcast(*dims: Dim) -> Dim:
    """The size that dims broadcast to in a run that succeeds: the one that is not 1, or 1.

    Without proof that one of two is not 1 (or that both are equal) this is neither of them.
    """
    operands: dict[Dim, None] = {}
    for dim in dims:
        for each in _arguments(dim, "broadcast") or (dim,):
            operands[each] = None
    operands.pop(1, None)
    if len(operands) <= 1:
        return next(iter(operands), 1)
    for dim in list(operands):
        parts = _arguments(dim, "nonzero_or")
        if parts and parts[0] in operands:
            del operands[dim]  # they differ where parts[0] is 0, and there the other must be 0 or 1
        parts = _arguments(dim, "min")
        if any(part in operands and all(at_least(each, 2) for each in parts if each != part) for part in parts):
            del operands[dim]  # min(n, 2 or more) is 1 only where n is, else broadcasting makes it equal n
    for dim in operands:
        if isinstance(dim, int) or at_least(dim, 2):
            return dim
    return dim if len(operands) == 1 else _apply("broadcast", _ordered(*operands), 0)


def equals_if_broadcast(dim: Dim, full: Dim) -> bool:
    """Whether `dim` is proven to equal `full`, not to be 1 alone, in every run in which it broadcasts to it."""
    parts = _arguments(dim, "min")  # min(n, 2 or more) is 1 only where n is
    return dim == full or (full in parts and all(at_least(part, 2) for part in parts if part != full))


def _arguments(dim: Dim, function: str) -> tuple[Dim, ...]:
    """The arguments, where `dim` is nothing but this function of them."""
    if isinstance(dim, Expr) and len(dim.terms) == 1:
        ((atoms, factor),) = dim.terms.items()
        if factor == 1 and len(atoms) == 1 and atoms[0].name == function:
            return atoms[0].arguments
    return ()


def nonzero_or(a: Dim, b: Dim) -> Dim:
    """`a`, or `b` where `a` is 0."""
    if at_least(a, 1) or a == b:
        return a
    if isinstance(a, int):
        return b if a == 0 else a
    if isinstance(b, int) and b == 0:
        return a
    dividend = next(iter(_arguments(b, "floordiv")), b)
    if len(a.terms) == 1 and exact_quotient(dividend, _monic(a)) is not None:
        return a  # where a is 0, so is b
    one, other = low(a), low(b)
    if one is not None and other is not None:
        return _apply("nonzero_or", (a, b), min(max(one, 1), other) if one >= 0 else min(one, other))
    return _apply("nonzero_or", (a, b), None)


def _monic(a: Expr) -> Dim:
    """The term of a one-term polynomial without its factor and with each atom once: 0 exactly where `a` is 0."""
    ((atoms, _),) = a.terms.items()
    return _polynomial({tuple(sorted(set(atoms), key=_text)): 1})


def windows(room: Dim, stride: int) -> Dim:
    """How many positions a window has that can be moved by up to `room`.

    Where it is larger than what it slides over, runtimes differ: there is no window, or one, or an error.
    """
    if stride == 1:
        return maximum(room + 1, 0)
    return floordiv(room, stride) + 1 if nonnegative(room) else _apply("windows", (room, stride), 0)


def _ordered(*dims: Dim) -> tuple[Dim, ...]:
    return tuple(sorted(dims, key=lambda each: each.text if isinstance(each, Expr) else str(each)))
