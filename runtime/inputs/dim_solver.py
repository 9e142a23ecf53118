"""Constraints on sizes (equalities, broadcasting, multiples, lower bounds), and a solver for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .symbolic_size import UNKNOWN, Size

MAX_TERMS = 24  # of a polynomial; beyond that it is unknown
MAX_SIZE = 1 << 24  # of a dim of a generated input
MAX_TRIED = 16  # equations that elimination does not solve: each costs up to 0.1 s


@dataclass
class Equations:
    """Constraints on sizes, in the order in which the model states them.

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
        """A fresh symbol without any constraint."""
        self._count += 1
        return Size.symbol(f"{UNKNOWN}{self._count}")

    def bounded(self, size: Size) -> Size:
        """`size`, or a fresh symbol when it has too many terms."""
        return size if len(size.terms) <= MAX_TERMS else self.unknown()

    def floor_div(self, size: Size, divisor: int) -> Size:
        """The quotient as a polynomial, a number or a derived symbol; unknown for other divisors than positive ones."""
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
        """Add the constraint that two sizes are equal."""
        difference = one - two
        if difference.symbols and not difference.is_unknown:
            self.equal.append(difference)

    def require_alike(self, one: Size, two: Size) -> None:
        """Add the constraint that two sizes are equal or one of them is 1."""
        if 1 not in (one.constant, two.constant) and (one - two).symbols and not (one - two).is_unknown:
            self.alike.append((one, two))

    def require_multiple(self, size: Size, divisor: int) -> None:
        """Add the constraint that `divisor` divides a size."""
        if divisor > 1 and size.symbols and not size.is_unknown and size.divided(Size.number(divisor)) is None:
            self.multiples.append((size, divisor))

    def require_least(self, size: Size, number: int) -> None:
        """Add a lower bound of a size."""
        if number > 1 and size.symbols and not size.is_unknown:
            self.least.append((size, number))

    def require_most(self, size: Size, bound: Size) -> None:
        """Add an upper bound of a size."""
        left = bound - size
        if left.symbols and not left.is_unknown:
            self.least.append((left, 0))

    def solve(self, wanted: Mapping[str, int], kept: frozenset[str] = frozenset()) -> dict[str, int]:
        """Sizes near `wanted` that satisfy the constraints as far as possible.

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
    """Gaussian elimination as far as it goes, then a search: each unsatisfied constraint changes one symbol."""

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
        for each in pending[:MAX_TRIED]:
            self._solve_by_numbers(each)
        for one, two in dict.fromkeys(self.equations.alike):
            self._make_alike(one, two)
        for size, divisor in dict.fromkeys(self.equations.multiples):
            self._make_multiple(size, divisor)
        for _ in range(2):
            for size, number in dict.fromkeys(self.equations.least):
                self._grow(size, number)
        return self._sizes()

    # --- the partial solution -----------------------------------------------------------------------------------------

    def _sizes(self) -> dict[str, int]:
        """The size of every symbol of the inputs under the partial solution."""
        sizes = {}
        for name, wanted in self.wanted.items():
            number = self._number(name, {})
            sizes[name] = wanted if number is None or not 0 <= number <= MAX_SIZE else number
        return sizes

    def _reduced(self, size: Size) -> Size:
        """`size` under the partial solution."""
        size = size.substitute(self.values)
        quotients = {name: self._quotient(name) for name in size.symbols if name in self.equations.quotients}
        return size.substitute({name: value for name, value in quotients.items() if value is not None})

    def _quotient(self, name: str) -> Size | None:
        """A derived symbol as a polynomial, where the partial solution makes it one."""
        if name not in self.known:
            size, divisor = self.equations.quotients[name]
            size = self._reduced(size)
            number = size.constant
            self.known[name] = (
                Size.number(number // divisor) if number is not None else size.divided(Size.number(divisor))
            )
        return self.known[name]

    def _bases(self, size: Size) -> set[str]:
        """The symbols that `size` depends on, without quotients."""
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
        if number is not None and not 0 <= number <= MAX_SIZE:
            return False
        self.values = {each: old.substitute({name: value}) for each, old in self.values.items()}
        self.values[name] = value
        self.known = {}
        return True

    # --- equations ----------------------------------------------------------------------------------------------------

    def _solved(self, equation: Size) -> bool:
        """Solve `equation` for one symbol; True also when it has no free symbol left."""
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
        """Whether a symbol may be this polynomial: a number, or one that is positive with the wanted sizes."""
        number = value.constant if value.constant is not None else self._evaluate(value, {})
        return number is not None and number >= (0 if value.constant is not None else 1)

    def _common_factor(self, rest: Size) -> bool:
        """`B * H - B * 5 = 0`: divide by the common factor, then solve."""
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
        """Search for numbers where elimination fails, the same for all symbols first."""
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
        """The unbound symbols that `size` depends on, in the order of the inputs."""
        bases = self._bases(size)
        return [name for name in self.wanted if name in bases]

    def _holds(self, equation: Size) -> bool:
        return self._evaluate(equation, {}) == 0

    def _evaluate(self, size: Size, trial: Mapping[str, int]) -> int | None:
        """The value of `size` with `trial` for some free symbols."""
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

    # --- other constraints --------------------------------------------------------------------------------------

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
        found = self._evaluate(size, {})
        if found is None or found >= number:
            return
        for name in sorted(self._free(size), key=lambda each: (each in self.kept, -self.wanted[each])):
            exact = self._reduced(size)
            terms = dict(exact.terms)
            if exact.symbols == (name,) and set(terms) <= {(), (name,)}:
                bound, factor = number - terms.get((), 0), terms[(name,)]
                self._bind(name, Size.number(math.ceil(bound / factor) if factor > 0 else bound // factor))
                return
            least = self.wanted[name]
            while least <= 4096:
                least *= 2
                grown = self._evaluate(size, {name: least})
                if grown is not None and grown >= number:
                    self._bind(name, Size.number(least))
                    return
