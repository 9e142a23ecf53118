"""When values live: from the node that makes them to the last one that reads them, in the order of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from ... import ir
from .manager import Analysis, AnalysisManager
from .shapes import Shapes

"""Views: their result is their first input, in the same memory (`Alias(0, 0)` in ONNX Runtime's kernels)."""


@dataclass(frozen=True)
class Liveness(Analysis):
    """The life of each activation of the main graph, in positions of its nodes.

    Activations are results of nodes. Inputs of the model, weights and Constants are not counted, nor are results
    inside bodies of If, Loop and Scan; the values of the main graph that bodies use are. A view is no activation
    of its own, but reads the one that it views for as long as it lives; a view that the model gives out is a copy.
    """

    first: Mapping[ir.Value, int]
    """The index of the producer."""
    last: Mapping[ir.Value, int]
    """The index of the last user; that of the last node of all for an output of the model."""
    nodes: tuple[ir.Node, ...]
    shapes: Shapes

    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Liveness:
        """The live ranges in the main graph of `model`."""
        nodes = tuple(model.graph)
        first: dict[ir.Value, int] = {}
        last: dict[ir.Value, int] = {}
        viewed: dict[ir.Value | None, ir.Value | None] = {}
        for position, node in enumerate(nodes):
            users = (node, *ir.nodes_within(node))
            read = [value for user in users for value in user.inputs]
            read += [value for body in ir.subgraphs_of(node) for value in body.outputs]
            memories = (viewed.get(value, value) for value in read)
            last.update((memory, position) for memory in memories if memory is not None and memory in first)
            if node.domain == "" and node.op_type in ir.ALIASES and not node.outputs[0].is_graph_output():
                viewed[node.outputs[0]] = viewed.get(node.inputs[0], node.inputs[0])
            elif node.op_type != "Constant" or node.domain != "":
                first.update((value, position) for value in node.outputs)
                last.update((value, position) for value in node.outputs)
        last.update((value, len(nodes) - 1) for value in model.graph.outputs if value in first)
        return cls(first, last, nodes, analyses.get(Shapes))

    def bytes_of(self, value: ir.Value, bindings: Mapping[str, int] | None = None) -> int | None:
        """The size of a tensor where the symbols have these values; None where it is not known."""
        return self.shapes.fact(value).bound(bindings or {}).bytes

    def live_bytes(self, bindings: Mapping[str, int] | None = None) -> list[int] | None:
        """Bytes of live activations while each node runs, none written in place; None where a size is not known."""
        change = [0] * (len(self.nodes) + 1)
        for value, position in self.first.items():
            if value.name == "" and not ir.is_read(value):
                continue  # an omitted optional output
            size = self.bytes_of(value, bindings)
            if size is None:
                return None
            change[position] += size
            change[self.last[value] + 1] -= size
        return list(accumulate(change[:-1]))

    def peak_bytes(self, bindings: Mapping[str, int] | None = None) -> int | None:
        """The most bytes of activations that live at once; None where a size is not known."""
        live = self.live_bytes(bindings)
        return None if live is None else max(live, default=0)
