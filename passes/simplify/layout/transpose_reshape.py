"""Transposes around a view are one Transpose between views; one that moves only dims of 1 is a view itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .... import ir
from ...analyses import Dim
from ...analyses.symbolic import exact_quotient, product
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, op, values
from ...rewriting.rule import rule
from ..shape.constant_reshape import constant_target
from .merge_transposes import permutation

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
    """View as `factors`, transpose by `perm`, view as the result."""

    factors: tuple[Dim, ...]
    perm: tuple[int, ...]

    @property
    def transposed(self) -> tuple[Dim, ...]:
        return tuple(self.factors[axis] for axis in self.perm)

    @property
    def is_view(self) -> bool:
        return self.perm == tuple(sorted(self.perm))

    def grouped(self) -> Layout:
        """The same with numbers that stay side by side as one dim; symbols can be copied where they are."""
        runs: list[list[int]] = []
        for axis in self.perm:
            if (
                runs
                and runs[-1][-1] == axis - 1
                and all(isinstance(self.factors[each], int) for each in (axis - 1, axis))
            ):
                runs[-1].append(axis)
            else:
                runs.append([axis])
        order = sorted(runs)
        dims = tuple(product(self.factors[axis] for axis in run) for run in order)
        return Layout(dims, tuple(order.index(run) for run in runs))

    def led_by(self, ones: int) -> Layout:
        """The same with dims of 1 in front."""
        return Layout((1,) * ones + self.factors, (*range(ones), *(axis + ones for axis in self.perm)))


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
    place = {factor: index for index, factor in enumerate(start)}
    return Layout(tuple(factors[factor] for factor in start), tuple(place[factor] for factor in end))


@dataclass(frozen=True)
class Plan:
    """A layout with the targets of the views before and after it, None where there is nothing to do."""

    layout: Layout
    before: list[int] | None
    after: list[int] | None
    cost: int


def _plans(m: Match) -> Iterator[Plan]:
    source, seen, result = m.x.dims, m.view.dims, m.shapes.dims(m.root.outputs[0])
    order, again = permutation(m.inner, m.x.rank), permutation(m.outer, m.view.rank)
    if source is None or seen is None or result is None or order is None or again is None:
        return
    plain = one_transpose(source, order, seen, again)
    if plain is None:
        return
    ones = next((axis for axis, dim in enumerate(source) if dim != 1), len(source))
    for layout in (plain.led_by(ones), plain, plain.grouped()):
        if layout.is_view:
            layout = Layout(source, tuple(range(len(source))))
        before = constant_target(source, layout.factors)
        after = constant_target(layout.transposed, result)
        if before is not None and after is not None:
            lead = 0 if layout.factors == source else _needed_before(m, layout)
            trail = 0 if layout.transposed == result else _needed_after(m, layout)
            yield Plan(
                layout,
                None if layout.factors == source else before,
                None if layout.transposed == result else after,
                lead + (not layout.is_view) + trail,
            )


def _needed_before(m: Match, layout: Layout) -> int:
    """Whether the view before stays: one that follows another that nobody else reads merges with it."""
    node = m.x.value.producer()
    origin = node.inputs[0] if node is not None and is_view(node) and ir.is_private(m.x.value) else None
    return int(origin is None or constant_target(m.shapes.dims(origin), layout.factors) is None)


def _needed_after(m: Match, layout: Layout) -> int:
    """Whether the view after stays: views that read it merge with it, and go where they restore the dims."""
    result = m.root.outputs[0]
    readers = [user for user, _ in result.uses()]
    dims = [m.shapes.dims(user.outputs[0]) for user in readers]
    if result.is_graph_output() or not all(map(is_view, readers)):
        return 1
    if any(constant_target(layout.transposed, each) is None for each in dims):
        return 1
    return -sum(each == layout.transposed for each in dims)


def _best(m: Match) -> Plan | None:
    return min(_plans(m), key=lambda plan: plan.cost, default=None)


def _is_shorter(m: Match) -> bool:
    plan = _best(m)
    return plan is not None and plan.cost < 2 + ir.is_private(m.inner.node.outputs[0])


@rule(
    op.Transpose(
        OneOf(
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
        require(
            "a view that cuts or groups whole dims",
            lambda m: _best(m) is not None,
            lambda m: f"{m.shapes.show(m.inner.value)} to {m.shapes.show(m.view.value)}",
        ),
        require("fewer operators afterwards", _is_shorter),
    ],
    source="ONNX Transpose, Reshape",
)
def merge_transposes_across_reshape(m: Match, op: Builder) -> ir.Value | None:
    """Two Transposes around a view are one, between views that merge with others or do nothing.

    before:  x[a, b, c, d] -> Transpose(0, 3, 1, 2) -> Reshape[a, d, b·c] -> Transpose(0, 2, 1) -> y
    after:   x[a, b, c, d] -> Reshape[a, b·c, d] -> y
    """
    plan = _best(m)
    if plan is None:
        return None
    value = m.x.value
    if plan.before is not None:
        value = op.Reshape(value, op.constant(np.array(plan.before, dtype=np.int64)))
    if not plan.layout.is_view:
        value = op.Transpose(value, perm=plan.layout.perm)
    if plan.after is not None:
        value = op.Reshape(value, op.constant(np.array(plan.after, dtype=np.int64)))
    return value


def _keeps_order(m: Match) -> bool:
    dims, perm = m.x.dims, permutation(m.Transpose, m.x.rank)
    moved = [axis for axis in perm or () if dims is None or dims[axis] != 1]
    return perm is not None and moved == sorted(moved)


@rule(
    op.Transpose(x).any_attributes().opset(since=5),
    requires=[
        require("an order that only dims of 1 leave", _keeps_order, lambda m: m.shapes.show(m.x.value)),
        require(
            "dims that are numbers, copied from the input, or one -1",
            lambda m: constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0])) is not None,
            lambda m: f"{m.shapes.show(m.x.value)} to {m.shapes.show(m.root.outputs[0])}",
        ),
    ],
    source="ONNX Transpose, Reshape",
    phase=Phase.ORT_SPECIALIZE,  # attention and rotary embedding of one head or row are recognized by their Transposes
)
def trivial_transpose_to_reshape(m: Match, op: Builder) -> ir.Value:
    """A Transpose that moves only dims of 1 moves no element.

    before:  x[n, 1, c] -> Transpose(0, 2, 1) -> y
    after:   x[n, 1, c] -> Reshape[0, c, 1] -> y
    """
    found = constant_target(m.x.dims, m.shapes.dims(m.root.outputs[0]))
    return op.Reshape(m.x, op.constant(np.array(found, dtype=np.int64)))
