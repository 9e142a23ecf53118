"""Sizes as polynomials over symbols, and equations between them that sizes of inputs must satisfy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]
MOST_TERMS = 24  # beyond that an expression is as good as unknown
MOST_SIZE = 1 << 24  # no dim of a made input is larger
MOST_TRIED = 16  # equations that no elimination solves: each costs up to a tenth of a second
UNKNOWN = "\0?"  # prefix of symbols that stand for sizes which nothing is known about


@dataclass(frozen=True)
class Size:
    """A polynomial with integer coefficients: `terms` are sorted products of symbols, with factors other than 0."""

    terms: tuple[tuple[Monomial, int], ...]

    @classmethod
    def number(cls, number: int) -> Size:
        return cls((((), number),) if number else ())

    @classmethod
    def symbol(cls, name: str) -> Size:
        return cls((((name,), 1),))

    @classmethod
    def of(cls, terms: Mapping[Monomial, int]) -> Size:
        return cls(tuple(sorted((monomial, factor) for monomial, factor in terms.items() if factor)))

    @property
    def constant(self) -> int | None:
        """The number, or None when a symbol is left."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for monomial, _ in self.terms for name in monomial))

    @property
    def is_unknown(self) -> bool:
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
        """The number that it is with these sizes; None where a symbol has none."""
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
    total = Size.number(1)
    for each in sizes:
        total *= each
    return total


