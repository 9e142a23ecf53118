"""All graph mutation goes through `Rewriter`.

It counts changes, keeps public names and types, gives new values names that are unique in every scope and the same in
every run, and notifies its listeners.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as oir

from ..schema import AttributeValue
from ..traversal import subgraphs_of
from ..values import INTERFACE_TYPE, is_public, is_read
from .insertion import Inserter, graph_of
from .new_nodes import detach, new_node


class Rewriter(Inserter):
    """Mutation of one model; `changes` counts all changes."""

    def exchange(self, other: oir.Model) -> None:
        """Replace the graph and the functions of the model with those of `other`, which must not be used again."""
        self.model.graph = other.graph
        self.model.functions.clear()
        self.model.functions.update(other.functions)
        self._index()
        self._changed("reset")

    def give_back(self, value: oir.Value, node: oir.Node) -> None:
        """Append `node`, a new user of the output `value`, and make its result the output instead.

        It takes over the name, the type and the dims; `value` stays as an inner value.
        """
        graph = value.graph
        assert graph is not None and value.is_graph_output()
        node.name = self.fresh_node_name(node.name or f"{value.name}_{node.op_type}")
        node.outputs[0].name = self.fresh_name(f"{value.name}_inner")
        graph.append(node)
        self._register(node, graph)
        kind, shape = value.type, value.shape
        self._take_over(value, node.outputs[0])
        value.type, value.shape = kind, shape
        self._unnamed.discard(node.outputs[0])

    # --- replacing --------------------------------------------------------------------------------------------------

    def replace(self, node: oir.Node, results: Sequence[oir.Value | None]) -> None:
        """Replace all uses of the outputs of `node` with `results`, then erase `node`.

        None is the result of an output without users. Public names, tnew types and declared dims stay: a result takes
        over the name where it can, else an Identity has it. Raises ValueError for an output with users and no result.
        """
        for output, result in zip(node.outputs, [*results, *[None] * len(node.outputs)], strict=False):
            if result is output:
                continue
            if result is None:
                if is_read(output):
                    raise ValueError(f"output {output.name!r} of {node.op_type} has users and no replacement")
                continue
            self.redirect(output, result, before=node)
        if not any(output is result for output, result in zip(node.outputs, results, strict=False)):
            self.erase(node)

    def redirect(self, old: oir.Value, new: oir.Value, *, before: oir.Node) -> None:
        """Replace all uses of `old` with `new`. An Identity, if one is needed, goes before `before`.

        The result of a node that was inserted for this takes over the name and the declarations of `old`.
        """
        new = self.current(new)
        if new in self._unnamed and new.graph is old.graph and self._can_take_over(old, new):
            self._take_over(old, new)
        elif old.is_graph_output():
            self._take_over(old, self._named_result(old, new, before))
        self._unnamed.discard(new)
        for user, index in old.uses():
            user.replace_input_with(index, new)
            self._tell("modified", user)
        self._replaced[old] = new
        self._changed("replaced", old, new)

    def can_redirect(self, old: oir.Value, new: oir.Value, *, before: oir.Node) -> bool:
        """Whether `redirect` leaves a valid model: the Identity that it may need takes only tensors at old opsets.

        Sequences since opset 14, optionals since 16 (ONNX, changelog of Identity).
        """
        if not old.is_graph_output() or (old.type is not None and isinstance(old.type, oir.TensorType)):
            return True
        if self._keeps_its_name(old, new):
            return True
        version = self.imports_of(graph_of(before)).get("", 0)
        return version >= (14 if isinstance(old.type, oir.SequenceType) else 16)

    @staticmethod
    def _keeps_its_name(old: oir.Value, new: oir.Value) -> bool:
        """Whether `new` can have the name of `old`."""
        producer = new.producer()
        return producer is not None and producer.graph is old.graph and not is_public(new)

    @staticmethod
    def _can_take_over(old: oir.Value, new: oir.Value) -> bool:
        """An initializer may have the name of an inner value, but cannot be an output."""
        return new.producer() is not None or not old.is_graph_output()

    def _named_result(self, old: oir.Value, new: oir.Value, before: oir.Node) -> oir.Value:
        """The value that can have the public name of `old`: `new` itself, or an Identity of it.

        An input, an initializer, a value of an outer scope or another output keeps its own name.
        """
        if self._keeps_its_name(old, new):
            return new
        # A graph of ai.onnx.ml or custom operators alone may not import the standard's.
        identity = new_node("Identity", [new], version=self.imports_of(graph_of(before)).get("", 13))
        return self.insert(identity, before=before).outputs[0]

    def _take_over(self, old: oir.Value, new: oir.Value) -> None:
        """Give `new` the name of `old`, its index among the outputs, and its declarations."""
        name, graph = old.name or "", old.graph
        spare = new.name
        old.name = None
        if old.is_graph_output():
            assert graph is not None
            for index, output in enumerate(graph.outputs):
                if output is old:
                    graph.outputs[index] = new
        new.name, old.name = name, spare  # old is about to go; its new name only has to be free
        if new.is_initializer():
            return
        new.type, new.shape, new.doc_string = old.type, old.shape, old.doc_string
        if INTERFACE_TYPE in old.meta:
            new.meta[INTERFACE_TYPE] = old.meta[INTERFACE_TYPE]
        new.metadata_props.clear()
        new.metadata_props.update(old.metadata_props)

    def set_input(self, node: oir.Node, index: int, value: oir.Value | None) -> None:
        """Set the operand of `node` at `index` (None: absent); a pending constant is placed."""
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
        """Set the attribute `name` of `node`, or remove it when `value` is None."""
        if value is None:
            node.attributes.pop(name, None)
        else:
            node.attributes[name] = oir.convenience.convert_attribute(name, value)
        self._changed("modified", node)

    def trim_outputs(self, node: oir.Node, count: int) -> None:
        """Keep the first `count` outputs of `node`. Raises ValueError when another has users."""
        if any(is_read(value) for value in node.outputs[count:]):
            raise ValueError(f"an output of {node.op_type} {node.name!r} beyond the first {count} has users")
        node.resize_outputs(count)
        self._changed("modified", node)

    def omit_output(self, value: oir.Value) -> None:
        """Omit an optional output of a node, by an empty name. Raises ValueError when it has users."""
        node = value.producer()
        if node is None or is_read(value):
            raise ValueError(f"expected a node's output without users, got {value.name!r}")
        self._value_names[value.name or ""] -= 1
        value.name = ""
        self._changed("modified", node)

    # --- erasing ----------------------------------------------------------------------------------------------------

    def erase(self, node: oir.Node) -> None:
        """Remove `node` from its graph. Raises ValueError while one of its outputs has users."""
        used = [value.name for value in node.outputs if is_read(value)]
        if used:
            raise ValueError(f"cannot erase {node.op_type} {node.name!r}: {used} have users")
        graph = graph_of(node)
        operands = [value for value in node.inputs if value is not None]
        for body in subgraphs_of(node):  # onnx-ir leaves the captures of dead bodies in `uses()`
            for inner in list(body.all_nodes()):
                operands += [value for value in inner.inputs if value is not None]
                detach(inner)
        graph.remove(node)
        detach(node)
        self._changed("erased", node)
        for value in dict.fromkeys(operands):
            self._tell("released", value)

    def erase_initializer(self, value: oir.Value) -> None:
        """Remove an initializer. Raises ValueError when it has users or is public."""
        graph = value.graph
        if graph is None or is_read(value) or is_public(value) or value.name is None:
            raise ValueError(f"initializer {value.name!r} has users or is public")
        del graph.initializers[value.name]
        self.changes += 1

    def erase_function(self, identifier: oir.OperatorIdentifier) -> None:
        """Remove a function of the model without calls, which the caller has checked."""
        del self.model.functions[identifier]
        self.changes += 1

    def drop_import(self, domain: str) -> None:
        """Remove the import of a domain without calls, which the caller has checked."""
        del self.model.opset_imports[domain]
        self.changes += 1

    def move(self, node: oir.Node, *, before: oir.Node) -> None:
        """Move `node`, perhaps from a subgraph, in front of `before`."""
        graph_of(node).remove(node)
        for value in node.outputs:
            self._value_names[value.name or ""] -= 1
            value.name = self.fresh_name(value.name or node.op_type)
        self._node_names[node.name or ""] -= 1
        node.name = self.fresh_node_name(node.name or node.op_type)
        graph_of(before).insert_before(before, node)
        self._changed("inserted", node)

    def move_initializer(self, value: oir.Value, graph: oir.Graph) -> None:
        """Move an initializer to `graph`."""
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
        """Move the nodes of a body in front of `before`, its inputs bound to `arguments`; return its outputs.

        Names that would collide get a suffix; captured values stay as they are.
        """
        for formal, actual in zip(graph.inputs, arguments, strict=True):
            for user, index in formal.uses():
                user.replace_input_with(index, actual)
                self._trim_inputs(user)
        bound = dict(zip(graph.inputs, arguments, strict=True))
        results: list[oir.Value | None] = [bound.get(value, value) for value in graph.outputs]
        graph.outputs.clear()
        home = graph_of(before)
        for value in list(graph.initializers.values()):
            if self._inside_function(home):
                tensor = value.const_value
                assert tensor is not None
                placed = self.constant(tensor, near=before, name=value.name or "constant")
                value.replace_all_uses_with(placed)
                results = [placed if result is value else result for result in results]
            else:
                self.move_initializer(value, home)
        for node in list(graph):
            self.move(node, before=before)
        return results

    def adopt_names(self, graph: oir.Graph, *, prefix: str) -> None:
        """Give all values and nodes of a copied body, at any depth, fresh names."""
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
