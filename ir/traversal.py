"""Scopes: the graph, the subgraphs in its nodes' attributes, the functions; and which values cross them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as oir

_BODIES = frozenset({oir.AttributeType.GRAPH, oir.AttributeType.GRAPHS})


def subgraphs_of(node: oir.Node) -> Iterator[oir.Graph]:
    """The graphs that `node` holds directly in its attributes (the bodies of If, Loop, Scan), in attribute order."""
    # Asked of every node by every pass: `data` is the plain dict below the mapping, several times as fast to walk.
    for attribute in node.attributes.data.values():
        kind = attribute.type
        if kind in _BODIES and not attribute.is_ref():
            yield from (attribute.as_graph(),) if kind == oir.AttributeType.GRAPH else attribute.as_graphs()


def graphs(model: oir.Model) -> Iterator[oir.Graph]:
    """Every graph of the model, outer before inner: the main graph, its subgraphs, then those of each function.

    Iterative: nesting depth is bounded by protobuf, not by Python's stack.
    """
    roots = [model.graph, *(function.graph for function in model.functions.values())]
    for root in roots:
        pending = [root]
        while pending:
            graph = pending.pop()
            yield graph
            inner = [body for node in graph for body in subgraphs_of(node)]
            pending.extend(reversed(inner))


def nodes(model: oir.Model) -> Iterator[oir.Node]:
    """Every node of every graph of the model; safe against edits of the graph that is being walked."""
    for graph in graphs(model):
        yield from graph


def nodes_within(node: oir.Node) -> Iterator[oir.Node]:
    """The nodes of the graphs that `node` holds, at any depth."""
    pending = list(subgraphs_of(node))
    while pending:
        graph = pending.pop()
        for inner in graph:
            yield inner
            pending.extend(subgraphs_of(inner))


def owners_in(nodes: Iterable[oir.Node]) -> dict[oir.Graph, oir.Node]:
    """The owner of every body that one of `nodes` has."""
    return {body: node for node in nodes for body in subgraphs_of(node)}


def graphs_around(node: oir.Node, owners: Mapping[oir.Graph, oir.Node]) -> Iterator[oir.Graph]:
    """The graphs that `node` lies in, the innermost first; `owners`: of the bodies among them."""
    while isinstance(node.graph, oir.Graph):
        yield node.graph
        if node.graph not in owners:
            return
        node = owners[node.graph]


def hiding_values(root: oir.Graph) -> Iterator[oir.Value]:
    """The inputs and initializers of bodies in `root` that hide a value of a graph around them by having its name.

    Checkers and ONNX Runtime let them pass; names of results they do not.
    """
    pending: list[tuple[oir.Graph, tuple[set[str | None], ...]]] = [(root, ())]
    while pending:
        graph, around = pending.pop()
        mine = [*graph.inputs, *graph.initializers.values()]
        yield from (value for value in dict.fromkeys(mine) if any(value.name in names for names in around))
        bodies = [body for node in graph for body in subgraphs_of(node)]
        if bodies:
            names = {value.name for value in mine} | {value.name for node in graph for value in node.outputs}
            pending += [(body, (*around, names)) for body in reversed(bodies)]


def is_captured(value: oir.Value) -> bool:
    """Whether a graph other than the one that defines `value` reads it."""
    home = value.graph
    return any(user.graph is not home for user, _ in value.uses())


def in_function(graph: oir.Graph, model: oir.Model) -> bool:
    """Whether `graph` is the body of a function of `model` (bodies have no initializers)."""
    return any(function.graph is graph for function in model.functions.values())
