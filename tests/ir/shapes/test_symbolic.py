"""Integers up to symbols: equal text is equal size at every value of the symbols, 0 and 1 included."""

import itertools
import random

import pytest
from optimize_graph.ir.shapes import symbolic as d
from optimize_graph.ir.shapes.evaluate import evaluate
from optimize_graph.passes.analyses.nonzero_dims import unless_empty

N, M = d.named_dim("N"), d.named_dim("M")
FUNCTIONS = {
    "add": (lambda a, b: a + b, lambda a, b: a + b),
    "sub": (lambda a, b: a - b, lambda a, b: a - b),
    "mul": (lambda a, b: a * b, lambda a, b: a * b),
    "floordiv": (d.floordiv, lambda a, b: a // b),
    "mod": (d.mod, lambda a, b: a % b),
    "max": (d.maximum, max),
    "min": (d.minimum, min),
    "nonzero_or": (d.nonzero_or, lambda a, b: a or b),
    "broadcast": (d.broadcast, None),
}


def _broadcast(a: int, b: int) -> int:
    if a != b and 1 not in (a, b):
        raise ZeroDivisionError  # the run fails
    return b if a == 1 else a


@pytest.mark.parametrize("seed", range(100))
def test_expressions_have_the_value_of_what_they_stand_for(seed: int) -> None:
    rng = random.Random(seed)
    points = [dict(zip("NM", pair, strict=True)) for pair in itertools.product((0, 1, 2, 5), repeat=2)]
    made: list[tuple[d.Dim, list[int | None]]] = [(k, [k] * len(points)) for k in (0, 1, 2, 3, -1)]
    made += [(N, [p["N"] for p in points]), (M, [p["M"] for p in points])]
    for _ in range(25):
        name = rng.choice(list(FUNCTIONS))
        symbolic, plain = FUNCTIONS[name]
        (a, left), (b, right) = rng.choice(made), rng.choice(made)
        if name == "broadcast" and not (d.nonnegative(a) and d.nonnegative(b)):
            continue
        numbers: list[int | None] = []
        for x, y in zip(left, right, strict=True):
            try:
                numbers.append(None if x is None or y is None else (plain or _broadcast)(x, y))
            except ZeroDivisionError:
                numbers.append(None)
        result = symbolic(a, b)
        for point, number in zip(points, numbers, strict=True):
            value = evaluate(result, point)
            if number is not None and value is not None:
                assert value == number, (name, str(a), str(b), point)
                lowest = d.low(result)
                assert lowest is None or lowest <= number, (name, str(a), str(b), str(result))
        made.append((result, numbers))


def test_polynomials_are_canonical() -> None:
    assert (N + 1) * (N - 1) == N * N - 1
    assert (N + M) * 2 - M - M == 2 * N
    assert N - N == 0
    assert N * 0 == 0


def test_different_symbols_are_not_equal_and_not_proven_different() -> None:
    assert N != M
    assert not d.differ(N, M)
    assert not d.differ(N, 0)
    assert not d.differ(N, 1)
    assert d.differ(N + 1, 0)
    assert d.differ(N + 2, N)


def test_fresh_symbols_equal_nothing_else() -> None:
    a, b = d.fresh_dim(), d.fresh_dim()
    assert a == a
    assert a != b
    assert a - b != 0


def test_a_symbol_may_be_one_so_that_broadcasting_two_gives_neither() -> None:
    assert d.broadcast(N, M) not in (N, M)
    assert d.broadcast(N, M) == d.broadcast(M, N)
    assert d.broadcast(N, d.broadcast(M, N)) == d.broadcast(N, M)
    assert d.broadcast(N, 1) == N
    assert d.broadcast(N, 5) == 5
    assert d.broadcast(N + 2, M) == N + 2


def test_exact_divisions_cancel() -> None:
    assert d.floordiv(12 * N * M, 4 * N) == 3 * M
    assert d.floordiv(64 * N + 3, 64) == N
    assert d.floordiv(N + 1, 2) != d.floordiv(N, 2)
    assert d.mod(64 * N + 3, 64) == 3


def test_what_grows_beyond_bounds_becomes_a_fresh_symbol_in_bounded_time() -> None:
    grown: d.Dim = N
    for _ in range(1000):
        grown = d.floordiv(grown * (grown + M), 3) + 1
    assert len(str(grown)) < 5000
    assert isinstance(d.named_dim("x" * 10**6) + N, d.Expr)


def test_numbers_beyond_the_range_of_integers_are_not_kept() -> None:
    grown: d.Dim = N
    for _ in range(200):
        grown = grown + grown
    assert d.born(grown) > 0


def test_sizes_that_are_not_empty_leave_one_case_of_min_and_max() -> None:
    clipped = d.maximum(d.minimum(1, d.maximum(1 - N, 0)) * -1 + 1, 0)
    assert clipped != 1
    assert unless_empty(clipped) == 1
    assert unless_empty(N * 2) == N * 2
