"""Insert nodes and constants into a model under fresh names, and notify listeners of changes."""

from __future__ import annotations

from collections import Counter

import onnx_ir as oir

from ..traversal import graphs, hiding_values, subgraphs_of
from ..values import Array
from .new_nodes import new_node, pending_constant


class Listener:
    """Receives every change after it happened, as MLIR's RewriterBase::Listener."""

    def inserted(self, node: oir.Node) -> None:
        """A node is in a graph."""

    def replaced(self, old: oir.Value, new: oir.Value) -> None:
        """The users of `old` use `new`."""

    def erased(self, node: oir.Node) -> None:
        """A node is in no graph any more."""

    def modified(self, node: oir.Node) -> None:
        """Operands, outputs or attributes of a node are others."""

    def released(self, value: oir.Value) -> None:
        """A value has lost a user."""

    def reset(self) -> None:
        """Values have another type, or the whole graph is another: nothing holds that was known about them."""


class Inserter:
    """Insertion into one model. `changes` counts all changes."""

    def __init__(self, model: oir.Model) -> None:
        self.model = model
        self.changes = 0
        self._listeners: list[Listener] = []
        self._index()

    def _index(self) -> None:
        """Index every name and scope of the model."""
        self._value_names: Counter[str] = Counter()  # sibling scopes may use one name twice
        self._node_names: Counter[str] = Counter()
        self._value_suffixes: Counter[str] = Counter()  # the last suffix by wanted name
        self._node_suffixes: Counter[str] = Counter()
        self._unnamed: set[oir.Value] = set()  # results of inserted nodes that replace no value yet
        self._replaced: dict[oir.Value, oir.Value] = {}
        for graph in graphs(self.model):
            self._value_names.update(value.name or "" for value in graph.inputs)
            self._value_names.update(iter(graph.initializers))
            for node in graph:
                self._note(node)
        functions = self.model.functions.values()
        for root in (self.model.graph, *(function.graph for function in functions)):
            for value in list(hiding_values(root)):
                value.name = self.fresh_name(value.name or "")
        self._function_graphs = {function.graph for function in functions}
        self._imports = {
            graph: function.opset_imports for function in functions for graph in (function.graph, *function.subgraphs())
        }

    def subscribe(self, listener: Listener) -> None:
        """Pass every later change to `listener`."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Pass no more changes to `listener`."""
        self._listeners.remove(listener)

    def retype(self, value: oir.Value, dtype: oir.DataType) -> None:
        """Declare another element type of an inner value."""
        value.type = oir.TensorType(dtype)
        self._changed("reset")

    def insert(self, node: oir.Node, *, before: oir.Node) -> oir.Node:
        """Insert a new node (see `new_node`) in front of `before`; its outputs get fresh names.

        An output named "" is omitted. Operands that were replaced since the node was created are the current ones
        afterwards (see `current`).
        """
        for user in (node, *(inner for body in subgraphs_of(node) for inner in body.all_nodes())):
            for index, value in enumerate(user.inputs):
                if value is not None and (current := self.current(value)) is not value:
                    user.replace_input_with(index, current)
        node.name = self.fresh_node_name(node.name or f"{before.name or before.op_type}_{node.op_type}")
        for value in node.outputs:
            if value.name != "":
                value.name = self.fresh_name(value.name or f"{before.outputs[0].name or before.op_type}_{node.op_type}")
        graph = graph_of(before)
        self._take_pending_constants(node, graph, before)
        graph.insert_before(before, node)
        self._register(node, graph)
        return node

    def _register(self, node: oir.Node, graph: oir.Graph) -> None:
        self._unnamed.update(node.outputs)
        self._import_domain(graph, node)
        self._changed("inserted", node)
        for body in subgraphs_of(node):
            for inner in body.all_nodes():
                self._note(inner)

    def constant(self, content: Array | oir.TensorProtocol, *, near: oir.Node, name: str = "constant") -> oir.Value:
        """A new constant, visible to `near`: an initializer of its graph, or a Constant node in a function's body."""
        return self.place(pending_constant(content, name=name), near=near)

    def place(self, value: oir.Value, *, near: oir.Node) -> oir.Value:
        """Place a `pending_constant`, visible to `near`."""
        return self._place_constant(value, graph_of(near), near)

    def _take_pending_constants(self, node: oir.Node, graph: oir.Graph, before: oir.Node) -> None:
        for value in node.inputs:
            if value is not None and value.graph is None and value.const_value is not None:
                self._place_constant(value, graph, before)

    def _place_constant(self, value: oir.Value, graph: oir.Graph, before: oir.Node) -> oir.Value:
        """Make `value`, which is in no graph yet, an initializer of `graph`, or a Constant node inside functions."""
        value.name = self.fresh_name(value.name or "constant")
        if not self._inside_function(graph):
            graph.initializers.add(value)
            self._unnamed.add(value)
            self.changes += 1
            return value
        tensor = value.const_value
        assert tensor is not None
        node = new_node("Constant", [], {"value": tensor}, version=self.imports_of(graph).get("", 13))
        node.outputs[0].name, value.name = value.name, None
        value.replace_all_uses_with(node.outputs[0])
        self._unnamed.add(node.outputs[0])
        graph.insert_before(before, node)
        self._changed("inserted", node)
        return node.outputs[0]

    def current(self, value: oir.Value) -> oir.Value:
        """The value itself, or the one that replaced it, where its node was erased.

        A pass that plans before it changes anything may hold values that an earlier change replaced.
        """
        while value in self._replaced and (producer := value.producer()) is not None and producer.graph is None:
            value = self._replaced[value]
        return value

    # --- names ------------------------------------------------------------------------------------------------------

    def fresh_name(self, wanted: str) -> str:
        """A value name that no scope of the model uses: `wanted`, or `wanted` with the next free suffix."""
        return _fresh(wanted, self._value_names, self._value_suffixes)

    def fresh_node_name(self, wanted: str) -> str:
        """A node name that no graph of the model uses, by the same scheme."""
        return _fresh(wanted, self._node_names, self._node_suffixes)

    def _note(self, node: oir.Node) -> None:
        self._node_names[node.name or ""] += 1
        self._value_names.update(value.name or "" for value in node.outputs)

    def _inside_function(self, graph: oir.Graph) -> bool:
        return graph in self._function_graphs

    def imports_of(self, graph: oir.Graph) -> dict[str, int]:
        """The opset imports that hold in `graph`: those of its function, else the model's."""
        return self._imports.get(graph, self.model.opset_imports)

    def _import_domain(self, graph: oir.Graph, node: oir.Node) -> None:
        if node.version is None:
            node.version = self.imports_of(graph).get(node.domain)
        elif node.domain not in (imports := self.imports_of(graph)):
            imports[node.domain] = node.version

    def _changed(self, event: str, *changed: oir.Node | oir.Value) -> None:
        self.changes += 1
        self._tell(event, *changed)

    def _tell(self, event: str, *changed: oir.Node | oir.Value) -> None:
        for listener in tuple(self._listeners):
            getattr(listener, event)(*changed)

    @staticmethod
    def _trim_inputs(node: oir.Node) -> None:
        """Drop trailing empty inputs: ONNX Runtime rejects them on some operators (`Squeeze(x, '')`)."""
        keep = len(node.inputs)
        while keep and node.inputs[keep - 1] is None:
            keep -= 1
        if keep < len(node.inputs):
            node.resize_inputs(keep)


def graph_of(node: oir.Node) -> oir.Graph:
    """The graph that owns a node. Raises ValueError when there is none."""
    if node.graph is None:
        raise ValueError(f"{node.op_type} {node.name!r} is in no graph")
    return node.graph


def _fresh(wanted: str, taken: Counter[str], suffixes: Counter[str]) -> str:
    name = wanted
    while taken[name]:
        suffixes[wanted] += 1
        name = f"{wanted}_{suffixes[wanted]}"
    taken[name] += 1
    return name
