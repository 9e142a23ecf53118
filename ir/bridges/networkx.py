"""The model as a networkx graph, for questions about the graph as such. networkx is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import onnx_ir as oir

from ..traversal import nodes_within

if TYPE_CHECKING:
    import networkx as nx


def graph_view(graph: oir.Graph, *, sources: bool = False) -> nx.DiGraph[Any]:
    """The nodes of one graph, an edge from each to every node that reads one of its results.

    An edge has the values under `values`, in the order of the reader's inputs; a node has its `position`. What the
    bodies in a node capture counts as read by the node. `sources` adds inputs and initializers as nodes of their own.
    A snapshot: it does not follow later changes.
    """
    import networkx as nx

    view: nx.DiGraph[Any] = nx.DiGraph()
    for position, node in enumerate(graph):
        view.add_node(node, position=position)
    for node in graph:
        inner = (value for each in nodes_within(node) for value in each.inputs)
        read = dict.fromkeys(value for value in (*node.inputs, *inner) if value is not None and value.graph is graph)
        for value in read:
            origin = value.producer() or (value if sources else None)
            if origin is None:
                continue
            if view.has_edge(origin, node):
                view.edges[origin, node]["values"] += (value,)
            else:
                view.add_edge(origin, node, values=(value,))
    return view


def is_convex(view: nx.DiGraph[Any], members: Collection[oir.Node]) -> bool:
    """Whether no path leaves `members` and comes back: only then can one node stand for all of them.

    `view` must be in topological order. Walks no further than the last member stands.
    """
    inside = set(members)
    last = max((view.nodes[node]["position"] for node in inside), default=-1)
    pending = [after for node in inside for after in view.successors(node) if after not in inside]
    seen = set(pending)
    while pending:
        node = pending.pop()
        if view.nodes[node]["position"] > last:
            continue
        for after in view.successors(node):
            if after in inside:
                return False
            if after not in seen:
                seen.add(after)
                pending.append(after)
    return True


def dominators(view: nx.DiGraph[Any], *, backwards: bool = False) -> dict[oir.Node, oir.Node | None]:
    """The immediate dominator of each node: the last one that every path to it goes through; None where there is none.

    `backwards` gives post-dominators: the first one that every path from it goes through.
    """
    import networkx as nx

    if not view:
        return {}
    entry = object()  # one way in for all
    directed = view.reverse() if backwards else view.copy()
    directed.add_edges_from([(entry, node) for node, degree in list(directed.in_degree()) if degree == 0])
    found = nx.immediate_dominators(directed, entry)
    return {node: None if found[node] is entry else found[node] for node in view}
