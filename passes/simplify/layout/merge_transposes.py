"""Transposes that follow each other, alone or around a Reshape that only groups dims, are one."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...analyses.symbolic import low, product
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, first, second = values("x first second")


def permutation(transpose: Operand, rank: int | None) -> tuple[int, ...] | None:
    """The perm of a Transpose; reversed dims by default, which needs the rank."""
    given = transpose.integers("perm")
    return given if given is not None or rank is None else tuple(reversed(range(rank)))


def _both(m: Match) -> tuple[int, ...] | None:
    inner, outer = permutation(m.inner, m.x.rank), permutation(m.outer, m.x.rank)
    return None if inner is None or outer is None else tuple(inner[axis] for axis in outer)


@rule(
    op.Transpose(op.Transpose(x).any_attributes().named("inner").shared()).any_attributes().named("outer"),
    requires=[require("permutations that are known", lambda m: _both(m) is not None)],
    source="ONNX Transpose",
)
def merge_transposes(m: Match, op: Builder) -> ir.Value:
    """Two Transposes are one. Others may read the first: it stays for them, and nothing is done twice.

    before:  x -> Transpose(p) -> Transpose(q) -> y
    after:   x -> Transpose(p[q]) -> y
    """
    both = _both(m)
    assert both is not None
    return op.Transpose(m.x, perm=both)


_SWAP_OF_GROUPS = op.Reshape(
    op.Transpose(op.Reshape(x, first).any_attributes().named("grouped"), perm=(0, 2, 1)), second
).any_attributes()


def _swaps_last_two(m: Match) -> bool:
    """Whether the targets are [a·b, m, n] and [a, b, …, n, m] for x of dims [a, b, …, m, n] (-1 for the first, too).

    A 0 in a target copies a dim, so dims that turn out 0 need a look: with m = 0 the second Reshape fails (it has no
    dim to copy at that place), with a = 0 both give the same; the others are proven positive.
    """
    given = m.x.dims
    if given is None or len(given) < 4:
        return False
    batch, *leading, rows, columns = given
    grouped, parted = m.shapes.shape_value(m.first.value), m.shapes.shape_value(m.second.value)
    return (
        grouped is not None
        and grouped[0] in (-1, product((batch, *leading)))
        and grouped[1:] == (rows, columns)
        and parted == (batch, *leading, columns, rows)
        and all((low(dim) or 0) >= 1 for dim in (*leading, columns))
    )


@rule(
    _SWAP_OF_GROUPS,
    requires=[
        require(
            "Reshapes that group the leading dims and part them again",
            _swaps_last_two,
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.shape_value(m.first.value)}",
        )
    ],
    source="torch 2.13 exporter: the key's transpose in scaled_dot_product_attention",
    benefit=1,
)
def cancel_reshapes_around_transpose(m: Match, op: Builder) -> ir.Value:
    """Swap the last two dims in place instead of grouping the others for it.

    before:  x[a, b, m, n] -> Reshape[a·b, m, n] -> Transpose(0, 2, 1) -> Reshape[a, b, n, m] -> y
    after:   x[a, b, m, n] -> Transpose(0, 1, 3, 2) -> y
    """
    rank = m.x.rank
    assert rank is not None
    return op.Transpose(m.x, perm=[*range(rank - 2), rank - 1, rank - 2])


def _regroups(m: Match) -> tuple[int, ...] | None:
    """The dims of the result, where the leading dims of x are grouped for the swap and parted another way."""
    given, result = m.x.dims, m.shapes.static(m.root.outputs[0])
    grouped = m.grouped.dims
    if given is None or result is None or grouped is None or min(len(given), len(result)) < 4:
        return None
    rows, columns = given[-2:]
    fits = grouped[1:] == (rows, columns) and result[-2:] == (columns, rows) and 0 not in result
    return result if fits and given[:-2] != result[:-2] else None


@rule(
    _SWAP_OF_GROUPS,
    requires=[
        require(
            "Reshapes that group the leading dims and part them another way, into known sizes",
            lambda m: _regroups(m) is not None,
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        )
    ],
    source="torch 2.13 exporter: the key's transpose in scaled_dot_product_attention of grouped queries",
)
def sink_transpose_below_reshape(m: Match, op: Builder) -> ir.Value:
    """Part the leading dims as they will be, then swap the last two in place.

    before:  x[a, b, c, m, n] -> Reshape[a·b·c, m, n] -> Transpose(0, 2, 1) -> Reshape[a, b·c, n, m] -> y
    after:   x[a, b, c, m, n] -> Reshape[a, b·c, m, n] -> Transpose(0, 1, 3, 2) -> y
    """
    *leading, columns, rows = _regroups(m) or ()
    parted = op.Reshape(m.x, op.constant(np.array([*leading, rows, columns], dtype=np.int64)))
    rank = len(leading) + 2
    return op.Transpose(parted, perm=[*range(rank - 2), rank - 1, rank - 2])
