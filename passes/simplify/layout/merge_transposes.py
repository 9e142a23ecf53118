"""Merge Transposes that follow each other, and Transposes between Reshapes that only group dims."""

from __future__ import annotations

from .... import ir
from ...analyses.symbolic import low, product
from ...rewriting.builder import Builder
from ...rewriting.constraints import let
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, first, second = values("x first second")


def permutation(transpose: Operand, rank: int | None) -> tuple[int, ...] | None:
    """The permutation of a Transpose; reversed dims by default, which needs the rank."""
    perm = transpose.integers("perm")
    return perm if perm is not None or rank is None else tuple(reversed(range(rank)))


def _compose(m: Match) -> tuple[int, ...] | str:
    inner, outer = permutation(m.inner, m.x.rank), permutation(m.outer, m.x.rank)
    if inner is None or outer is None:
        return f"the rank of {m.x.value.name!r} is not known"
    return tuple(inner[axis] for axis in outer)


_composed = let("permutations that are known", _compose)


@rule(
    op.Transpose(op.Transpose(x).any_attributes().named("inner").shared()).any_attributes().named("outer"),
    requires=[_composed],
    source="ONNX Transpose",
)
def merge_transposes(m: Match, op: Builder) -> ir.Value:
    """Compose two Transposes. If the first has other users it stays for them, and nothing is computed twice.

    before:  y = Transpose<perm = q>(Transpose<perm = p>(x))
    after:   y = Transpose<perm = p[q]>(x)
    """
    return op.Transpose(m.x, perm=m[_composed])


_GROUPED_SWAP = op.Reshape(
    op.Transpose(op.Reshape(x, first).any_attributes().named("grouped"), perm=(0, 2, 1)), second
).any_attributes()


def _rank_of_swap(m: Match) -> int | str:
    """The rank of x where the targets are [a·b, m, n] and [a, b, …, n, m] for its dims [a, b, …, m, n].

    The first dim may be -1, too. A 0 in a target copies a dim, so that dims which are 0 at run time matter: with m = 0
    the second Reshape fails (it has no dim to copy there), with a = 0 both give the same; the others are proven
    positive.
    """
    dims = m.x.dims
    grouped, ungrouped = m.shapes.shape_value(m.first.value), m.shapes.shape_value(m.second.value)
    mismatch = f"{m.shapes.show(m.x.value)} to {grouped}"
    if dims is None or len(dims) < 4:
        return mismatch
    batch, *leading, rows, columns = dims
    fits = (
        grouped is not None
        and grouped[0] in (-1, product((batch, *leading)))
        and grouped[1:] == (rows, columns)
        and ungrouped == (batch, *leading, columns, rows)
        and all((low(dim) or 0) >= 1 for dim in (*leading, columns))
    )
    return len(dims) if fits else mismatch


_rank = let("Reshapes that group the leading dims and ungroup them again", _rank_of_swap)


@rule(
    _GROUPED_SWAP,
    requires=[_rank],
    source="torch 2.13 exporter: the key's transpose in scaled_dot_product_attention",
    benefit=1,
)
def cancel_reshapes_around_transpose(m: Match, op: Builder) -> ir.Value:
    """Transpose the last two dims directly instead of grouping the others.

    before:  y = Reshape(Transpose<perm = [0, 2, 1]>(Reshape(x, %[a·b, m, n])), %[a, b, n, m])
    after:   y = Transpose<perm = [0, 1, 3, 2]>(x)        x: [a, b, m, n]
    """
    rank = m[_rank]
    return op.Transpose(m.x, perm=[*range(rank - 2), rank - 1, rank - 2])


def _regroup(m: Match) -> tuple[int, ...] | str:
    """The dims of the result, where the leading dims of x are grouped for the swap and ungrouped into others."""
    dims, result, grouped = m.x.dims, m.shapes.static(m.root.outputs[0]), m.grouped.dims
    mismatch = f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}"
    if dims is None or result is None or grouped is None or min(len(dims), len(result)) < 4:
        return mismatch
    rows, columns = dims[-2:]
    fits = grouped[1:] == (rows, columns) and result[-2:] == (columns, rows) and 0 not in result
    return result if fits and dims[:-2] != result[:-2] else mismatch


_regrouped = let("Reshapes that group the leading dims and ungroup them into other known dims", _regroup)


@rule(
    _GROUPED_SWAP,
    requires=[_regrouped],
    source="torch 2.13 exporter: the key's transpose in scaled_dot_product_attention of grouped queries",
)
def sink_transpose_below_reshape(m: Match, op: Builder) -> ir.Value:
    """Reshape the leading dims to those of the result, then transpose the last two.

    before:  y = Reshape(Transpose<perm = [0, 2, 1]>(Reshape(x, %[a·b·c, m, n])), %[a, b·c, n, m])
    after:   y = Transpose<perm = [0, 1, 3, 2]>(Reshape(x, %[a, b·c, m, n]))        x: [a, b, c, m, n]
    """
    result = m[_regrouped]
    *leading, columns, rows = result
    rank = len(result)
    reshaped = op.Reshape(m.x, [*leading, rows, columns])
    return op.Transpose(reshaped, perm=[*range(rank - 2), rank - 1, rank - 2])