@dataclass
class Equations:
    """What sizes must satisfy, in the order in which the model states it.

    `equal`: the expression is 0. `alike`: the two are equal, or one of them is 1 (broadcasting). `multiples`: the
    first is divisible by the second. `least`: the first is at least the second. `quotients` defines derived symbols:
    the largest whole number that is at most the expression over the number.
    """

    equal: list[Size] = field(default_factory=list)
    alike: list[tuple[Size, Size]] = field(default_factory=list)
    multiples: list[tuple[Size, int]] = field(default_factory=list)
    least: list[tuple[Size, int]] = field(default_factory=list)
    quotients: dict[str, tuple[Size, int]] = field(default_factory=dict)
    _names: dict[tuple[Size, int], str] = field(default_factory=dict)
    _count: int = 0

    def unknown(self) -> Size:
        """A size that nothing is known about."""
        self._count += 1
        return Size.symbol(f"{UNKNOWN}{self._count}")

    def bounded(self, size: Size) -> Size:
        return size if len(size.terms) <= MOST_TERMS else self.unknown()

    def floor_div(self, size: Size, divisor: int) -> Size:
        whole = size.divided(Size.number(divisor)) if divisor else None
        if whole is not None:
            return whole
        number = size.constant
        if number is not None and divisor:
            return Size.number(number // divisor)
        if divisor <= 0 or size.is_unknown:
            return self.unknown()
        key = size, divisor
        if key not in self._names:
            self._names[key] = f"\0/{len(self._names)}"
            self.quotients[self._names[key]] = key
        return Size.symbol(self._names[key])

    def require_equal(self, one: Size, two: Size) -> None:
        difference = one - two
        if difference.symbols and not difference.is_unknown:
            self.equal.append(difference)

    def require_alike(self, one: Size, two: Size) -> None:
        if 1 not in (one.constant, two.constant) and (one - two).symbols and not (one - two).is_unknown:
            self.alike.append((one, two))

    def require_multiple(self, size: Size, divisor: int) -> None:
        if divisor > 1 and size.symbols and not size.is_unknown and size.divided(Size.number(divisor)) is None:
            self.multiples.append((size, divisor))

    def require_least(self, size: Size, number: int) -> None:
        if number > 1 and size.symbols and not size.is_unknown:
            self.least.append((size, number))

    def solve(self, wanted: Mapping[str, int], kept: frozenset[str] = frozenset()) -> dict[str, int]:
        """Sizes near `wanted` that satisfy the equations as far as that is possible.

        `kept`: symbols that are changed last (batch sizes, and what the caller has chosen).
        """
        return _Solver(self, wanted, kept).solve()


def _roundest(low: int, high: int) -> int:
    """The number from `low` to `high` with the most factors of 2."""
    step = 1
    while -(-low // (2 * step)) * 2 * step <= high:
        step *= 2
    return -(-low // step) * step


class _Solver:
    """Gaussian elimination as far as it goes, then numbers: each equation that still does not hold moves one symbol."""

    def __init__(self, equations: Equations, wanted: Mapping[str, int], kept: frozenset[str]) -> None:
        self.equations, self.wanted, self.kept = equations, wanted, kept
        self.values: dict[str, Size] = {}
        self.known: dict[str, Size | None] = {}  # quotients as polynomials, with `values` put in

    def solve(self) -> dict[str, int]:
        pending = list(dict.fromkeys(self.equations.equal))
        while pending:
            left = [each for each in pending if not self._solved(each)]
            if len(left) == len(pending):
                break
            pending = left
        for each in pending[:MOST_TRIED]:
            self._solve_by_numbers(each)
        for one, two in dict.fromkeys(self.equations.alike):
            self._make_alike(one, two)
        for size, divisor in dict.fromkeys(self.equations.multiples):
            self._make_multiple(size, divisor)
        for _ in range(2):
            for size, number in dict.fromkeys(self.equations.least):
                self._grow(size, number)
        return self._sizes()

    # --- what is known so far -----------------------------------------------------------------------------------------

    def _sizes(self) -> dict[str, int]:
        """The size of every symbol of the inputs, with what was solved so far."""
        sizes = {}
        for name, wanted in self.wanted.items():
            number = self._number(name, {})
            sizes[name] = wanted if number is None or not 0 <= number <= MOST_SIZE else number
        return sizes

    def _reduced(self, size: Size) -> Size:
        """`size` with what is solved put in."""
        size = size.substitute(self.values)
        quotients = {name: self._quotient(name) for name in size.symbols if name in self.equations.quotients}
        return size.substitute({name: value for name, value in quotients.items() if value is not None})

    def _quotient(self, name: str) -> Size | None:
        """A derived symbol as a polynomial, where what was solved makes it one."""
        if name not in self.known:
            size, divisor = self.equations.quotients[name]
            size = self._reduced(size)
            number = size.constant
            self.known[name] = (
                Size.number(number // divisor) if number is not None else size.divided(Size.number(divisor))
            )
        return self.known[name]

    def _bases(self, size: Size) -> set[str]:
        """The symbols that are no quotients and that `size` depends on."""
        found: set[str] = set()
        pending, seen = list(size.symbols), set(size.symbols)
        while pending:
            name = pending.pop()
            if name in self.equations.quotients:
                inner = set(self.equations.quotients[name][0].symbols) - seen
                seen |= inner
                pending += inner
            elif name in self.values:
                inner = set(self.values[name].symbols) - seen
                seen |= inner
                pending += inner
            else:
                found.add(name)
        return found

    def _bind(self, name: str, value: Size) -> bool:
        if name in self.values or name not in self.wanted or name in self._bases(value):
            return False
        number = value.constant
        if number is not None and not 0 <= number <= MOST_SIZE:
            return False
        self.values = {each: old.substitute({name: value}) for each, old in self.values.items()}
        self.values[name] = value
        self.known = {}
        return True

    # --- equations ----------------------------------------------------------------------------------------------------

    def _solved(self, equation: Size) -> bool:
        """Whether `equation` holds now, was made to hold, or cannot."""
        rest = self._reduced(equation)
        names = rest.symbols
        if not names:
            return True
        linear = [name for name in names if sum(name in monomial for monomial, _ in rest.terms) == 1]
        for name in sorted(linear, key=lambda each: (each in self.kept, names.index(each))):
            factor = next((factor for monomial, factor in rest.terms if monomial == (name,)), 0)
            if not factor:
                continue
            others = (rest - Size.symbol(name) * factor) * -1
            value = others.divided(Size.number(factor))
            if name in self.equations.quotients and value is not None and value.constant is not None:
                return self._invert(name, value.constant)
            if value is not None and self._may_be(value) and self._bind(name, value):
                return True
        return self._common_factor(rest)

    def _may_be(self, value: Size) -> bool:
        """Whether a symbol may become this polynomial: a number, or one that is positive with the sizes at hand."""
        number = value.constant if value.constant is not None else self._evaluate(value, {})
        return number is not None and number >= (0 if value.constant is not None else 1)

    def _common_factor(self, rest: Size) -> bool:
        """`B * H - B * 5 = 0`: divide by what all terms share."""
        shared = [name for name in rest.symbols if all(name in monomial for monomial, _ in rest.terms)]
        if not shared or len(rest.terms) < 2:
            return False
        quotient = rest.divided(Size.symbol(shared[0]))
        return quotient is not None and self._solved(quotient)

    def _invert(self, name: str, number: int) -> bool:
        """Make a quotient `number`: of the values that do, the one with the most factors of 2."""
        low = high = number
        while name in self.equations.quotients:
            size, divisor = self.equations.quotients[name]
            rest = self._reduced(size)
            if low < 0 or len(rest.symbols) != 1 or any(len(monomial) > 1 for monomial, _ in rest.terms):
                return False
            (name,) = rest.symbols
            factor, offset = dict(rest.terms)[(name,)], dict(rest.terms).get((), 0)
            if factor < 0:
                return False
            low, high = -((offset - low * divisor) // factor), (high * divisor + divisor - 1 - offset) // factor
            if low > high:
                return False
        return high >= 1 and self._bind(name, Size.number(_roundest(max(low, 1), high)))

    def _solve_by_numbers(self, equation: Size) -> None:
        """Products of several symbols, sums of several, quotients of sums: try numbers, the same for all at first."""
        names = self._free(equation)
        if not names or self._holds(equation):
            return
        movable = [name for name in names if name not in self.kept] or names
        for group in (movable, names, *([name] for name in movable), *([name] for name in names)):
            if any(self._try(equation, dict.fromkeys(group, number)) for number in range(1, 1025)):
                return
        if len(movable) > 1:
            self._factorize(equation, movable)

    def _factorize(self, equation: Size, names: list[str]) -> None:
        first, *others = names
        for number in range(1, 257):
            for other in range(1, 257):
                if self._try(equation, {first: number, **dict.fromkeys(others, other)}):
                    return

    def _free(self, size: Size) -> list[str]:
        """The symbols of inputs that `size` depends on and that are not bound, in the order of the inputs."""
        bases = self._bases(size)
        return [name for name in self.wanted if name in bases]

    def _holds(self, equation: Size) -> bool:
        return self._evaluate(equation, {}) == 0

    def _evaluate(self, size: Size, trial: Mapping[str, int]) -> int | None:
        """`size` with `trial` for some free symbols; only what it depends on is computed."""
        total = 0
        for monomial, factor in size.terms:
            for name in monomial:
                number = self._number(name, trial)
                if number is None:
                    return None
                factor *= number
            total += factor
        return total

    def _number(self, name: str, trial: Mapping[str, int]) -> int | None:
        if name in trial:
            return trial[name]
        if name in self.values:
            return self._evaluate(self.values[name], trial)
        if name in self.equations.quotients:
            size, divisor = self.equations.quotients[name]
            number = self._evaluate(size, trial)
            return None if number is None else number // divisor
        return self.wanted.get(name)

    def _try(self, equation: Size, trial: Mapping[str, int]) -> bool:
        if self._evaluate(equation, trial) != 0:
            return False
        for name, number in trial.items():
            self._bind(name, Size.number(number))
        return True

    # --- what is not an equation --------------------------------------------------------------------------------------

    def _make_alike(self, one: Size, two: Size) -> None:
        sizes = self._evaluate(one, {}), self._evaluate(two, {})
        if None in sizes or 1 in sizes or sizes[0] == sizes[1]:
            return
        if not self._solved(one - two):
            self._solve_by_numbers(one - two)

    def _make_multiple(self, size: Size, divisor: int) -> None:
        number = self._evaluate(size, {})
        if number is None or number % divisor == 0:
            return
        names = self._free(size)
        for name in sorted(names, key=lambda each: (each in self.kept, -self.wanted[each])):
            start = self.wanted[name]
            for step in range(1, divisor + 1):
                found = next(
                    (n for n in (start + step, start - step) if n > 0 and self._divides(size, divisor, {name: n})), None
                )
                if found is not None:
                    self._bind(name, Size.number(found))
                    return

    def _divides(self, size: Size, divisor: int, trial: Mapping[str, int]) -> bool:
        number = self._evaluate(size, trial)
        return number is not None and number % divisor == 0

    def _grow(self, size: Size, number: int) -> None:
        names = self._free(size)
        movable = [name for name in names if name not in self.kept] or names
        found = self._evaluate(size, {})
        if found is None or found >= number or not movable:
            return
        for name in sorted(movable, key=lambda each: -self.wanted[each]):
            exact = self._reduced(size)
            terms = dict(exact.terms)
            if exact.symbols == (name,) and set(terms) <= {(), (name,)} and terms[(name,)] > 0:
                self._bind(name, Size.number(math.ceil((number - terms.get((), 0)) / terms[(name,)])))
                return
            least = self.wanted[name]
            while least <= 4096:
                least *= 2
                grown = self._evaluate(size, {name: least})
                if grown is not None and grown >= number:
                    self._bind(name, Size.number(least))
                    return
