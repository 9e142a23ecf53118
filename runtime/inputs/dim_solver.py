"""Constraints on sizes (equalities, broadcasting, multiples, lower bounds), and a solver for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...ir.shapes.evaluate import evaluate, substitute, symbols
from ...ir.shapes.symbolic import Atom, Dim, Expr, exact_quotient, floordiv, named_dim

MAX_SIZE = 1 << 24  # of a dim of a generated input
MAX_TRIED = 16  # equations that elimination does not solve: each costs up to 0.1 s


def size_of(dim: int | str) -> Dim:
    """A declared dim of an input that is not empty."""
    return dim if isinstance(dim, int) else named_dim(dim, least=1)


def _is_open(dim: Dim) -> bool:
    """Whether a size depends on symbols of the inputs alone."""
    return isinstance(dim, Expr) and dim.born == 0


@dataclass
class Equations:
    """Constraints on sizes, in the order in which the model states them.

    `equal`: the expression is 0. `alike`: the two are equal, or one of them is 1 (broadcasting). `multiples`: the
    first is divisible by the second. `least`: the first is at least the second.
    """

    equal: list[Dim] = field(default_factory=list)
    alike: list[tuple[Dim, Dim]] = field(default_factory=list)
    multiples: list[tuple[Dim, int]] = field(default_factory=list)
    least: dict[Dim, int] = field(default_factory=dict)

    def require_equal(self, one: Dim, two: Dim) -> None:
        """Add the constraint that two sizes are equal."""
        if _is_open(difference := one - two):
            self.equal.append(difference)

    def require_alike(self, one: Dim, two: Dim) -> None:
        """Add the constraint that two sizes are equal or one of them is 1."""
        if 1 not in (one, two) and _is_open(one - two):
            self.alike.append((one, two))

    def require_multiple(self, size: Dim, divisor: int) -> None:
        """Add the constraint that `divisor` divides a size."""
        if divisor > 1 and _is_open(size) and exact_quotient(size, divisor) is None:
            self.multiples.append((size, divisor))

    def require_least(self, size: Dim, number: int) -> None:
        """Add a lower bound of a size."""
        if isinstance(size, Expr) and size.born == 0 and (size.low is None or size.low < number):
            self.least[size] = max(number, self.least.get(size, number))

    def require_most(self, size: Dim, bound: Dim) -> None:
        """Add an upper bound of a size."""
        self.require_least(bound - size, 0)

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


def _affine(size: Dim) -> tuple[Atom, int, int] | None:
    """`atom, factor, offset` of a size that is `factor * atom + offset`, else None."""
    terms = size.terms if isinstance(size, Expr) else {}
    inner = [atoms for atoms in terms if atoms]
    return (inner[0][0], terms[inner[0]], terms.get((), 0)) if len(inner) == 1 == len(inner[0]) else None


class _Solver:
    """Gaussian elimination as far as it goes, then a search: each unsatisfied constraint changes one symbol."""

    def __init__(self, equations: Equations, wanted: Mapping[str, int], kept: frozenset[str]) -> None:
        self.equations, self.wanted, self.kept = equations, wanted, kept
        self.values: dict[str, Dim] = {}

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
            for size, number in self.equations.least.items():
                self._grow(size, number)
        return self._sizes()

    # --- the partial solution -----------------------------------------------------------------------------------------

    def _sizes(self) -> dict[str, int]:
        """The size of every symbol of the inputs under the partial solution."""
        sizes = {}
        for name, wanted in self.wanted.items():
            number = evaluate(self.values.get(name, wanted), self.wanted)
            sizes[name] = wanted if number is None or not 0 <= number <= MAX_SIZE else number
        return sizes

    def _bound(self, size: Dim) -> Dim:
        """`size` over unbound symbols."""
        return substitute(size, lambda atom: None if atom.arguments else self.values.get(atom.name))

    def _reduced(self, size: Dim) -> Dim:
        """`size` under the partial solution, each function that has cases being what it is with the present sizes."""
        return substitute(size, self._case)

    def _case(self, atom: Atom) -> Dim | None:
        if not atom.arguments:
            return self.values.get(atom.name)
        if atom.name in ("floordiv", "mod"):
            return None
        first, *others = arguments = [self._reduced(each) for each in atom.arguments]
        if atom.name == "windows":
            return floordiv(first, others[0]) + 1
        if atom.name == "max" and 0 in arguments:  # a size, which is required to be positive
            return first if others == [0] else others[0]
        if atom.name == "nonzero_or":
            return first
        number = self._evaluate(Expr({(atom,): 1}))
        return next((each for each in arguments if number is not None and self._evaluate(each) == number), first)

    def _evaluate(self, size: Dim) -> int | None:
        """The value of `size` with the present sizes."""
        return evaluate(self._bound(size), self.wanted)

    def _free(self, size: Dim) -> list[str]:
        """The unbound symbols that `size` depends on, in the order of the inputs."""
        names = {atom.name for atom in symbols(self._bound(size))}
        return [name for name in self.wanted if name in names]

    def _bind(self, name: str, value: Dim) -> bool:
        if name in self.values or name not in self.wanted or name in self._free(value):
            return False
        if isinstance(value, int) and not 0 <= value <= MAX_SIZE:
            return False
        replaced = {name: value}
        self.values = {
            each: substitute(old, lambda atom: None if atom.arguments else replaced.get(atom.name))
            for each, old in self.values.items()
        }
        self.values[name] = value
        return True

    # --- equations ----------------------------------------------------------------------------------------------------

    def _solved(self, equation: Dim) -> bool:
        """Solve `equation` for one symbol; True also when it has no free symbol left."""
        rest = self._reduced(equation)
        if isinstance(rest, int):
            return True
        linear = [atoms[0] for atoms in rest.terms if len(atoms) == 1]
        linear = [atom for atom in linear if sum(atom in atoms for atoms in rest.terms) == 1]
        for atom in sorted(linear, key=lambda each: (each.name in self.kept, each.text)):
            factor = rest.terms[(atom,)]
            value = exact_quotient(Expr({(atom,): factor}) - rest, factor)
            if atom.name == "floordiv" and atom.arguments:
                if isinstance(value, int):
                    return self._invert(atom, value)
            elif value is not None and self._may_be(value) and self._bind(atom.name, value):
                return True
        return self._common_factor(rest)

    def _may_be(self, value: Dim) -> bool:
        """Whether a symbol may be this polynomial: a number, or one that is positive with the wanted sizes."""
        number = self._evaluate(value)
        return number is not None and number >= (0 if isinstance(value, int) else 1)

    def _common_factor(self, rest: Expr) -> bool:
        """`B * H - B * 5 = 0`: divide by the common factor, then solve."""
        first, *others = rest.terms
        shared = [atom for atom in first if all(atom in atoms for atoms in others)]
        quotient = exact_quotient(rest, Expr({(shared[0],): 1})) if shared and others else None
        return quotient is not None and self._solved(quotient)

    def _invert(self, atom: Atom, number: int) -> bool:
        """Make a quotient `number`: of the values that do, the one with the most factors of 2."""
        low = high = number
        while atom.arguments:
            inner, divisor = _affine(atom.arguments[0]), atom.arguments[1]
            if atom.name != "floordiv" or inner is None or not isinstance(divisor, int) or low < 0:
                return False
            atom, factor, offset = inner
            low, high = -((offset - low * divisor) // factor), (high * divisor + divisor - 1 - offset) // factor
            if low > high:
                return False
        return high >= 1 and self._bind(atom.name, _roundest(max(low, 1), high))

    def _solve_by_numbers(self, equation: Dim) -> None:
        """Search for numbers where elimination fails, the same for all symbols first."""
        names = self._free(equation)
        if not names or self._evaluate(equation) == 0:
            return
        equation = self._bound(equation)
        movable = [name for name in names if name not in self.kept] or names
        for group in (movable, names, *([name] for name in movable), *([name] for name in names)):
            if any(self._try(equation, dict.fromkeys(group, number)) for number in range(1, 1025)):
                return
        if len(movable) > 1:
            self._factorize(equation, movable)

    def _factorize(self, equation: Dim, names: list[str]) -> None:
        first, *others = names
        for number in range(1, 257):
            for other in range(1, 257):
                if self._try(equation, {first: number, **dict.fromkeys(others, other)}):
                    return

    def _try(self, equation: Dim, trial: Mapping[str, int]) -> bool:
        if evaluate(equation, {**self.wanted, **trial}) != 0:
            return False
        for name, number in trial.items():
            self._bind(name, number)
        return True

    # --- other constraints --------------------------------------------------------------------------------------------

    def _make_alike(self, one: Dim, two: Dim) -> None:
        sizes = self._evaluate(one), self._evaluate(two)
        if None in sizes or 1 in sizes or sizes[0] == sizes[1]:
            return
        if not self._solved(one - two):
            self._solve_by_numbers(one - two)

    def _make_multiple(self, size: Dim, divisor: int) -> None:
        number = self._evaluate(size)
        if number is None or number % divisor == 0:
            return
        bound = self._bound(size)
        for name in self._by_wanted(size):
            start = self.wanted[name]
            for step in range(1, divisor + 1):
                for tried in (start + step, start - step):
                    number = evaluate(bound, {**self.wanted, name: tried})
                    if tried > 0 and number is not None and number % divisor == 0:
                        self._bind(name, tried)
                        return

    def _by_wanted(self, size: Dim) -> list[str]:
        """The unbound symbols that `size` depends on, in the order in which they are changed: the largest first."""
        return sorted(self._free(size), key=lambda each: (each in self.kept, -self.wanted[each]))

    def _grow(self, size: Dim, number: int) -> None:
        found = self._evaluate(size)
        if found is not None and found >= number:
            return
        exact = _affine(self._reduced(size))
        bound, least = self._bound(size), number
        while exact is not None and exact[0].name == "floordiv" and isinstance(exact[0].arguments[1], int):
            atom, factor, offset = exact
            least = math.ceil((least - offset) / factor) * exact[0].arguments[1]
            exact = _affine(atom.arguments[0]) if factor > 0 else None
        if exact is not None and not exact[0].arguments:
            atom, factor, offset = exact
            self._bind(atom.name, math.ceil((least - offset) / factor) if factor > 0 else (least - offset) // factor)
            return
        for name in self._by_wanted(size):
            tried = self.wanted[name]
            while tried <= 4096:
                tried *= 2
                grown = evaluate(bound, {**self.wanted, name: tried})
                if grown is not None and grown >= number:
                    self._bind(name, tried)
                    return
