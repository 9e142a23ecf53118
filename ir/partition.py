"""A model cut at inner values: each piece computes a cut value from others, that are given."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import onnx
import onnx_ir as oir

from .fingerprint import digest
from .io.encoded_attributes import EncodedAttr
from .io.load import serialized
from .subgraph import ValueType, embedded, value_info
from .traversal import nodes_within
from .values import constant_tensor

CUT: Final = "/computed"
"""Follows the name of a cut value in the output that holds what its producer computes."""


_SHAPES = (("", "Shape", ""), ("", "Size", ""))
"""Operators that read no content."""


def cut_at(model: oir.Model, known: Mapping[str, ValueType]) -> bytes:
    """A serialized model in which users of the values named in `known` read inputs of the same names.

    What the producer of a cut value computes is the output `NAME/computed`; of the model's own outputs those that are
    not cut stay. `known` has the element type and shape of each cut value, all of them results of nodes of the main
    graph. Raises ModelError when the model is larger than protobuf allows.
    """
    proto = embedded(model)
    graph = proto.graph
    del graph.value_info[:]
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in known:
                node.output[index] = name + CUT
    kept = [output for output in graph.output if output.name not in known]
    del graph.output[:]
    graph.output.extend(kept)
    graph.output.extend(onnx.ValueInfoProto(name=name + CUT) for name in known)
    graph.input.extend(value_info(name, kind) for name, kind in known.items())
    return serialized(proto)


def piece_inputs(value: oir.Value, cut: Collection[str]) -> set[oir.Value]:
    """The cut values and graph inputs whose content the piece which computes `value` reads; it may be cut itself."""
    found: set[oir.Value] = set()
    pending, seen = [value], {value}
    while pending:
        node = pending.pop().producer()
        for operand in () if node is None or node.op_identifier() in _SHAPES else _operands(node):
            if operand in seen or constant_tensor(operand) is not None:
                continue
            seen.add(operand)
            if operand.name in cut or operand.producer() is None:
                found.add(operand)
            else:
                pending.append(operand)
    return found


def same_piece(one: oir.Value, other: oir.Value, cut: Collection[str]) -> bool:
    """Whether the pieces that compute two values are the same operators on the same constants and cut values.

    Where a body of Loop, If or Scan differs in as much as a name, the answer is no.
    """
    pending, seen = [(one, other)], {(one, other)}
    while pending:
        ours, theirs = pending.pop()
        mine, its = ours.producer(), theirs.producer()
        if mine is None or its is None or not _same_node(mine, its):
            return False
        if mine.outputs.index(ours) != its.outputs.index(theirs):
            return False
        mine_read, its_read = list(_operands(mine)), list(_operands(its))
        if len(mine_read) != len(its_read):
            return False
        for pair in zip(mine_read, its_read, strict=True):
            if pair in seen or _same_leaf(*pair, cut):
                continue
            seen.add(pair)
            pending.append(pair)
    return True


def _operands(node: oir.Node) -> Iterator[oir.Value]:
    """The values of the main graph that a node reads, captured ones included."""
    yield from (value for value in node.inputs if value is not None)
    for inner in nodes_within(node):
        yield from (value for value in inner.inputs if value is not None and value.graph is node.graph)


def _same_leaf(one: oir.Value, other: oir.Value, cut: Collection[str]) -> bool:
    ours, theirs = constant_tensor(one), constant_tensor(other)
    if ours is not None or theirs is not None:
        return ours is not None and theirs is not None and digest(ours) == digest(theirs)
    is_leaf = one.name in cut or (one.producer() is None and other.producer() is None)
    return is_leaf and one.name == other.name


def _same_node(one: oir.Node, other: oir.Node) -> bool:
    if one.op_identifier() != other.op_identifier() or one.version != other.version:
        return False
    absent = [value is None for value in one.inputs] == [value is None for value in other.inputs]
    return absent and len(one.outputs) == len(other.outputs) and _attributes(one) == _attributes(other)


def _attributes(node: oir.Node) -> dict[str, bytes]:
    return {
        name: each.encoded
        if isinstance(each, EncodedAttr)
        else oir.serde.serialize_attribute(each).SerializeToString(deterministic=True)
        for name, each in node.attributes.items()
    }
