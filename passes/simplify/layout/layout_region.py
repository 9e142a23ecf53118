"""Regions of operators that are written in their transposed forms, to save layout changes around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import PassContext, spell, where
from .transpose_semantics import Layout, TransposedForm, transposed_form

PASS_NAME: Final = "propagate-transposes"

_LARGEST_REGION = 4096  # nodes that are visited around one layout change
_MOST_USERS = 256  # of a value that a region follows: every visit iterates over them


@dataclass
class LayoutRegion(ABC):
    """Operators to be written over the inputs of layout changes: nodes of one kind that bring data into `layout`.

    `sources` are the layout changes whose inputs the region uses, `nodes` its operators with their transposed forms,
    `entries` layout changes before it that merge with those that it needs.
    """

    graph: ir.Graph
    layout: Layout
    rounding: bool
    shapes: Shapes
    context: PassContext
    sources: dict[ir.Node, None] = field(default_factory=dict)
    nodes: dict[ir.Node, TransposedForm] = field(default_factory=dict)
    entries: dict[ir.Node, None] = field(default_factory=dict)

    def _transposed_form(self, node: ir.Node) -> TransposedForm | None:
        if node.graph is not self.graph or node.op_identifier() in self.context.functions():
            return None
        if any(len(value.uses()) > _MOST_USERS for value in node.outputs):
            return None
        if not self.rounding and self._rounds(node):
            return None
        return transposed_form(node, self.layout, self.shapes)

    # --- the kind of layout change ----------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def layout_of(node: ir.Node, shapes: Shapes) -> Layout | None:
        """The layout that `node` brings its input into, if it is of this kind."""

    @abstractmethod
    def _rounds(self, node: ir.Node) -> bool:
        """Whether the result of `node` may depend on the layout in its last bit."""

    @abstractmethod
    def _undoes(self, node: ir.Node) -> bool:
        """Whether `node` is the inverse layout change, which cancels."""

    @abstractmethod
    def _merges(self, node: ir.Node) -> bool:
        """Whether `node` is a layout change that merges with one of this kind next to it."""

    @abstractmethod
    def _entered(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """A value from outside, brought out of the layout."""

    @abstractmethod
    def _exited(self, new: ir.Value, before: ir.Node) -> ir.Value:
        """A value of the region, brought into the layout for users outside."""

    @abstractmethod
    def _merge(self, user: ir.Node, new: ir.Value) -> ir.Value | None:
        """The result of the layout change `user` of a result of the region, computed from its replacement `new`."""

    def _is_source(self, value: ir.Value) -> bool:
        node = value.producer()
        return (
            node is not None
            and node.graph is self.graph
            and node.op_identifier() not in self.context.functions()
            and self.layout_of(node, self.shapes) == self.layout
        )

    def _is_data(self, value: ir.Value) -> bool:
        """Whether an operator of the region uses `value` as data."""
        return any(self._uses_as_data(user, index) for user, index in value.uses())

    # --- choosing ---------------------------------------------------------------------------------------------------

    def grow(self, start: ir.Node) -> None:
        """Add all operators with a transposed form that are connected to `start` through values in the layout."""
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
                form = None if node in self.nodes else self._transposed_form(node)
                if form is None:
                    continue
                self.nodes[node] = form
                for other in _layout_values(node, form):
                    if other in seen:
                        continue
                    seen.add(other)
                    pending.append(other)
                    producer = other.producer()
                    if self._is_source(other) and producer is not None:
                        self.sources[producer] = None

    def shrink(self) -> None:
        """Remove operators while that costs no layout change."""
        pending = dict.fromkeys(self.nodes)
        while pending:
            node, _ = pending.popitem()
            if node not in self.nodes:
                continue
            form = self.nodes[node]
            around = list(dict.fromkeys(_layout_values(node, form)))
            cost_with = sum(map(self._cost, around))
            del self.nodes[node]
            if sum(map(self._cost, around)) > cost_with:
                self.nodes[node] = form
                continue
            for value in around:
                producer = value.producer()
                neighbours = [user for user, _ in value.uses()] + ([producer] if producer is not None else [])
                pending.update((each, None) for each in neighbours if each in self.nodes)

    def _cost(self, value: ir.Value) -> int:
        """The number of layout changes that `value` needs with the region as it is: to enter it, and to exit it."""
        producer, has_others = value.producer(), self._has_other_users(value)
        if self._is_source(value):
            return int(has_others)
        if producer is not None and producer in self.nodes:
            return int(has_others) - sum(self._undoes(user) for user, _ in value.uses())
        if ir.is_constant(value) or not self._is_data(value):
            return 0
        merges = producer is not None and self._merges(producer) and not has_others and not self._uses_region(producer)
        return 0 if merges else 1

    def _uses_region(self, node: ir.Node) -> bool:
        source = node.inputs[0]
        producer = source.producer() if source is not None else None
        return producer is not None and producer in self.nodes

    def _uses_as_data(self, node: ir.Node, index: int) -> bool:
        return node in self.nodes and index in self.nodes[node].data

    def _has_other_users(self, value: ir.Value) -> bool:
        """Whether `value` has users besides the region and layout changes that merge."""
        return value.is_graph_output() or any(
            not self._uses_as_data(user, index) and not self._merges(user) for user, index in value.uses()
        )

    def saves(self) -> int:
        """The number of layout changes that the region saves."""
        values = dict.fromkeys(value for node, form in self.nodes.items() for value in _layout_values(node, form))
        after = sum(map(self._cost, values))
        kept, self.nodes = self.nodes, {}
        before = sum(map(self._cost, values))
        self.nodes = kept
        return before - after

    # --- rewriting --------------------------------------------------------------------------------------------------

    def rewrite(self, positions: dict[ir.Node, int]) -> None:
        """Replace the operators by their transposed forms; `positions` in the graph are extended by the new nodes."""
        order = sorted(self.nodes, key=positions.__getitem__)
        exactness = Exactness.ROUNDING if any(map(self._rounds, order)) else Exactness.EXACT
        before, after = spell([*self.sources, *order]), spell(order)
        if not self.context.log.try_rewrite(PASS_NAME, where(order[0]), before, after, exactness):
            return
        moved: dict[ir.Value, ir.Value] = {}
        for node in order:
            form = self.nodes[node]
            inputs = [self._input(node, index, moved) for index in range(len(node.inputs))]
            new = ir.similar_node(node, inputs, form.attributes, provenance=PASS_NAME)
            self._insert(new, node)
            positions[new] = positions[node]
            moved.update(zip(node.outputs, new.outputs, strict=True))
        for node in reversed(order):
            self.context.rewriter.replace(node, [self._result(node, value, moved[value]) for value in node.outputs])
        for source in [*self.sources, *self.entries]:
            if source.graph is not None and not any(map(ir.is_read, source.outputs)):
                self.context.rewriter.erase(source)

    def _insert(self, node: ir.Node, before: ir.Node) -> ir.Value:
        self.context.rewriter.insert(node, before=before)
        return node.outputs[0]

    def _input(self, node: ir.Node, index: int, moved: dict[ir.Value, ir.Value]) -> ir.Value | None:
        form = self.nodes[node]
        value = node.inputs[index]
        if index in form.inputs:
            return ir.pending_constant(form.inputs[index], name=f"{where(node)}_{index}")
        if value is None or index not in form.data:
            return value
        if value not in moved:
            producer = value.producer()
            if self._is_source(value) and producer is not None and producer.inputs[0] is not None:
                return producer.inputs[0]
            moved[value] = self._entered(value, node)
        return moved[value]

    def _result(self, node: ir.Node, old: ir.Value, new: ir.Value) -> ir.Value | None:
        """The replacement of `old` for users outside; those in the region have been replaced already.

        A layout change among them that merges is computed from the new value.
        """
        if self.nodes[node].keeps_layout:
            return new if ir.is_read(old) else None
        for user in dict.fromkeys(user for user, _ in old.uses()):
            merged = self._merge(user, new) if self._merges(user) else None
            if merged is not None:
                self.context.rewriter.replace(user, [merged])
        return self._exited(new, node) if ir.is_read(old) else None


def _layout_values(node: ir.Node, form: TransposedForm) -> Iterator[ir.Value]:
    """The operands and results of a node whose layout changes with its transposed form."""
    for index in form.data:
        value = node.inputs[index]
        if value is not None:
            yield value
    if not form.keeps_layout:
        yield from node.outputs
