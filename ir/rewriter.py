"""The one door for mutation.

Everything outside `ir/` that changes a model does so through a `Rewriter`: it counts changes, keeps public names and
types, gives new values names that are unique in every scope and the same in every run, and tells its listeners.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import onnx_ir as oir

from .io.load import INTERFACE_TYPE
from .standard.schema import AttributeValue
from .traversal import graphs, hiding_values, subgraphs_of
from .values import Array, is_public, is_read

PROVENANCE: Final = "optimize_graph.rule"
"""The node metadata key that names the rule a node came from."""


class Listener(Protocol):
    """Told of every change, after it is made. `released` says that a reader of a value is gone."""

    def inserted(self, node: oir.Node) -> None: ...
    def replaced(self, old: oir.Value, new: oir.Value) -> None: ...
    def erased(self, node: oir.Node) -> None: ...
    def modified(self, node: oir.Node) -> None: ...
    def released(self, value: oir.Value) -> None: ...


def new_node(
    op_type: str,
    inputs: Sequence[oir.Value | None],
    attributes: Mapping[str, AttributeValue | oir.Attr | None] | None = None,
    *,
    domain: str = "",
    version: int | None,
    outputs: int = 1,
    provenance: str = "",
) -> oir.Node:
    """A node in no graph yet, written for opset `version` of its domain. Attributes that are None are left out."""
    made = [
        value if isinstance(value, oir.Attr) else oir.convenience.convert_attribute(name, value)
        for name, value in (attributes or {}).items()
        if value is not None
    ]
    inputs = list(inputs)
    while inputs and inputs[-1] is None:  # ONNX Runtime rejects trailing empty names on some operators
        inputs.pop()
    node = oir.Node(domain, op_type, inputs, made, num_outputs=outputs, version=version)
    if provenance:
        node.metadata_props[PROVENANCE] = provenance
    return node


def new_view(
    op_type: str, source: oir.Value | None, axes: Sequence[int], *, version: int | None, provenance: str = ""
) -> oir.Node:
    """A Squeeze or Unsqueeze in no graph yet: its axes are an attribute below opset 13, and an input from there on."""
    if (version or 0) < 13:
        return new_node(op_type, [source], {"axes": list(axes)}, version=version, provenance=provenance)
    places = pending_constant(np.array(axes, dtype=np.int64), name="axes")
    return new_node(op_type, [source, places], version=version, provenance=provenance)


class Rewriter:
    """Mutates one model. `changes` counts what was done; nobody reports it by hand."""

    def __init__(self, model: oir.Model) -> None:
        self.model = model
        self.changes = 0
        self._listeners: list[Listener] = []
        self._survey()

    def _survey(self) -> None:
        """Note every name and scope of the model."""
        self._value_names: Counter[str] = Counter()  # sibling scopes may use one name twice
        self._node_names: Counter[str] = Counter()
        self._value_numbers: Counter[str] = Counter()  # the last number given to a wish
        self._node_numbers: Counter[str] = Counter()
        self._unnamed: set[oir.Value] = set()  # results of inserted nodes that stand for no older value yet
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

    def exchange(self, other: oir.Model) -> None:
        """Put the graph and the functions of `other` in place of the model's own; `other` must not be used again."""
        self.model.graph = other.graph
        self.model.functions.clear()
        self.model.functions.update(other.functions)
        self._survey()
        self.changes += 1

    def subscribe(self, listener: Listener) -> None:
        """Tell `listener` of every later change."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    # --- making -----------------------------------------------------------------------------------------------------

    def insert(self, node: oir.Node, *, before: oir.Node) -> oir.Node:
        """Put a new node (see `new_node`) in front of `before`; its outputs get names that nobody has.

        An output that is named "" is one that is left out. What was replaced since the node was planned (see `current`)
        is replaced in its inputs, too.
        """
        for each in (node, *(inner for body in subgraphs_of(node) for inner in body.all_nodes())):
            for index, value in enumerate(each.inputs):
                if value is not None and (current := self.current(value)) is not value:
                    each.replace_input_with(index, current)
        node.name = self.fresh_node_name(node.name or f"{before.name or before.op_type}_{node.op_type}")
        for value in node.outputs:
            if value.name != "":
                value.name = self.fresh_name(value.name or f"{before.outputs[0].name or before.op_type}_{node.op_type}")
        graph = _graph_of(before)
        self._take_pending_constants(node, graph, before)
        graph.insert_before(before, node)
        self._welcome(node, graph)
        return node

    def _welcome(self, node: oir.Node, graph: oir.Graph) -> None:
        self._unnamed.update(node.outputs)
        self._import_domain(graph, node)
        self._changed("inserted", node)
        for body in subgraphs_of(node):
            for inner in body.all_nodes():
                self._note(inner)

    def give_back(self, value: oir.Value, node: oir.Node) -> None:
        """Let the caller of a graph get the result of `node`, a new node that reads the output `value`, in its place.

        It takes over the name, the type and the dims; `value` goes on as an inner value.
        """
        graph = value.graph
        assert graph is not None and value.is_graph_output()
        node.name = self.fresh_node_name(node.name or f"{value.name}_{node.op_type}")
        node.outputs[0].name = self.fresh_name(f"{value.name}_inner")
        graph.append(node)
        self._welcome(node, graph)
        kind, shape = value.type, value.shape
        self._take_over(value, node.outputs[0])
        value.type, value.shape = kind, shape
        self._unnamed.discard(node.outputs[0])

    def retype(self, value: oir.Value, dtype: oir.DataType) -> None:
        """Declare another element type of an inner value."""
        value.type = oir.TensorType(dtype)
        self.changes += 1

    def constant(self, content: Array | oir.TensorProtocol, *, near: oir.Node, name: str = "constant") -> oir.Value:
        """A new constant, visible to `near`: an initializer of its graph, or a Constant node in a function's body."""
        return self.place(pending_constant(content, name=name), near=near)

    def place(self, value: oir.Value, *, near: oir.Node) -> oir.Value:
        """Give a `pending_constant` its place, visible to `near`."""
        return self._place_constant(value, _graph_of(near), near)

    def _take_pending_constants(self, node: oir.Node, graph: oir.Graph, before: oir.Node) -> None:
        for value in node.inputs:
            if value is not None and value.graph is None and value.const_value is not None:
                self._place_constant(value, graph, before)

    def _place_constant(self, value: oir.Value, graph: oir.Graph, before: oir.Node) -> oir.Value:
        """Make `value`, which nobody owns yet, an initializer of `graph` (of a Constant node inside functions)."""
        value.name = self.fresh_name(value.name or "constant")
        if not self._inside_function(graph):
            graph.initializers.add(value)
            self._unnamed.add(value)
            self.changes += 1
            return value
        tensor = value.const_value
        assert tensor is not None
        holder = new_node("Constant", [], {"value": tensor}, version=self.imports_of(graph).get("", 13))
        holder.outputs[0].name, value.name = value.name, None
        value.replace_all_uses_with(holder.outputs[0])
        self._unnamed.add(holder.outputs[0])
        graph.insert_before(before, holder)
        self._changed("inserted", holder)
        return holder.outputs[0]

    # --- replacing --------------------------------------------------------------------------------------------------

    def replace(self, node: oir.Node, results: Sequence[oir.Value | None]) -> None:
        """Let every reader of the outputs of `node` read `results` instead, then erase `node`.

        A result of None says that nobody reads that output. Public names, their types and declared dims stay: a result
        takes over the name where it can, else an Identity carries it.
        Raises ValueError when an output that somebody reads has no result.
        """
        for output, result in zip(node.outputs, [*results, *[None] * len(node.outputs)], strict=False):
            if result is output:
                continue
            if result is None:
                if is_read(output):
                    raise ValueError(f"output {output.name!r} of {node.op_type} is read and has no replacement")
                continue
            self.redirect(output, result, before=node)
        if not any(output is result for output, result in zip(node.outputs, results, strict=False)):
            self.erase(node)

    def current(self, value: oir.Value) -> oir.Value:
        """What stands for `value` now: itself, or what replaced it, where its node was erased.

        A pass that plans first and acts then may hold values that an earlier action has replaced.
        """
        while value in self._replaced and (producer := value.producer()) is not None and producer.graph is None:
            value = self._replaced[value]
        return value

    def redirect(self, old: oir.Value, new: oir.Value, *, before: oir.Node) -> None:
        """Let every reader of `old` read `new`; `old` is left unread. An Identity, if needed, goes before `before`.

        The result of a node that was inserted for this takes over the name of `old` and what the file declares of it.
        """
        new = self.current(new)
        if new in self._unnamed and new.graph is old.graph and self._can_take_over(old, new):
            self._take_over(old, new)
        elif old.is_graph_output():
            self._take_over(old, self._heir(old, new, before))
        self._unnamed.discard(new)
        for user, index in old.uses():
            user.replace_input_with(index, new)
            self._tell("modified", user)
        self._replaced[old] = new
        self.changes += 1
        for listener in tuple(self._listeners):
            listener.replaced(old, new)

    def can_redirect(self, old: oir.Value, new: oir.Value, *, before: oir.Node) -> bool:
        """Whether `redirect` leaves a valid model: the Identity that it may need takes only tensors at old opsets.

        Sequences since opset 14, optionals since 16 (ONNX, changelog of Identity).
        """
        if not old.is_graph_output() or (old.type is not None and isinstance(old.type, oir.TensorType)):
            return True
        if self._keeps_its_name(old, new):
            return True
        version = self.imports_of(_graph_of(before)).get("", 0)
        return version >= (14 if isinstance(old.type, oir.SequenceType) else 16)

    @staticmethod
    def _keeps_its_name(old: oir.Value, new: oir.Value) -> bool:
        """Whether `new` can be called by the name of `old`."""
        producer = new.producer()
        return producer is not None and producer.graph is old.graph and not is_public(new)

    @staticmethod
    def _can_take_over(old: oir.Value, new: oir.Value) -> bool:
        """An initializer may have the name of an inner value, but cannot be what a node gives to a caller."""
        return new.producer() is not None or not old.is_graph_output()

    def _heir(self, old: oir.Value, new: oir.Value, before: oir.Node) -> oir.Value:
        """The value that can carry the public name of `old`: `new` itself, or an Identity of it.

        An input, an initializer, a value of an outer scope or another output keeps its own name.
        """
        if self._keeps_its_name(old, new):
            return new
        # A graph of ai.onnx.ml or custom operators alone may not import the standard's.
        holder = new_node("Identity", [new], version=self.imports_of(_graph_of(before)).get("", 13))
        return self.insert(holder, before=before).outputs[0]

    def _take_over(self, old: oir.Value, heir: oir.Value) -> None:
        """Give `heir` the name of `old`, its place among the outputs, and what is declared of it."""
        name, graph = old.name or "", old.graph
        spare = heir.name
        old.name = None
        if old.is_graph_output():
            assert graph is not None
            for index, output in enumerate(graph.outputs):
                if output is old:
                    graph.outputs[index] = heir
        heir.name, old.name = name, spare  # old is about to go; its new name only has to be free
        if heir.is_initializer():
            return
        heir.type, heir.shape, heir.doc_string = old.type, old.shape, old.doc_string
        if INTERFACE_TYPE in old.meta:
            heir.meta[INTERFACE_TYPE] = old.meta[INTERFACE_TYPE]
        heir.metadata_props.clear()
        heir.metadata_props.update(old.metadata_props)

    def set_input(self, node: oir.Node, index: int, value: oir.Value | None) -> None:
        """Let `node` read `value` at position `index` (None: nothing); a constant made for it is placed."""
        if value is not None and value.graph is None and value.const_value is not None:
            value = self.place(value, near=node)
        elif value is not None:
            value = self.current(value)
        while len(node.inputs) <= index:
            node.resize_inputs(len(node.inputs) + 1)
        node.replace_input_with(index, value)
        self._trim_inputs(node)
        self._changed("modified", node)

    def set_attribute(self, node: oir.Node, name: str, value: AttributeValue | None) -> None:
        """Give `node` the attribute `name`, or take it away when `value` is None."""
        if value is None:
            node.attributes.pop(name, None)
        else:
            node.attributes[name] = oir.convenience.convert_attribute(name, value)
        self._changed("modified", node)

    def trim_outputs(self, node: oir.Node, count: int) -> None:
        """Keep the first `count` outputs of `node`; the others must be unread. Raises ValueError when they are read."""
        if any(is_read(value) for value in node.outputs[count:]):
            raise ValueError(f"an output of {node.op_type} {node.name!r} is still read")
        node.resize_outputs(count)
        self._changed("modified", node)

    def omit_output(self, value: oir.Value) -> None:
        """Leave an optional result of a node unnamed: it is not wanted. Raises ValueError when somebody reads it."""
        node = value.producer()
        if node is None or is_read(value):
            raise ValueError(f"{value.name!r} is not an unread result")
        self._value_names[value.name or ""] -= 1
        value.name = ""
        self._changed("modified", node)

    # --- erasing ----------------------------------------------------------------------------------------------------

    def erase(self, node: oir.Node) -> None:
        """Take `node` out of its graph. Raises ValueError while somebody reads one of its outputs."""
        readers = [value.name for value in node.outputs if is_read(value)]
        if readers:
            raise ValueError(f"cannot erase {node.op_type} {node.name!r}: {readers} are still read")
        graph = _graph_of(node)
        fed_by = [value for value in node.inputs if value is not None]
        for body in subgraphs_of(node):  # onnx-ir leaves the captures of dead bodies in `uses()`
            for inner in list(body.all_nodes()):
                fed_by += [value for value in inner.inputs if value is not None]
                _detach(inner)
        graph.remove(node)
        _detach(node)
        self._changed("erased", node)
        for value in dict.fromkeys(fed_by):
            for listener in tuple(self._listeners):
                listener.released(value)

    def erase_initializer(self, value: oir.Value) -> None:
        """Drop an initializer. Raises ValueError when somebody reads it or it belongs to the interface."""
        graph = value.graph
        if graph is None or is_read(value) or is_public(value) or value.name is None:
            raise ValueError(f"initializer {value.name!r} is read or public")
        del graph.initializers[value.name]
        self.changes += 1

    def erase_function(self, identifier: oir.OperatorIdentifier) -> None:
        """Drop a function of the model that nobody calls (the caller has looked)."""
        del self.model.functions[identifier]
        self.changes += 1

    def drop_import(self, domain: str) -> None:
        """Forget that the model imports `domain`, of which it calls nothing (the caller has looked)."""
        del self.model.opset_imports[domain]
        self.changes += 1

    def move(self, node: oir.Node, *, before: oir.Node) -> None:
        """Take `node` from where it stands (perhaps a subgraph) to the place in front of `before`."""
        _graph_of(node).remove(node)
        for value in node.outputs:
            self._value_names[value.name or ""] -= 1
            value.name = self.fresh_name(value.name or node.op_type)
        self._node_names[node.name or ""] -= 1
        node.name = self.fresh_node_name(node.name or node.op_type)
        _graph_of(before).insert_before(before, node)
        self._changed("inserted", node)

    def move_initializer(self, value: oir.Value, graph: oir.Graph) -> None:
        """Take an initializer from the graph that owns it to `graph`."""
        home = value.graph
        assert home is not None and value.name is not None
        del home.initializers[value.name]
        self._value_names[value.name] -= 1
        value.name = self.fresh_name(value.name)
        graph.initializers.add(value)
        self.changes += 1

    def inline(
        self, graph: oir.Graph, arguments: Sequence[oir.Value | None], *, before: oir.Node
    ) -> list[oir.Value | None]:
        """Empty the body `graph` into the place in front of `before`, its inputs bound to `arguments`.

        Gives back what its outputs are now. Names that would collide get a number; the captures stay as they are.
        """
        for formal, actual in zip(graph.inputs, arguments, strict=True):
            for user, index in formal.uses():
                user.replace_input_with(index, actual)
                self._trim_inputs(user)
        bound = dict(zip(graph.inputs, arguments, strict=True))
        results: list[oir.Value | None] = [bound.get(value, value) for value in graph.outputs]
        graph.outputs.clear()
        home = _graph_of(before)
        for value in list(graph.initializers.values()):
            if self._inside_function(home):
                tensor = value.const_value
                assert tensor is not None
                placed = self.constant(tensor, near=before, name=value.name or "constant")
                value.replace_all_uses_with(placed)
                results = [placed if each is value else each for each in results]
            else:
                self.move_initializer(value, home)
        for node in list(graph):
            self.move(node, before=before)
        return results

    def adopt_names(self, graph: oir.Graph, *, prefix: str) -> None:
        """Give everything in a copied body, at any depth, names that no scope uses."""
        for inner in (graph, *graph.subgraphs()):
            for value in (*inner.inputs, *inner.initializers.values()):
                value.name = self.fresh_name(f"{prefix}/{value.name}")
            for node in inner:
                node.name = self.fresh_node_name(f"{prefix}/{node.name or node.op_type}")
                for value in node.outputs:
                    value.name = self.fresh_name(f"{prefix}/{value.name}")

    def forget_notes(self, noted: oir.Node | oir.Value) -> None:
        """Drop the metadata and the doc string of a node or a value."""
        noted.metadata_props.clear()
        noted.doc_string = None
        self.changes += 1

    # --- names ------------------------------------------------------------------------------------------------------

    def fresh_name(self, wish: str) -> str:
        """A value name that no scope of the model uses: `wish`, or `wish` with the next free number."""
        return _fresh(wish, self._value_names, self._value_numbers)

    def fresh_node_name(self, wish: str) -> str:
        """The same for node names."""
        return _fresh(wish, self._node_names, self._node_numbers)

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

    def _changed(self, event: str, node: oir.Node) -> None:
        self.changes += 1
        self._tell(event, node)

    def _tell(self, event: str, node: oir.Node) -> None:
        for listener in tuple(self._listeners):
            getattr(listener, event)(node)

    @staticmethod
    def _trim_inputs(node: oir.Node) -> None:
        """Drop trailing empty inputs: ONNX Runtime rejects them on some operators (`Squeeze(x, '')`)."""
        keep = len(node.inputs)
        while keep and node.inputs[keep - 1] is None:
            keep -= 1
        if keep < len(node.inputs):
            node.resize_inputs(keep)


