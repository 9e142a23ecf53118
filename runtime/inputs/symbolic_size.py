"""Sizes as polynomials with integer coefficients over symbols."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]
UNKNOWN = "\0?"  # prefix of symbols for sizes without any constraint


@dataclass(frozen=True)
class Size:
    """A polynomial with integer coefficients: `terms` are sorted products of symbols, with factors other than 0."""

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def number(cls, number: int) -> Size:
        """The constant polynomial."""
        return cls((((), number),) if number else ())

    @classmethod
    def symbol(cls, name: str) -> Size:
        """The polynomial of one symbol."""
        return cls((((name,), 1),))

    @classmethod
    def of(cls, terms: Mapping[Monomial, int]) -> Size:
        """The polynomial of these terms, sorted and without zeros."""
        return cls(tuple(sorted((monomial, factor) for monomial, factor in terms.items() if factor)))

    @property
    def constant(self) -> int | None:
        """The number, or None when a symbol is left."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols in the order of the terms."""
        return tuple(dict.fromkeys(name for monomial, _ in self.terms for name in monomial))

    @property
    def is_unknown(self) -> bool:
        """Whether a symbol without any constraint occurs."""
        return any(name.startswith(UNKNOWN) for name in self.symbols)

    def __add__(self, other: Size | int) -> Size:
        terms = dict(self.terms)
        for monomial, factor in _as_size(other).terms:
            terms[monomial] = terms.get(monomial, 0) + factor
        return Size.of(terms)

    def __mul__(self, other: Size | int) -> Size:
        terms: dict[Monomial, int] = {}
        for left, one in self.terms:
            for right, two in _as_size(other).terms:
                monomial = tuple(sorted(left + right))
                terms[monomial] = terms.get(monomial, 0) + one * two
        return Size.of(terms)

    def __sub__(self, other: Size | int) -> Size:
        return self + _as_size(other) * -1

    def divided(self, other: Size) -> Size | None:
        """The quotient by one term where it is a polynomial with integer coefficients, else None."""
        if len(other.terms) != 1:
            return Size.number(1) if self == other and self.terms else None
        divisor, factor = other.terms[0]
        quotient: dict[Monomial, int] = {}
        for monomial, number in self.terms:
            left = list(monomial)
            for name in divisor:
                if name not in left:
                    return None
                left.remove(name)
            if number % factor:
                return None
            quotient[tuple(left)] = number // factor
        return Size.of(quotient)

    def substitute(self, values: Mapping[str, Size]) -> Size:
        """The polynomial with symbols replaced by polynomials."""
        if values.keys().isdisjoint(self.symbols):
            return self
        total = Size(())
        for monomial, factor in self.terms:
            product = Size.number(factor)
            for name in monomial:
                product *= values.get(name, Size.symbol(name))
            total += product
        return total

    def evaluate(self, sizes: Mapping[str, int]) -> int | None:
        """The value with these sizes; None where a symbol has none."""
        total = 0
        for monomial, factor in self.terms:
            for name in monomial:
                if name not in sizes:
                    return None
                factor *= sizes[name]
            total += factor
        return total


def _as_size(number: Size | int) -> Size:
    return Size.number(number) if isinstance(number, int) else number


def product(sizes: Iterable[Size]) -> Size:
    """The product of sizes; 1 of none."""
    total = Size.number(1)
    for size in sizes:
        total *= size
    return total
