"""The states that a Loop or Scan carries from turn to turn."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as oir

from .mutation.new_nodes import new_node, pending_constant
from .mutation.rewriter import Rewriter
from .traversal import nodes_within


@dataclass(frozen=True)
class LoopState:
    """A loop-carried state: its initial value, its value in an iteration and after it, and its final value."""

    index: int
    start: oir.Value | None
    value: oir.Value
    end: oir.Value
    result: oir.Value


def state_offsets(loop: oir.Node) -> tuple[int, int]:
    """How many inputs of the node and its body, and outputs of its body, come before those of the states.

    Of an If: none before its results.
    """
    return (2, 1) if loop.op_type == "Loop" else (0, 0)


def loop_states(loop: oir.Node) -> Iterator[LoopState]:
    """The states of a Loop, or of a Scan of opset 9 or later, that has a body of its own."""
    body = loop.attributes["body"].as_graph()
    inputs, outputs = state_offsets(loop)
    scanned = loop.attributes["num_scan_inputs"].as_int() if loop.op_type == "Scan" else 0
    for index in range(len(body.inputs) - inputs - scanned):
        start = loop.inputs[inputs + index] if inputs + index < len(loop.inputs) else None
        yield LoopState(index, start, body.inputs[inputs + index], body.outputs[outputs + index], loop.outputs[index])


def drop_loop_states(rewriter: Rewriter, loop: oir.Node, dropped: Collection[int]) -> oir.Node:
    """Remove states that nothing needs from the body and the loop; returns the loop without them.

    `dropped` are their indices. Their results have no users, and in the body only they themselves depend on them.
    Raises ValueError when something else does.
    """
    body = loop.attributes["body"].as_graph()
    inputs, outputs = state_offsets(loop)
    depending = {body.inputs[inputs + index] for index in dropped}
    users = []
    for node in body:
        within = (value for inner in nodes_within(node) for value in inner.inputs)
        if not depending.isdisjoint(node.inputs) or not depending.isdisjoint(within):
            users.append(node)
            depending.update(node.outputs)
    for index in sorted(dropped, reverse=True):
        body.outputs.pop(outputs + index)  # `del` would leave the value marked as an output
    for user in reversed(users):
        rewriter.erase(user)
    for index in sorted(dropped, reverse=True):
        body.inputs.pop(inputs + index)
    kept = [index for index in range(len(loop.outputs)) if index not in dropped]
    given = [value for place, value in enumerate(loop.inputs) if place - inputs not in dropped]
    if loop.op_type == "Loop" and len(given) == inputs and given[1] is None:  # a Loop has at least two inputs
        given[1] = pending_constant(np.array(True), name="condition")
    attributes = {name: each for name, each in loop.attributes.items() if name != "body"}
    made = new_node(loop.op_type, given, attributes, version=loop.version, outputs=len(kept))
    made.name = loop.name
    made.metadata_props.update(loop.metadata_props)
    made.attributes["body"] = loop.attributes.pop("body")
    for index, value in zip(kept, made.outputs, strict=True):
        value.name = loop.outputs[index].name
    rewriter.insert(made, before=loop)
    results: list[oir.Value | None] = [None] * len(loop.outputs)
    for index, value in zip(kept, made.outputs, strict=True):
        results[index] = value
    rewriter.replace(loop, results)
    return made