def pending_constant(content: Array | oir.TensorProtocol, *, name: str = "constant") -> oir.Value:
    """A constant that belongs to no graph yet; the `Rewriter` places it when a node that reads it is inserted."""
    if isinstance(content, np.ndarray):
        content = np.ascontiguousarray(content).reshape(content.shape)
        tensor: oir.TensorProtocol = _string_tensor(content) if content.dtype.kind in "OU" else oir.tensor(content)
    else:
        tensor = content
    return oir.Value(
        name=name, const_value=tensor, type=oir.TensorType(tensor.dtype), shape=oir.Shape(tensor.shape.numpy())
    )


def _string_tensor(content: Array) -> oir.StringTensor:
    texts = [each if isinstance(each, bytes) else str(each).encode() for each in content.flat]
    return oir.StringTensor(texts, shape=oir.Shape(content.shape))


def discard(nodes: Sequence[oir.Node]) -> None:
    """Forget nodes that are in no graph: they no longer count as users of anything."""
    for node in nodes:
        for body in subgraphs_of(node):
            for inner in list(body.all_nodes()):
                _detach(inner)
        _detach(node)


def _detach(node: oir.Node) -> None:
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)


def _graph_of(node: oir.Node) -> oir.Graph:
    if node.graph is None:
        raise ValueError(f"{node.op_type} {node.name!r} is in no graph")
    return node.graph


def _fresh(wish: str, taken: Counter[str], numbers: Counter[str]) -> str:
    name = wish
    while taken[name]:
        numbers[wish] += 1
        name = f"{wish}_{numbers[wish]}"
    taken[name] += 1
    return name
