"""Check a rule's replacement when its body has built it, before anything in the graph changes.

A malformed replacement raises in the driver, which names the rule. A node that a correct rule does not apply to (no
kernel for its types, other dims) is no fault: see the guards in `driver.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

from ... import ir
from ..pipeline.pass_ import where
from .builder import Builder
from .match import Match

_State: TypeAlias = tuple[object, ...]


class ReplacementError(Exception):
    """The body of a rule built something malformed, or changed the graph."""


def check_replacement(match: Match, results: Sequence[tuple[ir.Value, ir.Value]], builder: Builder) -> None:
    """Raise ReplacementError for a replacement that no graph may contain. `results`: pairs of an old and a new value.

    Checked: operators, number of inputs and outputs, attributes and their types, element types of operands as far as
    they are known (`match.shapes` must know the nodes), and that every operand is defined in a scope around the root.
    """
    defined = _Defined(match)
    replaced = {old for old, _ in (*results, *builder.replaced)}
    for node in builder.nodes:
        _check_node(node, match)
        for value in node.inputs:
            if value is not None:
                defined.check(value, node.op_type)
                if value in replaced:
                    raise ReplacementError(f"{node.op_type} reads {value.name!r}, which it is to replace")
        defined.built.update(node.outputs)
    for _, result in results:
        defined.check(result, "the result")  # its type and dims: see the driver's guard
    users = (user for old, _ in results for user in old.consumers() if user.graph is match.root.graph)
    replaceable = {value for node in (*match.nodes(), *users) for value in node.outputs}
    for old, new in builder.replaced:
        if old not in replaceable:
            raise ReplacementError(f"replaces {old.name!r}, which is neither in the match nor made from its result")
        _check_replaces(match, old, new, defined)


class _Defined:
    """The values that are defined at the root: those of the match, of enclosing scopes, and of the replacement."""

    def __init__(self, match: Match) -> None:
        self.match = match
        self.built: set[ir.Value] = set()
        self._matched = {value for node in match.nodes() for value in (*node.inputs, *node.outputs)}
        self._scopes: set[ir.Graph] | None = None

    def check(self, value: ir.Value, reader: str) -> None:
        """Raise ReplacementError for an operand of `reader` that is not defined. Its order is checked by `verify`."""
        if value in self.built or value in self._matched or value.graph is self.match.root.graph:
            return
        if value.graph is None:
            if value.producer() is None and value.const_value is not None:
                return
            message = f"{reader} reads {value.name!r}, which is neither in the graph nor built with `op` before it"
            raise ReplacementError(message)
        if self._scopes is None:  # onnx-ir's graphs do not know what they lie in: walked only where it matters
            owners = ir.owners_in(ir.nodes(self.match.context.rewriter.model))
            self._scopes = set(ir.graphs_around(self.match.root, owners))
        if value.graph not in self._scopes:
            raise ReplacementError(f"{reader} reads {value.name!r}, which is computed in another graph")


def _check_node(node: ir.Node, match: Match) -> None:
    if node.graph is not None:
        raise ReplacementError(f"{node.op_type} is already in a graph")
    if node.op_identifier() in match.context.rewriter.model.functions:
        return
    if node.version is None:
        raise ReplacementError(f"{node.op_type}: domain {node.domain!r} is not imported; pass version=")
    if ir.schema_of(node) is None:
        operators = ir.standard_operators()
        if node.domain in operators and node.op_type not in operators[node.domain]:
            hint = ir.did_you_mean(node.op_type, operators[node.domain])
            raise ReplacementError(f"{node.domain or 'ai.onnx'} has no operator {node.op_type}{hint}")
        return  # of another opset, which is a property of the place, or of a custom domain
    dtypes = [None if value is None else match.shapes.dtype(value) for value in node.inputs]
    problem = next(iter(ir.schema_problems(node, node.version)), None)
    problem = problem or next(iter(ir.type_problems(node, dtypes)), None)
    if problem is not None:
        raise ReplacementError(f"{node.op_type}: {problem[1]}")


def _check_replaces(match: Match, old: ir.Value, new: ir.Value, defined: _Defined) -> None:
    defined.check(new, "the result")
    before, after = match.shapes.dtype(old), match.shapes.dtype(new)
    is_new = new in defined.built or new.graph is None
    if is_new and before is not None and after is not None and before != after:
        raise ReplacementError(f"{old.name!r} of type {before.name} would become {after.name}")


# --- what a body must leave as it is ----------------------------------------------------------------------------------


@contextmanager
def untouched(match: Match) -> Iterator[None]:
    """Raise ReplacementError when the block changed the graph around `match`; its constants cannot be written to.

    Compared are the nodes of the match, those that compute their operands and those that use their results, the sizes
    of the graph, and whether the `Rewriter` was used: a body builds, and the driver replaces.
    """
    rewriter = match.context.rewriter
    changes, sizes = rewriter.changes, _sizes(match.root)
    nodes = _around(match)
    states = [_state(node) for node in nodes]
    operands = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    with ir.read_only(ir.constant_tensor(value) or value.const_value for value in operands):
        yield
    if rewriter.changes != changes:
        raise ReplacementError("it used the rewriter in its body, which must only build")
    if _sizes(match.root) != sizes:
        raise ReplacementError("it added or removed nodes, inputs or initializers in place")
    for node, state in zip(nodes, states, strict=True):
        if _state(node) != state:
            raise ReplacementError(f"it changed {node.op_type} ({where(node)}) in place")


def _around(match: Match) -> list[ir.Node]:
    matched = match.nodes()
    producers = [value.producer() for node in matched for value in node.inputs if value is not None]
    users = [user for node in matched for value in node.outputs for user, _ in value.uses() if user.graph is not None]
    return list(dict.fromkeys([*matched, *(node for node in producers if node is not None), *users]))


def _state(node: ir.Node) -> _State:
    """Everything about a node but its notes, by identity: attributes are immutable."""
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    return (
        node.op_identifier(),
        node.version,
        tuple(node.inputs),
        tuple(node.outputs),
        tuple((name, id(each)) for name, each in node.attributes.items()),
        tuple((value.name, value.type, _dims(value.shape), id(value.const_value)) for value in values),
    )


def _dims(shape: ir.Shape | None) -> tuple[object, ...] | None:
    return None if shape is None else tuple(shape)


def _sizes(root: ir.Node) -> list[int]:
    graph = root.graph
    assert graph is not None
    return [len(graph), len(graph.inputs), len(graph.outputs), len(graph.initializers)]
