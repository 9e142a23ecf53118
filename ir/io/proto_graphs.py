"""The graphs in a protobuf model, those in attributes included."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def graphs_within(*roots: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The roots and every graph that their nodes hold, at any depth; iterative, as depth is the file's to choose."""
    pending = list(roots)
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            pending.extend(bodies_of(node))


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
