"""Transposes around a view are one Transpose between views; one that moves only dims of 1 is a view itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ... import ir
from ..analyses import Dim
from ..analyses.dims import exact_quotient, product
from ..engine.conditions import holds
from ..engine.pattern import Either, op, values
from ..engine.rule import Builder, Match, rule
from .merge_transposes import permutation
from .static_reshape import constant_target

VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

x, target = values("x target")


def is_view(node: ir.Node | None) -> bool:
    """Whether `node` only says how the same elements are counted."""
    return node is not None and node.op_type in VIEWS and node.domain == ""


def common_factors(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[list[Dim], list[list[int]], list[list[int]]] | None:
    """Dims that both `a` and `b` are groups of, and for each dim of either the factors that it consists of.

    Dims of 1 consist of none. None where the dims cannot be cut into common factors.
    """
    factors: list[Dim] = []
    groups_a: list[list[int]] = []
    groups_b: list[list[int]] = [[] for _ in b]
    rest_b: list[Dim] = [dim for dim in b if dim != 1]
    places = [index for index, dim in enumerate(b) if dim != 1]
    at = 0
    for dim in a:
        group: list[int] = []
        while dim != 1:
            if at == len(rest_b):
                return None
            factor, left, right = _cut(dim, rest_b[at])
            if factor is None or factor == 1:
                return None
            group.append(len(factors))
            groups_b[places[at]].append(len(factors))
            factors.append(factor)
            dim, rest_b[at] = left, right
            if right == 1:
                at += 1
        groups_a.append(group)
    return (factors, groups_a, groups_b) if at == len(rest_b) else None


def _cut(a: Dim, b: Dim) -> tuple[Dim | None, Dim, Dim]:
    """The smaller of two dims, and what is left of each."""
    if a == b:
        return a, 1, 1
    if a != 0 and b != 0:
        if (quotient := exact_quotient(a, b)) is not None:
            return b, quotient, 1
        if (quotient := exact_quotient(b, a)) is not None:
            return a, 1, quotient
    return None, a, b


@dataclass(frozen=True)
class Layout:
    """View as `factors`, transpose by `perm` (None: not at all), view as the result."""

    factors: list[Dim]
    perm: list[int] | None

    @property
    def transposed(self) -> list[Dim]:
        return self.factors if self.perm is None else [self.factors[axis] for axis in self.perm]


def one_transpose(
    given: Sequence[Dim], order: Sequence[int], seen: Sequence[Dim], again: Sequence[int]
) -> Layout | None:
    """Transpose by `order`, view as `seen`, transpose by `again`: as one Transpose between two views."""
    found = common_factors([given[axis] for axis in order], seen)
    if found is None:
        return None
    factors, groups, seen_groups = found
    start = [factor for axis in np.argsort(order) for factor in groups[axis]]
    end = [factor for axis in again for factor in seen_groups[axis]]
    runs: list[list[int]] = []  # numbers that stay side by side are one dim; symbols can be copied as they are
    follows = dict(pairwise(start))
    for factor in end:
        last = runs[-1][-1] if runs else None
        numbers = last is not None and isinstance(factors[last], int) and isinstance(factors[factor], int)
        if last is not None and numbers and follows.get(last) == factor:
            runs[-1].append(factor)
        else:
            runs.append([factor])
    runs_in = sorted(runs, key=lambda run: start.index(run[0]))
    dims = [product(factors[factor] for factor in run) for run in runs_in]
    perm = [runs_in.index(run) for run in runs]
    return Layout(dims, None if perm == sorted(perm) else perm)


def _layout(m: Match) -> Layout | None:
    source, seen = m.x.dims, m.view.dims
    order, again = permutation(m.inner, m.x.rank), permutation(m.outer, m.view.rank)
    if source is None or seen is None or order is None or again is None:
        return None
    return one_transpose(source, order, seen, again)


def _targets(m: Match) -> tuple[Layout, list[int] | None, list[int] | None] | None:
    """The layout with the targets of the views before and after it; a target is None where there is nothing to do."""
    layout, source, result = _layout(m), m.x.dims, m.shapes.dims(m.root.outputs[0])
    if layout is None or source is None or result is None:
        return None
    if layout.perm is None:
        view = constant_target(source, result)
        return None if view is None else (layout, None, None if source == result else view)
    before = constant_target(source, tuple(layout.factors))
    after = constant_target(tuple(layout.transposed), result)
    if before is None or after is None:
        return None
    return (
        layout,
        None if tuple(layout.factors) == tuple(source) else before,
        None if tuple(layout.transposed) == tuple(result) else after,
    )


def _is_shorter(m: Match) -> bool:
    """Whether fewer operators remain: a view next to a view that nobody else reads merges with it."""
    found = _targets(m)
    if found is None:
        return False
    layout, before, after = found
    inner, result = m.inner.node, m.root.outputs[0]
    source = m.x.value.producer()
    merges_before = is_view(source) and ir.is_private(m.x.value)
    merges_after = not result.is_graph_output() and all(is_view(user) for user, _ in result.uses())
    needed = (
        (before is not None and not merges_before)
        + (layout.perm is not None)
        + (after is not None and not merges_after)
    )
    return needed < 2 + ir.is_private(inner.outputs[0])


@rule(
    op.Transpose(
        Either(
            tuple(
                pattern.any_attributes().named("view")
                for transposed in (op.Transpose(x).any_attributes().named("inner").shared(),)
                for pattern in (
                    op.Reshape(transposed, target),
                    op.Flatten(transposed),
                    op.Squeeze(transposed, target.optional()),
                    op.Unsqueeze(transposed, target.optional()),
                )
            )
        )
    )
    .any_attributes()
    .named("outer")
    .opset(since=5),
    requires=[
        holds(
            "a view that cuts or groups whole dims",
            lambda m: _targets(m) is not None,
            lambda m: f"{m.shapes.show(m.inner.value)} to {m.shapes.show(m.view.value)}",
        ),
        holds("fewer operators afterwards", _is_shorter),
    ],
    source="ONNX Transpose, Reshape",
)
def merge_transposes_around_view(m: Match, op: Builder) -> ir.Value | None:
    """Two Transposes around a view are one, between views that merge with others or do nothing.

    before:  x[a, b, c, d] -> Transpose(0, 3, 1, 2) -> Reshape[a, d, b·c] -> Transpose(0, 2, 1) -> y
    after:   x[a, b, c, d] -> Reshape[a, b·c, d] -> y
    """
    found = _targets(m)
    if found is None:
        return None
    layout, before, after = found
    value = m.x.value
    if before is not None:
        value = op.Reshape(value, op.constant(np.array(before, dtype=np.int64)))
    if layout.perm is not None:
        value = op.Transpose(value, perm=layout.perm)
    if after is not None:
        value = op.Reshape(value, op.constant(np.array(after, dtype=np.int64)))
    return value


def _keeps_order(m: Match) -> bool:
    dims, perm = m.x.dims, permutation(m.Transpose, m.x.rank)
    moved = [axis for axis in perm or () if dims is None or dims[axis] != 1]
    return perm is not None and moved == sorted(moved)


@rule(
    op.Transpose(x).any_attributes().opset(since=5),
    requires=[
        holds("an order that only dims of 1 leave", _keeps_order, lambda m: m.shapes.show(m.x.value)),
        holds(
            "dims that are numbers, copied from the input, or one -1",
            lambda m: constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0])) is not None,
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    source="ONNX Transpose, Reshape",
)
def reshape_instead_of_transpose(m: Match, op: Builder) -> ir.Value:
    """A Transpose that moves only dims of 1 moves no element.

    before:  x[n, 1, c] -> Transpose(0, 2, 1) -> y
    after:   x[n, 1, c] -> Reshape[0, c, 1] -> y
    """
    found = constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0]))
    return op.Reshape(m.x, op.constant(np.array(found, dtype=np.int64)))
