"""Split a convolution whose output channels are split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from ..... import ir
from ....analyses import Shapes
from ....pipeline.pass_ import PassContext, spell, where
from ....registry import register
from ....views.slice_ranges import axis_of
from .nchwc import NchwcPass, whole

_MOST_BETWEEN = 4


@dataclass(frozen=True)
class _Branch:
    """A convolution, and the elementwise operators between it and the Split."""

    conv: ir.Node
    between: Sequence[ir.Node]


@register
@dataclass(frozen=True)
class SplitConv(NchwcPass):
    """Compute the pieces of a split convolution each from its own part of the weights.

    ONNX Runtime's blocked layout (NCHWc) has no Split: x1.03 on a YOLO detector, and 44 reorders become 8. Left alone
    where the pieces would compute a quarter more in whole blocks than the convolution did.

    before:  a, b = Split(Relu(Conv(x, w)), axis 1)
    after:   a = Relu(Conv(x, w[:n]));  b = Relu(Conv(x, w[n:]))
    """

    name: ClassVar[str] = "split-conv"

    def rewrite_graph(self, graph: ir.Graph, context: PassContext, shapes: Shapes) -> None:
        """Split the convolutions of a graph."""
        for split in [node for node in graph if node.op_type == "Split" and node.domain == ""]:
            branch, sizes = _branch_before(split, shapes), _sizes(split, shapes)
            if branch is None or sizes is None:
                continue
            if not context.profitable(
                self.name, where(split), "pieces of whole blocks", f"{sizes}", expected=_pays(sizes)
            ):
                continue
            nodes = [branch.conv, *branch.between, split]
            after = f"{len(sizes)} times {spell(nodes[:-1])}"
            if context.log.try_rewrite(self.name, where(split), spell(nodes), after, self.exactness):
                _rebuild(split, branch, sizes, context.rewriter)


def _sizes(split: ir.Node, shapes: Shapes) -> list[int] | None:
    """The channels of the pieces, where the channel axis is split."""
    if axis_of(split, shapes) != 1:
        return None
    sizes = [(shapes.dims(value) or (None, None))[1] for value in split.outputs]
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(sizes) else None


def _branch_before(split: ir.Node, shapes: Shapes) -> _Branch | None:
    """The convolution and the operators before the Split, where their results have no other users."""
    found: list[ir.Node] = []
    convs: set[ir.Node] = set()
    pending = [split.inputs[0]]
    while pending:
        value = pending.pop(0)
        node = value.producer() if value is not None else None
        if value is None or node is None or node.domain != "" or value.is_graph_output():
            return None
        if node.op_type == "Conv":
            convs.add(node)
        elif node not in found:
            data = _data(node)
            if data is None or len(found) == _MOST_BETWEEN:
                return None
            found.append(node)
            pending.extend(data)
    mine = {split, *found}
    made = [node.outputs[0] for node in (*convs, *found)]
    if len(convs) != 1 or any(user not in mine for value in made for user in value.consumers()):
        return None
    (conv,) = convs
    return _Branch(conv, found[::-1]) if _has_whole_weights(conv, shapes) else None


def _data(node: ir.Node) -> Sequence[ir.Value | None] | None:
    """The data inputs of an elementwise function, or of a product of two of them: Swish is one."""
    if node.op_type in ir.UNARY:
        return node.inputs[:1]
    if node.op_type == "Mul" and not any(value is not None and ir.is_constant(value) for value in node.inputs):
        return node.inputs
    return None


def _has_whole_weights(conv: ir.Node, shapes: Shapes) -> bool:
    own = [value is None or (ir.is_constant(value) and len(value.uses()) == 1) for value in conv.inputs[1:]]
    return all(own) and ir.attribute(conv, "group") == 1 and shapes.dtype(conv.outputs[0]) == ir.DataType.FLOAT


def _pays(sizes: Sequence[int]) -> bool:
    return sum(map(whole, sizes)) * 4 <= whole(sum(sizes)) * 5


def _rebuild(split: ir.Node, branch: _Branch, sizes: Sequence[int], rewriter: ir.Rewriter) -> None:
    weights = [None if value is None else ir.constant(value) for value in branch.conv.inputs[1:]]
    pieces: list[ir.Value | None] = []
    for start, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        parts = [
            None if each is None else ir.pending_constant(each[start : start + size], name=f"{where(split)}_piece")
            for each in weights
        ]
        made = {branch.conv.outputs[0]: _insert(branch.conv, [branch.conv.inputs[0], *parts], split, rewriter)}
        for node in branch.between:
            inputs = [made.get(value, value) if value is not None else None for value in node.inputs]
            made[node.outputs[0]] = _insert(node, inputs, split, rewriter)
        source = split.inputs[0]
        assert source is not None
        pieces.append(made[source])
    rewriter.replace(split, pieces)
    for node in (*branch.between[::-1], branch.conv):
        rewriter.erase(node)


def _insert(like: ir.Node, inputs: Sequence[ir.Value | None], before: ir.Node, rewriter: ir.Rewriter) -> ir.Value:
    return rewriter.insert(ir.similar_node(like, inputs, provenance=SplitConv.name), before=before).outputs[0]
