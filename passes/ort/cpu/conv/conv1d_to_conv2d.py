"""1-D convolutions [N, C, L] as 2-D ones [N, C, 1, L], the only ones with blocked (NCHWc) kernels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from ..... import ir
from ....analyses import Shapes
from ....pipeline.pass_ import PassContext, where
from ....pipeline.rewrite_log import MissedRewrite
from ....registry import register
from .nchwc import NchwcPass, takes_channels, whole

_WINDOWED = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})
_BY_CHANNEL = frozenset({"BatchNormalization", "InstanceNormalization"})
_SPREAD: Mapping[str, int] = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0}
_FEWEST = 2
_LARGE = 64  # channels that are worth filling up to whole blocks


@register
@dataclass(frozen=True)
class Conv1dToConv2d(NchwcPass):
    """Rewrite chains of 1-D convolutions, and the operators between them, as 2-D ones of height 1.

    ONNX Runtime 1.32 has blocked kernels (NCHWc) for 4-D Conv alone: x1.1 to x1.6 for chains of channels in whole
    blocks, x1.25 on HiFi-GAN; single convolutions, and those of ragged channels (20: x0.8), are left alone.

    before:  y = Conv(Relu(Conv(x, v)), w)      v, w: float[64,64,3]
    after:   y = Squeeze(Conv(Relu(Conv(Unsqueeze(x, 2), v)), w), 2)      v, w: float[64,64,1,3]
    """

    name: ClassVar[str] = "conv1d-to-conv2d"

    def rewrite_graph(self, graph: ir.Graph, context: PassContext, shapes: Shapes) -> None:
        """Rewrite the chains of a graph."""
        for chain in _chains(_liftable(graph, shapes)):
            convs = [node for node in chain if node.op_type == "Conv"]
            if len(convs) < _FEWEST:
                miss = MissedRewrite(self.name, where(convs[0]), f"a chain of {_FEWEST} convolutions", "it is single")
                context.log.miss(miss)
                continue
            products = _products(convs, shapes)
            # Usually 12,000: x0.94 at 800 (16 channels of length 1), x1.04 at 12,288 (64 channels).
            fewest = context.settings.target.threshold("conv1d-products")
            if not context.profitable(
                self.name,
                where(convs[0]),
                f"{fewest:,.0f} multiplications in one, or a symbolic length",
                f"{products}",
                expected=products is None or products >= fewest,
            ):
                continue
            before, after = f"{len(convs)} 1-D convolutions", "2-D convolutions"
            if context.log.try_rewrite(self.name, where(convs[0]), before, after, self.exactness):
                _lift(chain, context.rewriter)


def _liftable(graph: ir.Graph, shapes: Shapes) -> dict[ir.Node, None]:
    """The convolutions that would be blocked in 2-D, and the operators after them that have a 2-D form."""
    found: dict[ir.Node, None] = {}
    for node in graph:
        if node.domain != "" or any(map(ir.is_read, node.outputs[1:])) or not _is_1d(node.outputs[0], shapes):
            continue
        follows = any(value is not None and value.producer() in found for value in node.inputs)
        if node.op_type == "Conv":
            if _is_faster_in_2d(node, shapes, follows=follows):
                found[node] = None
        elif follows and _can_be_lifted(node, shapes):
            found[node] = None
    return found


def _is_1d(value: ir.Value, shapes: Shapes) -> bool:
    return shapes.rank(value) == 3 and shapes.dtype(value) == ir.DataType.FLOAT


def _weight_dims(node: ir.Node) -> tuple[int, ...] | None:
    tensor = ir.constant_tensor(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return None if tensor is None else tuple(tensor.shape.numpy())


def _is_faster_in_2d(conv: ir.Node, shapes: Shapes, *, follows: bool) -> bool:
    """Whether ONNX Runtime runs a convolution faster in 2-D."""
    dims, group = _weight_dims(conv), ir.attribute(conv, "group")
    source = conv.inputs[0]
    if dims is None or len(dims) != 3 or not isinstance(group, int) or source is None or not _is_1d(source, shapes):
        return False
    outputs, inputs = dims[:2]
    if whole(outputs) > outputs * 5 // 4:
        return False
    return takes_channels(outputs, inputs, group) or (follows and group == 1 and inputs > _LARGE)


def _products(convs: Sequence[ir.Node], shapes: Shapes) -> int | None:
    """The multiplications of the largest convolution for one sample; None where a length is symbolic."""
    largest = 0
    for conv in convs:
        weights, dims = _weight_dims(conv), shapes.dims(conv.outputs[0])
        length = dims[2] if dims is not None and len(dims) == 3 else None
        if weights is None or not isinstance(length, int):
            return None
        largest = max(largest, prod(weights) * length)
    return largest


def _can_be_lifted(node: ir.Node, shapes: Shapes) -> bool:
    if node.op_type in ir.UNARY or node.op_type in _BY_CHANNEL:
        return True
    if node.op_type in ("ConvTranspose", "MaxPool", "AveragePool"):
        is_weighted = node.op_type != "ConvTranspose" or _weight_dims(node) is not None
        return is_weighted and "output_shape" not in node.attributes
    if node.op_type not in ir.BROADCASTING:
        return False
    return all(value is not None and (ir.is_constant(value) or _is_1d(value, shapes)) for value in node.inputs)


def _chains(nodes: Mapping[ir.Node, None]) -> Iterator[list[ir.Node]]:
    """The connected components of the nodes, each in the order of the graph."""
    order = {node: index for index, node in enumerate(nodes)}
    seen: set[ir.Node] = set()
    for start in nodes:
        chain, pending = [], [start]
        while pending:
            node = pending.pop()
            if node in seen or node not in order:
                continue
            seen.add(node)
            chain.append(node)
            pending.extend(node.outputs[0].consumers())
            pending.extend(
                each for value in node.inputs if value is not None and (each := value.producer()) is not None
            )
        if chain:
            yield sorted(chain, key=order.__getitem__)


def _lift(chain: Sequence[ir.Node], rewriter: ir.Rewriter) -> None:
    images: dict[ir.Value, ir.Value] = {}
    for node in chain:
        inputs = [
            None if value is None else _image_of(value, index, node, images, rewriter)
            for index, value in enumerate(node.inputs)
        ]
        made = ir.similar_node(node, inputs, _spread(node), provenance=Conv1dToConv2d.name)
        images[node.outputs[0]] = rewriter.insert(made, before=node).outputs[0]
    members = set(chain)
    for node in reversed(chain):
        value = node.outputs[0]
        if value.is_graph_output() or any(user not in members for user in value.consumers()):
            view = _view("Squeeze", images[value], node, rewriter)
            rewriter.replace(node, [view])
        else:
            rewriter.erase(node)


def _image_of(
    value: ir.Value,
    index: int,
    user: ir.Node,
    images: dict[ir.Value, ir.Value],
    rewriter: ir.Rewriter,
) -> ir.Value:
    """The 2-D form of the input `value` of `user`."""
    if value in images:
        return images[value]
    kind = user.op_type
    if index > 0 and (kind in ir.UNARY or kind in _BY_CHANNEL or (kind in _WINDOWED and index == 2)):
        return value
    content = ir.constant(value)
    if content is None:
        images[value] = _view("Unsqueeze", value, user, rewriter)
        return images[value]
    if content.ndim < 2:
        return value
    return ir.pending_constant(np.expand_dims(content, -2), name=f"{value.name}_image")


def _spread(node: ir.Node) -> dict[str, ir.AttributeValue]:
    """The attributes of a window, for two axes instead of one."""
    attributes: dict[str, ir.AttributeValue] = {}
    for name, number in _SPREAD.items():
        given = ir.attribute(node, name)
        if isinstance(given, (list, tuple)) and name in node.attributes:
            attributes[name] = [number, *(int(each) for each in given)]
    pads = ir.attribute(node, "pads")
    if isinstance(pads, (list, tuple)) and "pads" in node.attributes:
        attributes["pads"] = [0, int(pads[0]), 0, int(pads[1])]
    return attributes


def _view(op_type: str, value: ir.Value, before: ir.Node, rewriter: ir.Rewriter) -> ir.Value:
    version = rewriter.imports_of(before.graph)[""] if before.graph is not None else before.version
    made = ir.new_node(op_type, [value], {"axes": [2]}, version=version, provenance=Conv1dToConv2d.name)
    rewriter.insert(made, before=before)
    return made.outputs[0]
