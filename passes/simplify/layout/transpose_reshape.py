"""Merge Transposes around a view into one between views, and write those that only move dims of 1 as views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .... import ir
from ...analyses import Dim
from ...analyses.symbolic import exact_quotient, product
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, op, values
from ...rewriting.rule import rule
from ..shape.constant_reshape import CONSTANT_TARGET, constant_target
from .merge_transposes import permutation

x, target = values("x target")


def is_view(node: ir.Node | None) -> bool:
    """Whether `node` only changes the dims of a value, not the order of its elements."""
    return node is not None and node.op_type in ir.VIEWS and node.domain == ""


def common_factors(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[list[Dim], list[list[int]], list[list[int]]] | None:
    """The common factors of two lists of dims, and for each dim of either the indices of its factors.

    Dims of 1 have none. None where the dims have no common factorization.
    """
    factors: list[Dim] = []
    groups_a: list[list[int]] = []
    groups_b: list[list[int]] = [[] for _ in b]
    rest_b: list[Dim] = [dim for dim in b if dim != 1]
    indices = [index for index, dim in enumerate(b) if dim != 1]
    at = 0
    for dim in a:
        group: list[int] = []
        while dim != 1:
            if at == len(rest_b):
                return None
            factor, left, right = _common_factor(dim, rest_b[at])
            if factor is None or factor == 1:
                return None
            group.append(len(factors))
            groups_b[indices[at]].append(len(factors))
            factors.append(factor)
            dim, rest_b[at] = left, right
            if right == 1:
                at += 1
        groups_a.append(group)
    return (factors, groups_a, groups_b) if at == len(rest_b) else None


def _common_factor(a: Dim, b: Dim) -> tuple[Dim | None, Dim, Dim]:
    """The smaller of two dims, and the quotients of both by it; None where neither divides the other."""
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
        """The factors in the order of the result."""
        return tuple(self.factors[axis] for axis in self.perm)

    @property
    def is_view(self) -> bool:
        """Whether the permutation is the identity."""
        return self.perm == tuple(sorted(self.perm))

    def grouped(self) -> Layout:
        """The same with adjacent static factors merged into one dim; symbolic ones can be copied by a 0."""
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
        """The same with leading dims of 1."""
        return Layout((1,) * ones + self.factors, (*range(ones), *(axis + ones for axis in self.perm)))


def one_transpose(
    source: Sequence[Dim], first: Sequence[int], view: Sequence[Dim], second: Sequence[int]
) -> Layout | None:
    """Transpose by `first`, view as `view`, transpose by `second`: as one Transpose between two views."""
    common = common_factors([source[axis] for axis in first], view)
    if common is None:
        return None
    factors, groups, view_groups = common
    start = [factor for axis in np.argsort(first) for factor in groups[axis]]
    end = [factor for axis in second for factor in view_groups[axis]]
    index = {factor: at for at, factor in enumerate(start)}
    return Layout(tuple(factors[factor] for factor in start), tuple(index[factor] for factor in end))


@dataclass(frozen=True)
class Plan:
    """A layout with the targets of the views before and after it (None: no view), and its number of operators."""

    layout: Layout
    before: list[int] | None
    after: list[int] | None
    cost: int


def _plans(m: Match) -> Iterator[Plan]:
    source, view, result = m.x.dims, m.view.dims, m.shapes.dims(m.root.outputs[0])
    first, second = permutation(m.inner, m.x.rank), permutation(m.outer, m.view.rank)
    if source is None or view is None or result is None or first is None or second is None:
        return
    plain = one_transpose(source, first, view, second)
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
    """1 where the view before stays, 0 where it merges with a view before it that has no other users."""
    node = m.x.value.producer()
    origin = node.inputs[0] if node is not None and is_view(node) and ir.is_private(m.x.value) else None
    return int(origin is None or constant_target(m.shapes.dims(origin), layout.factors) is None)


def _needed_after(m: Match, layout: Layout) -> int:
    """1 where the view after stays; less where its users are views, which merge with it or become no-ops."""
    result = m.root.outputs[0]
    users = [user for user, _ in result.uses()]
    dims = [m.shapes.dims(user.outputs[0]) for user in users]
    if result.is_graph_output() or not all(map(is_view, users)):
        return 1
    if any(constant_target(layout.transposed, each) is None for each in dims):
        return 1
    return -sum(each == layout.transposed for each in dims)


def _cheapest(m: Match) -> Plan | str:
    mismatch = f"{m.shapes.show(m.inner.value)} to {m.shapes.show(m.view.value)}"
    return min(_plans(m), key=lambda plan: plan.cost, default=mismatch)


_plan = let("a view that splits or groups whole dims", _cheapest)


def _old_cost(m: Match) -> int:
    return 2 + ir.is_private(m.inner.node.outputs[0])


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
        _plan,
        require(
            "fewer operators afterwards",
            lambda m: m[_plan].cost < _old_cost(m),
            lambda m: f"{m[_plan].cost} instead of {_old_cost(m)}",
        ),
    ],
    source="ONNX Transpose, Reshape",
)
def merge_transposes_across_reshape(m: Match, op: Builder) -> ir.Value | None:
    """Merge two Transposes around a view into one between views, which merge with others or are no-ops.

    before:  y = Transpose<perm = [0, 2, 1]>(Reshape(Transpose<perm = [0, 3, 1, 2]>(x), %[a, d, b·c]))
    after:   y = Reshape(x, %[a, b·c, d])        x: [a, b, c, d]
    """
    plan, value = m[_plan], m.x.value
    if plan.before is not None:
        value = op.Reshape(value, plan.before)
    if not plan.layout.is_view:
        value = op.Transpose(value, perm=plan.layout.perm)
    if plan.after is not None:
        value = op.Reshape(value, plan.after)
    return value


def _keeps_order(m: Match) -> bool:
    dims, perm = m.x.dims, permutation(m.Transpose, m.x.rank)
    moved = [axis for axis in perm or () if dims is None or dims[axis] != 1]
    return perm is not None and moved == sorted(moved)


@rule(
    op.Transpose(x).any_attributes().opset(since=5),
    requires=[
        require("a permutation that only moves dims of 1", _keeps_order, lambda m: m.shapes.show(m.x.value)),
        CONSTANT_TARGET,
    ],
    source="ONNX Transpose, Reshape",
    phase=Phase.ORT_SPECIALIZE,  # attention and rotary embedding of one head or row are recognized by their Transposes
)
def trivial_transpose_to_reshape(m: Match, op: Builder) -> ir.Value:
    """Reshape instead of a Transpose that only moves dims of 1, and so no element.

    before:  y = Transpose<perm = [0, 2, 1]>(x)        x: [n, 1, c]
    after:   y = Reshape(x, %[0, c, 1])
    """
    return op.Reshape(m.x, m[CONSTANT_TARGET])
