"""An attention block: queries, keys and values as views, and what is added to or multiplies their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .... import ir
from ....ir.shapes.facts import Dims
from ...analyses import Dim
from ...rewriting.builder import Builder
from ...views.emit import Step, build, cost, emit
from ...views.view import View

Source = tuple[ir.Value, View]

ABSORBING = -1e30
"""A sum of scores and this or less is this: scores are far below its last place in float32."""


@dataclass(frozen=True)
class Heads:
    """Queries, keys or values: a view [batch, heads, length, size] of each of `sources`, the nearest first."""

    sources: tuple[Source, ...]

    @property
    def dims(self) -> Dims:
        """Batch, heads, length and size; fewer heads than the queries where these share them."""
        return self.sources[0][1].dims

    def cheapest(self, *, merged: bool) -> Plan | None:
        """The fewest operators that give the heads, or merged ones, with those that stay for it."""
        plans = []
        for source, view in self.sources:
            wanted = merge_heads(view) if merged else view
            steps = None if wanted is None else emit(wanted, computed=True)
            if steps is not None:
                plans.append(Plan(source, tuple(steps), frozenset(self.nodes_before(source))))
        return min(plans, key=lambda plan: cost(plan.steps) + len(plan.kept), default=None)

    def nodes_before(self, source: ir.Value) -> Iterator[ir.Node]:
        """The nodes between a source and the farthest one."""
        farthest = self.sources[-1][0]
        while source is not farthest and (node := source.producer()) is not None and node.inputs[0] is not None:
            yield node
            source = node.inputs[0]


@dataclass(frozen=True)
class Plan:
    """Operators that compute something from `source`; `kept`: those of the model that they need."""

    source: ir.Value
    steps: tuple[Step, ...]
    kept: frozenset[ir.Node]

    def build(self, op: Builder) -> ir.Value:
        """Build the operators."""
        return build(self.steps, self.source, op)


def merge_heads(view: View) -> View | None:
    """[batch, heads, length, size] as [batch, length, heads * size]."""
    batch, heads, length, size = view.dims
    return view.transpose((0, 2, 1, 3)).reshape((batch, length, heads * size))


@dataclass(frozen=True)
class Term:
    """An addend of the scores: `value`, or what a Where selects: the terms before it (or 0) where it is true
    (false: `hides`), `low` elsewhere; or `low`, to which the terms before it are raised (`is_floor`).

    `dims` are [batch or 1, heads or 1, rows or 1, columns], which `plan` gives; `factor` multiplies it.
    """

    value: ir.Value
    dims: Dims
    plan: Plan | None
    factor: float = 1.0
    low: float | None = None
    hides: bool = False
    is_floor: bool = False


@dataclass(frozen=True)
class Attention:
    """An attention block. `dims`: batch, heads, queries, keys; `nodes` compute it and nothing else.

    `scale` is one number for all scores; `scales` are [batch or 1, heads or 1, queries or 1, 1], by which the queries
    are multiplied. `sink`, of these dims, too, is a score beside those of the keys, that of a value of zeros.
    """

    q: Heads
    k: Heads
    v: Heads
    dims: Dims
    scale: float
    scales: tuple[Plan, ...]
    softcap: float
    terms: tuple[Term, ...]
    sink: Plan | None
    is_guarded: bool
    nodes: tuple[ir.Node, ...]

    @property
    def counts(self) -> tuple[int, int]:
        """The numbers of heads of the queries, and of keys and values."""
        return _number(self.q.dims[1]), _number(self.k.dims[1])

    @property
    def sizes(self) -> tuple[int, int]:
        """The sizes of a head of queries and keys, and of values."""
        return _number(self.q.dims[3]), _number(self.v.dims[3])


def _number(dim: Dim) -> int:
    assert isinstance(dim, int), "heads and their sizes are numbers"
    return dim


def split_heads(sources: list[Source], leading: Dims, split: tuple[Dim, Dim], *, swapped: bool) -> list[Source]:
    """The views [batch, heads, length, size] of sources of [..., length, size], or the last two dims swapped."""
    found = []
    for source, view in sources:
        if swapped:
            rank = len(view.groups)
            view = view.transpose((*range(rank - 2), rank - 1, rank - 2))
        expanded = view.expand((*leading, view.dims[-1])) if view.dims[-2] == leading[-1] else None
        heads = None if expanded is None else expanded.reshape((*split, *expanded.dims[-2:]))
        if heads is not None:
            found.append((source, heads))
    return found


def repeats(view: View) -> int:
    """How many times in a row each head is repeated."""
    group = view.groups[1]
    last = group[-1] if group else None
    return last.count if last is not None and last.is_broadcast and isinstance(last.count, int) else 1


def shared_heads(sources: list[Source], times: int) -> Heads:
    """The heads once, where each is repeated a multiple of `times` in a row."""
    found = []
    for source, view in sources:
        count = repeats(view)
        if count % times:
            continue
        group = view.groups[1][:-1] if count > 1 else view.groups[1]
        once = replace(view, groups=(view.groups[0], group, *view.groups[2:]))
        found.append((source, once.expand_dim(1, count // times)))
    return Heads(tuple(found))
