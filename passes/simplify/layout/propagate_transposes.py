"""Transposes and Squeezes around operators that do not mind the layout: NHWC islands, gated activations, …"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Dim, Shapes
from ...analyses.manager import Analysis
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...pipeline.registry import register
from .transpose_reshape import is_view
from .transpose_semantics import REDUCING, Layout, TransposedForm, carry, is_positional

Permutation = tuple[int, ...]

_LARGEST_REGION = 4096  # nodes that are looked at around one Transpose or Squeeze
_MOST_READERS = 256  # of a value that a region follows: every look at it visits them all


@register
@dataclass(frozen=True)
class PropagateTransposes(Pass):
    """Compute a region of operators on untransposed data where that saves more Transposes than it costs.

    Likewise, and before that, on data with axes of size 1 that a Squeeze or Reshape drops and others put back: what is
    left between convolutions is then either an activation or a Transpose.

    A region is a connected set of operators that can be written for either order of dims. It starts as large as
    possible; operators leave it while that costs nothing, and it is rewritten when fewer Transposes remain. Those that
    follow each other then merge. `rounding`: also operators that round differently in another order of elements.

    before:  a = Transpose(x) <perm = [0, 2, 3, 1]>; b = Relu(a); y = Transpose(b) <perm = [0, 3, 1, 2]>
    after:   y = Relu(x)
    """

    name: ClassVar[str] = "propagate-transposes"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    rounding: bool = False

    def run(self, model: ir.Model, context: PassContext) -> None:
        shapes = context.analyses.get(Shapes)
        shapes.refresh(model)
        for graph in ir.graphs(model):
            order = {node: place for place, node in enumerate(graph)}
            for kind in (_Squeezed, _Transposed):
                self._move(graph, kind, order, shapes, context)

    def _move(
        self, graph: ir.Graph, kind: type[_Region], order: dict[ir.Node, int], shapes: Shapes, context: PassContext
    ) -> None:
        looked_at: set[tuple[Layout, ir.Node]] = set()
        for node in list(order):
            layout = kind.layout_of(node, shapes) if node.graph is graph else None
            if layout is None or any((layout, each) in looked_at for each in (node, *node.outputs[0].consumers())):
                continue
            region = kind(graph, layout, self.rounding, shapes, context)
            region.grow(node)
            looked_at.update((layout, each) for each in (*region.sources, *region.nodes))
            region.compress_constants()
            if region.saves() > 0:
                region.rewrite(order)


def _permutation(node: ir.Node, shapes: Shapes) -> Permutation | None:
    if node.op_type != "Transpose" or node.domain != "" or node.inputs[0] is None:
        return None
    given = ir.attribute(node, "perm")
    if isinstance(given, tuple):
        return given
    rank = shapes.rank(node.inputs[0])
    return None if given is not None or rank is None else tuple(reversed(range(rank)))


@dataclass
class _Region(ABC):
    """Operators that will work on data before nodes of one kind bring it into `layout`."""

    graph: ir.Graph
    layout: Layout
    rounding: bool
    shapes: Shapes
    context: PassContext
    sources: dict[ir.Node, None] = field(default_factory=dict)
    nodes: dict[ir.Node, TransposedForm] = field(default_factory=dict)
    entries: dict[ir.Node, None] = field(default_factory=dict)

    def _carry(self, node: ir.Node) -> TransposedForm | None:
        if node.graph is not self.graph or node.op_identifier() in self.context.functions():
            return None
        if any(len(value.uses()) > _MOST_READERS for value in node.outputs):
            return None
        if not self.rounding and self._rounds(node):
            return None
        return carry(node, self.layout, self.shapes)

    # --- the kind ---------------------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def layout_of(node: ir.Node, shapes: Shapes) -> Layout | None:
        """The layout that `node` brings its input into, if it is of this kind."""

    @abstractmethod
    def _rounds(self, node: ir.Node) -> bool:
        """Whether `node` may round differently in the other layout."""

    @abstractmethod
    def _undoes(self, node: ir.Node) -> bool:
        """Whether `node` brings the data back, and goes when it is not needed."""

    @abstractmethod
    def _merges(self, node: ir.Node) -> bool:
        """Whether `node` stays, and merges with one of this kind beside it."""

    @abstractmethod
    def _entered(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """A value from outside as the region reads it."""

    @abstractmethod
    def _laid_out(self, new: ir.Value, before: ir.Node) -> ir.Value:
        """A value of the region as others read it."""

    @abstractmethod
    def _merge(self, user: ir.Node, new: ir.Value) -> ir.Value | None:
        """The value that stands for the result of `user`, which reads a result of the region that now is `new`."""

    def _is_source(self, value: ir.Value) -> bool:
        node = value.producer()
        return (
            node is not None
            and node.graph is self.graph
            and node.op_identifier() not in self.context.functions()
            and self.layout_of(node, self.shapes) == self.layout
        )

    def _is_carried(self, value: ir.Value) -> bool:
        return any(user in self.nodes and self._carries(user, index) for user, index in value.uses())

    # --- choosing ---------------------------------------------------------------------------------------------------

    def grow(self, start: ir.Node) -> None:
        """Take in everything that is connected with `start` through values of this layout."""
        self.sources[start] = None
        pending = deque([start.outputs[0]])
        seen = set(pending)
        while pending and len(self.nodes) < _LARGEST_REGION:
            value = pending.popleft()
            neighbours = [user for user, _ in value.uses()]
            producer = value.producer()
            if producer is not None and not self._is_source(value):
                neighbours.append(producer)
            for node in neighbours:
                carried = None if node in self.nodes else self._carry(node)
                if carried is None:
                    continue
                self.nodes[node] = carried
                for other in _layout_values(node, carried):
                    if other in seen:
                        continue
                    seen.add(other)
                    pending.append(other)
                    producer = other.producer()
                    if self._is_source(other) and producer is not None:
                        self.sources[producer] = None

    def compress_constants(self) -> None:
        """Let operators leave while that costs no node of the kind."""
        pending = dict.fromkeys(self.nodes)
        while pending:
            node, _ = pending.popitem()
            if node not in self.nodes:
                continue
            carried = self.nodes[node]
            around = list(dict.fromkeys(_layout_values(node, carried)))
            with_it = sum(map(self._cost, around))
            del self.nodes[node]
            if sum(map(self._cost, around)) > with_it:
                self.nodes[node] = carried
                continue
            for value in around:
                producer = value.producer()
                neighbours = [user for user, _ in value.uses()] + ([producer] if producer is not None else [])
                pending.update((each, None) for each in neighbours if each in self.nodes)

    def _cost(self, value: ir.Value) -> int:
        """How many nodes of the kind `value` needs with the region as it is: to make it, and to give it to others."""
        producer, has_others = value.producer(), self._has_other_readers(value)
        if self._is_source(value):
            return int(has_others)
        if producer is not None and producer in self.nodes:
            return int(has_others) - sum(self._undoes(user) for user, _ in value.uses())
        if ir.is_constant(value) or not self._is_carried(value):
            return 0
        merges = producer is not None and self._merges(producer) and not has_others and not self._reads_region(producer)
        return 0 if merges else 1

    def _reads_region(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        producer = source.producer() if source is not None else None
        return producer is not None and producer in self.nodes

    def _carries(self, node: ir.Node, index: int) -> bool:
        return index in self.nodes[node].data

    def _has_other_readers(self, value: ir.Value) -> bool:
        """Whether `value` is wanted as it is: by others than the region and nodes that merge with those around it."""
        if value.is_graph_output():
            return True
        for user, index in value.uses():
            if user in self.nodes and self._carries(user, index):
                continue
            if self._merges(user):
                continue
            return True
        return False

    def saves(self) -> int:
        """How many nodes of the kind fewer there are with the region than without it."""
        values = dict.fromkeys(value for node, carried in self.nodes.items() for value in _layout_values(node, carried))
        after = sum(map(self._cost, values))
        kept, self.nodes = self.nodes, {}
        before = sum(map(self._cost, values))
        self.nodes = kept
        return before - after

    # --- rewriting --------------------------------------------------------------------------------------------------

    def rewrite(self, places: dict[ir.Node, int]) -> None:
        """Write the region anew; `places` says where nodes stand, and learns where the new ones do."""
        order = sorted(self.nodes, key=places.__getitem__)
        exactness = Exactness.ROUNDING if any(map(self._rounds, order)) else Exactness.EXACT
        before, after = spell([*self.sources, *order]), spell(order)
        if not self.context.log.try_rewrite(PropagateTransposes.name, where(order[0]), before, after, exactness):
            return
        moved: dict[ir.Value, ir.Value] = {}
        for node in order:
            carried = self.nodes[node]
            inputs = range(max([len(node.inputs), *(index + 1 for index in carried.inputs)]))
            made = ir.new_node(
                node.op_type,
                [self._input(node, index, moved) for index in inputs],
                {**node.attributes, **carried.attributes},
                version=node.version,
                outputs=len(node.outputs),
                provenance=PropagateTransposes.name,
            )
            self._insert(made, node)
            places[made] = places[node]
            moved.update(zip(node.outputs, made.outputs, strict=True))
        for node in reversed(order):
            self.context.rewriter.replace(node, [self._result(node, value, moved[value]) for value in node.outputs])
        for source in [*self.sources, *self.entries]:
            if source.graph is not None and not any(map(ir.is_read, source.outputs)):
                self.context.rewriter.erase(source)

    def _insert(self, made: ir.Node, before: ir.Node) -> ir.Value:
        self.context.rewriter.insert(made, before=before)
        self.shapes.learn(made)
        return made.outputs[0]

    def _input(self, node: ir.Node, index: int, moved: dict[ir.Value, ir.Value]) -> ir.Value | None:
        carried = self.nodes[node]
        value = node.inputs[index] if index < len(node.inputs) else None
        if index in carried.inputs:
            return ir.pending_constant(carried.inputs[index], name=f"{where(node)}_{index}")
        if value is None or index not in carried.data:
            return value
        if value not in moved:
            producer = value.producer()
            if self._is_source(value) and producer is not None and producer.inputs[0] is not None:
                return producer.inputs[0]
            moved[value] = self._entered(value, node)
        return moved[value]

    def _result(self, node: ir.Node, old: ir.Value, new: ir.Value) -> ir.Value | None:
        """What the readers outside get; the region's own have been written anew and are gone.

        One among them that merges is written over the new value.
        """
        if self.nodes[node].keeps_layout:
            return new if ir.is_read(old) else None
        for user in dict.fromkeys(user for user, _ in old.uses()):
            both = self._merge(user, new) if self._merges(user) else None
            if both is not None:
                self.shapes.adopt(user.outputs[0], both)
                self.context.rewriter.replace(user, [both])
        return self._laid_out(new, node) if ir.is_read(old) else None


class _Transposed(_Region):
    """A region between Transposes; those that follow each other merge."""

    @staticmethod
    def layout_of(node: ir.Node, shapes: Shapes) -> Layout | None:
        perm = _permutation(node, shapes)
        return None if perm is None else Layout(perm, len(perm))

    def _rounds(self, node: ir.Node) -> bool:
        return is_positional(node.op_type, self.shapes.dtype(node.outputs[0]))

    def _undoes(self, node: ir.Node) -> bool:
        perm = _permutation(node, self.shapes) if self._merges(node) else None
        return perm is not None and all(self.layout.axes[axis] == index for index, axis in enumerate(perm))

    def _merges(self, node: ir.Node) -> bool:
        # One that the region takes the place of is none: the region will read what it reads.
        if node.graph is not self.graph or _permutation(node, self.shapes) is None:
            return False
        return node not in self.sources or not self._is_carried(node.outputs[0])

    def _transposed(self, value: ir.Value, perm: Permutation, before: ir.Node) -> ir.Value:
        if perm == tuple(sorted(perm)):
            return value
        provenance = PropagateTransposes.name
        made = ir.new_node("Transpose", [value], {"perm": perm}, version=before.version, provenance=provenance)
        return self._insert(made, before)

    def _entered(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """What comes from outside, transposed back: at once with the Transpose that made it, if one did."""
        back = tuple(int(axis) for axis in np.argsort(self.layout.axes))
        producer = value.producer()
        perm = _permutation(producer, self.shapes) if producer is not None else None
        if producer is None or perm is None or not self._merges(producer) or (source := producer.inputs[0]) is None:
            return self._transposed(value, back, before)
        self.entries[producer] = None
        return self._transposed(source, tuple(perm[axis] for axis in back), before)

    def _laid_out(self, new: ir.Value, before: ir.Node) -> ir.Value:
        return self._transposed(new, self.layout.axes, before)

    def _merge(self, user: ir.Node, new: ir.Value) -> ir.Value | None:
        perm = _permutation(user, self.shapes)
        return None if perm is None else self._transposed(new, tuple(self.layout.axes[axis] for axis in perm), user)


class _Squeezed(_Region):
    """A region between a view that drops axes of size 1 and those that put them back. No element moves."""

    @staticmethod
    def layout_of(node: ir.Node, shapes: Shapes) -> Layout | None:
        source = node.inputs[0] if is_view(node) else None
        before = shapes.dims(source) if source is not None else None
        after = shapes.dims(node.outputs[0])
        if before is None or after is None or len(after) >= len(before):
            return None
        axes = ir.parameter(node, "axes") if node.op_type == "Squeeze" else None
        if isinstance(axes, np.ndarray):
            dropped = {int(axis) % len(before) for axis in axes.reshape(-1)}
            kept = [axis for axis in range(len(before)) if axis not in dropped]
        else:
            kept = _kept_axes(before, after)
        return Layout(tuple(kept), len(before)) if len(kept) == len(after) else None

    def _rounds(self, node: ir.Node) -> bool:
        return node.op_type in REDUCING and is_positional(node.op_type, self.shapes.dtype(node.outputs[0]))

    def _undoes(self, node: ir.Node) -> bool:
        source = node.inputs[0] if node.graph is self.graph and is_view(node) else None
        if source is None or self.shapes.rank(source) != len(self.layout.axes):
            return False
        axes = ir.parameter(node, "axes") if node.op_type == "Unsqueeze" else None
        if isinstance(axes, np.ndarray):
            return {int(axis) % self.layout.rank for axis in axes.reshape(-1)} == {*self.layout.dropped}
        dims = self.shapes.dims(source)
        whole: list[Dim] = [1] * self.layout.rank
        for axis, dim in zip(self.layout.axes, dims or (), strict=False):
            whole[axis] = dim
        return self.shapes.same_dims(self.shapes.dims(node.outputs[0]), whole)

    def _merges(self, node: ir.Node) -> bool:
        return self._undoes(node)

    def _view(self, op_type: str, value: ir.Value, before: ir.Node) -> ir.Value:
        version = self.context.rewriter.imports_of(self.graph).get("", 0)
        made = ir.new_view(op_type, value, self.layout.dropped, version=version, provenance=PropagateTransposes.name)
        return self._insert(made, before)

    def _entered(self, value: ir.Value, before: ir.Node) -> ir.Value:
        return self._view("Unsqueeze", value, before)

    def _laid_out(self, new: ir.Value, before: ir.Node) -> ir.Value:
        return self._view("Squeeze", new, before)

    def _merge(self, user: ir.Node, new: ir.Value) -> ir.Value | None:
        return new


def _kept_axes(before: Sequence[Dim], after: Sequence[Dim]) -> list[int]:
    """The axes of `before` that are `after`, the others being of size 1; too few where that is not what happens."""
    kept: list[int] = []
    for axis, dim in enumerate(before):
        if len(kept) < len(after) and dim == after[len(kept)]:
            kept.append(axis)
        elif dim != 1:
            return []
    return kept


def _layout_values(node: ir.Node, carried: TransposedForm) -> Iterator[ir.Value]:
    """The values of a node that change their layout with it."""
    for index in carried.data:
        value = node.inputs[index]
        if value is not None:
            yield value
    if not carried.keeps_layout:
        yield from node.outputs
