"""Resolve sequences and optionals of known elements, from torch's chunk, split and unbind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...registry import register
from ..shape.slices_to_split import SPLITS, new_split

_MOST_PIECES: Final = 1024

Elements = list[ir.Value]


@register
@dataclass(frozen=True)
class ResolveSequences(Pass):
    """Replace operators on a sequence of known elements by those elements, and on an optional by its content.

    Known are SequenceConstruct, SequenceEmpty, SequenceInsert and SequenceErase at a constant position, and
    SplitToSequence into a known number of pieces, which becomes one Split. A position out of range is an
    error at run time, and is kept.

    before:  s = SplitToSequence <axis = 1> (x, %two); y = SequenceAt(s, %zero)      x: [n, 4]
    after:   y, z = Split <axis = 1> (x)
    """

    name: ClassVar[str] = "resolve-sequences"

    def run(self, model: ir.Model, context: PassContext) -> None:
        if context.hides_operators():
            return
        for graph in ir.graphs(model):
            for node in list(graph):
                if node.domain != "" or node.op_type not in _USERS or node.graph is None:
                    continue
                _Resolver(context.analyses.get(Shapes), context).resolve(node)


_USERS: Final = frozenset("SequenceAt SequenceLength ConcatFromSequence OptionalGetElement OptionalHasElement".split())


class _Resolver:
    """Resolves the operators on one sequence or optional."""

    def __init__(self, shapes: Shapes, context: PassContext) -> None:
        self.shapes, self.context = shapes, context

    def resolve(self, node: ir.Node) -> None:
        """Replace `node` where the elements of its operand are known."""
        source = node.inputs[0] if node.inputs else None
        if node.op_type == "OptionalHasElement":
            held = self._has_element(source)
            if held is not None and self._permitted(node, "a constant"):
                self._replace(node, self.context.rewriter.constant(np.asarray(held), near=node))
        elif source is None:
            return
        elif node.op_type == "OptionalGetElement":
            content = _content(source) or (source if self.shapes.is_tensor(source) else None)
            if content is not None and self._permitted(node, "the content"):
                self._replace(node, content)
        elif node.op_type == "SequenceLength":
            length = self._length(source)
            if length is not None and self._permitted(node, "a constant"):
                self._replace(node, self.context.rewriter.constant(np.asarray(length, dtype=np.int64), near=node))
        elif node.op_type == "SequenceAt":
            self._resolve_element(node, source)
        elif node.op_type == "ConcatFromSequence":
            self._resolve_concat(node, source)

    def _resolve_element(self, node: ir.Node, source: ir.Value) -> None:
        length, position = self._length(source), _integer(node.inputs[1])
        if length is None or position is None or not -length <= position < length:
            return
        if self._permitted(node, f"element {position} of {length}"):
            elements = self._elements(source)
            assert elements is not None
            self._replace(node, elements[position])

    def _resolve_concat(self, node: ir.Node, source: ir.Value) -> None:
        axis, stacks = ir.attribute(node, "axis"), ir.attribute(node, "new_axis") == 1
        if not isinstance(axis, int) or not self._length(source):
            return
        if stacks and (node.version or 0) < 13:
            return  # one Unsqueeze for each element: more operators, for which the rules of newer opsets make up
        if self._ranks_differ(source) or not self._permitted(node, "Concat"):
            return
        pieces = self._elements(source)
        assert pieces is not None
        if stacks:
            pieces = [self._insert("Unsqueeze", [piece], {"axes": [axis]}, node).outputs[0] for piece in pieces]
        self._replace(node, self._insert("Concat", pieces, {"axis": axis}, node).outputs[0])

    def _ranks_differ(self, source: ir.Value) -> bool:
        """Whether elements have different ranks: a Concat would fail when the model is loaded, not at run time."""
        return len({self.shapes.rank(each) for each in self._known_elements(source)} - {None}) > 1

    def _known_elements(self, source: ir.Value) -> list[ir.Value]:
        """The elements of a sequence of known length that are values already: not those of a SplitToSequence."""
        node = source.producer()
        assert node is not None
        if node.op_type == "SequenceConstruct":
            return [value for value in node.inputs if value is not None]
        if node.op_type == "SplitToSequence":
            return [value for value in node.inputs[:1] if value is not None and ir.attribute(node, "keepdims") != 0]
        if node.op_type == "SequenceEmpty" or node.inputs[0] is None:
            return []
        inserted = node.inputs[1:2] if node.op_type == "SequenceInsert" else ()
        return [*self._known_elements(node.inputs[0]), *(value for value in inserted if value is not None)]

    def _has_element(self, source: ir.Value | None) -> bool | None:
        if source is None:
            return False
        if _content(source) is not None or self.shapes.is_tensor(source):
            return True
        producer = source.producer()
        is_empty = producer is not None and producer.op_type == "Optional" and producer.domain == ""
        return False if is_empty else None

    def _length(self, source: ir.Value) -> int | None:
        """The number of elements, without inserting nodes."""
        node = source.producer()
        if node is None or node.domain != "":
            return None
        if node.op_type == "SequenceConstruct":
            return len(node.inputs)
        if node.op_type == "SequenceEmpty":
            return 0
        if node.op_type == "SplitToSequence":
            sizes = self._sizes(node)
            return None if sizes is None else len(sizes)
        if node.op_type not in ("SequenceInsert", "SequenceErase", "Identity") or node.inputs[0] is None:
            return None
        length = self._length(node.inputs[0])
        if length is None or node.op_type == "Identity":
            return length
        if self._position(node, length) is None:
            return None
        return length + 1 if node.op_type == "SequenceInsert" else length - 1

    def _position(self, node: ir.Node, length: int) -> int | None:
        """The position of a SequenceInsert or SequenceErase from the front; None where it is not known."""
        is_insert = node.op_type == "SequenceInsert"
        place = 2 if is_insert else 1
        given = node.inputs[place] if place < len(node.inputs) else None
        last = length if is_insert else length - 1
        position = last if given is None else _integer(given)
        if position is None or not -length <= position <= last:
            return None
        return position if position >= 0 else position + length

    def _elements(self, source: ir.Value) -> Elements | None:
        """The elements of a sequence of known length; for a SplitToSequence a Split is inserted."""
        node = source.producer()
        assert node is not None
        if node.op_type == "SequenceConstruct":
            return [value for value in node.inputs if value is not None]
        if node.op_type == "SequenceEmpty":
            return []
        if node.op_type == "SplitToSequence":
            return self._split(node)
        assert node.inputs[0] is not None
        elements = self._elements(node.inputs[0])
        if elements is None or node.op_type == "Identity":
            return elements
        position = self._position(node, len(elements))
        assert position is not None
        if node.op_type == "SequenceErase":
            return elements[:position] + elements[position + 1 :]
        assert node.inputs[1] is not None
        return [*elements[:position], node.inputs[1], *elements[position:]]

    def _sizes(self, node: ir.Node) -> list[int] | None:
        """The sizes of the pieces of a SplitToSequence along its axis."""
        source = node.inputs[0]
        axis = ir.attribute(node, "axis")
        dims = self.shapes.dims(source) if source is not None else None
        if source is None or dims is None or not isinstance(axis, int) or not -len(dims) <= axis < len(dims):
            return None
        if self.shapes.dtype(source) not in SPLITS or (node.version or 0) < 13:
            return None
        split = node.inputs[1] if len(node.inputs) > 1 else None
        size = dims[axis]
        if split is None:
            return [1] * size if isinstance(size, int) and 0 < size <= _MOST_PIECES else None
        content = ir.constant(split)
        if content is None or content.size > _MOST_PIECES:
            return None
        if content.ndim == 0 and ir.attribute(node, "keepdims") == 0:
            return None  # the standard ignores keepdims beside a split, ONNX Runtime does not
        if content.ndim == 1:
            sizes = [int(each) for each in content]
            is_whole = sum(sizes) == size if isinstance(size, int) else len(sizes) > 1
            return sizes if is_whole and min(sizes, default=-1) >= 0 else None  # else it fails at run time
        step = int(content)
        if not isinstance(size, int) or step <= 0 or not 0 < size <= step * _MOST_PIECES:
            return None
        return [min(step, size - start) for start in range(0, size, step)]

    def _split(self, node: ir.Node) -> Elements:
        sizes, source = self._sizes(node), node.inputs[0]
        assert sizes is not None and source is not None
        axis = ir.attribute(node, "axis")
        assert isinstance(axis, int)
        if len(sizes) == 1:
            pieces: Elements = [source]
        else:
            split = new_split(source, axis, sizes, node.version or 0)
            self.context.rewriter.insert(split, before=node)
            pieces = list(split.outputs)
        drops_axis = len(node.inputs) < 2 or node.inputs[1] is None
        if drops_axis and ir.attribute(node, "keepdims") == 0:
            pieces = [self._insert("Squeeze", [piece], {"axes": [axis]}, node).outputs[0] for piece in pieces]
        # Other users of the sequence find its elements, so that the Split is inserted once.
        whole = self._insert("SequenceConstruct", pieces, {}, node)
        self._replace(node, whole.outputs[0])
        return pieces

    def _insert(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, ir.AttributeValue], before: ir.Node
    ) -> ir.Node:
        made = ir.new_node(op_type, inputs, attributes, version=before.version, provenance=ResolveSequences.name)
        return self.context.rewriter.insert(made, before=before)

    def _permitted(self, node: ir.Node, after: str) -> bool:
        return self.context.log.try_rewrite(ResolveSequences.name, where(node), spell([node]), after)

    def _replace(self, node: ir.Node, value: ir.Value) -> None:
        self.context.rewriter.replace(node, [value])


def _content(source: ir.Value) -> ir.Value | None:
    """The content of an Optional."""
    node = source.producer()
    if node is None or node.domain != "" or node.op_type != "Optional":
        return None
    return node.inputs[0] if node.inputs else None


def _integer(value: ir.Value | None) -> int | None:
    number = ir.scalar(value) if value is not None else None
    return int(number) if isinstance(number, int) and not isinstance(number, bool) else None
