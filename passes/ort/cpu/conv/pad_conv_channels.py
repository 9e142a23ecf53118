"""Pad channels with zeros to whole blocks of ONNX Runtime's NCHWc layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from ..... import ir
from ....analyses import Shapes
from ....pipeline.pass_ import PassContext, where
from ....pipeline.rewrite_log import MissedRewrite
from ....registry import register
from .nchwc import ACTIVATIONS, POOLS, NchwcPass, channels, runs_blocked, whole
from .padded_channel_bounds import SUMS, all_finite

_MOST_NODES = 64
_SMALL = 1 << 12  # elements of a weight that may be stored twice


@dataclass
class _Region:
    """Connected values of equal channels: the nodes that produce or pass them on, and the convolutions that use them.

    In insertion order: that of a set would differ from run to run.
    """

    inner: dict[ir.Node, None] = field(default_factory=dict)
    ends: dict[ir.Node, None] = field(default_factory=dict)


@register
@dataclass(frozen=True)
class PadConvChannels(NchwcPass):
    """Pad the output channels of convolutions to whole blocks, and the weights of their users with zeros.

    Between them may be per-channel operators. Applied where ONNX Runtime 1.32 would leave its blocked
    layout otherwise (a pool over 28 channels, a convolution that reads 129), or read fewer channels than a block holds
    from the plain one: x1.1 on mtcnn's second network and, with AVX-512, whose blocks hold 16, on an OCR classifier.
    (With AVX2 they hold 8, and filling its channels up to multiples of 16 cost x0.9.) The channels at most double, and
    grow by no more than a quarter where a convolution with windows reads them: 8 up to 16 before a 5x5 came out at
    x0.93. With AVX2 they may grow by three fifths where that convolution would be in the plain layout: 10 up to 16
    before a 3x3 made mtcnn's first network x1.05. Without `--cpu-isa`, applied where blocks of 8 and of 16 agree on it.

    before:  y = Conv(MaxPool(Conv(x, v)), w)      v: float[28,3,3,3], w: float[48,28,3,3]
    after:   y = Conv(MaxPool(Conv(x, v)), w)      v: float[32,3,3,3], w: float[48,32,3,3]
    """

    name: ClassVar[str] = "pad-conv-channels"

    def rewrite_graph(self, graph: ir.Graph, context: PassContext, shapes: Shapes) -> None:
        """Pad the regions of a graph."""
        order = {node: index for index, node in enumerate(graph)}
        for conv in list(order):
            if conv.graph is not None and _makes_ragged(conv, shapes, context.settings.target.nchwc_blocks):
                self._fill(conv, order, context, shapes)

    def _fill(self, conv: ir.Node, order: dict[ir.Node, int], context: PassContext, shapes: Shapes) -> None:
        size, blocks = channels(shapes, conv.outputs[0]), context.settings.target.nchwc_blocks
        assert size is not None
        padded = whole(size, max(blocks))
        if padded != whole(size, min(blocks)):
            because = f"{whole(size, min(blocks))} with blocks of {min(blocks)}, {padded} with blocks of {max(blocks)}"
            context.log.miss(MissedRewrite(self.name, where(conv), "channels that fill blocks on every CPU", because))
            return
        region = _region_of(conv.outputs[0], size, shapes)
        if isinstance(region, str):
            context.log.miss(MissedRewrite(self.name, where(conv), "a region that can be padded", region))
            return
        nodes = sorted(region.inner, key=lambda node: order[node])
        if nodes[0] is not conv or not all(_is_ragged(region, size, shapes, block) for block in blocks):
            return
        because, expected = f"{size} channels", all(_pays(region, size, block) for block in blocks)
        if not context.profitable(self.name, where(conv), "few channels to fill", because, expected=expected):
            return
        if not all_finite(nodes):
            because = "infinity times zero is no zero"
            context.log.miss(MissedRewrite(self.name, where(conv), "finite numbers in the new channels", because))
            return
        if context.log.try_rewrite(self.name, where(conv), f"{size} channels", f"{padded} channels", self.exactness):
            made = _rebuild(nodes, region.ends, size, padded - size, context.rewriter)
            order.update({new: order[old] for old, new in zip(nodes, made, strict=True)})


def _makes_ragged(node: ir.Node, shapes: Shapes, blocks: Sequence[int]) -> bool:
    if not _is_full_conv(node, shapes):
        return False
    size = channels(shapes, node.outputs[0])
    return size is not None and all(size % block != 0 and whole(size, block) <= 2 * size for block in blocks)


def _is_full_conv(node: ir.Node, shapes: Shapes) -> bool:
    """Whether a node is a convolution of one group whose weights can be replaced."""
    if node.op_type != "Conv" or node.domain != "" or ir.attribute(node, "group") != 1:
        return False
    return _has_own_weights(node) and shapes.dtype(node.outputs[0]) == ir.DataType.FLOAT


def _is_depthwise(node: ir.Node, size: int) -> bool:
    if node.op_type != "Conv" or node.domain != "" or ir.attribute(node, "group") != size or not _has_own_weights(node):
        return False
    weight = ir.constant_tensor(node.inputs[1]) if node.inputs[1] is not None else None
    return weight is not None and tuple(weight.shape[:2]) == (size, 1)


def _has_own_weights(conv: ir.Node) -> bool:
    for value in conv.inputs[1:]:
        tensor = ir.constant_tensor(value) if value is not None else None
        if value is not None and (tensor is None or (tensor.size > _SMALL and len(value.uses()) > 1)):
            return False
    weight = ir.constant_tensor(conv.inputs[1]) if conv.inputs[1] is not None else None
    return weight is not None and len(weight.shape) == 4


def _region_of(start: ir.Value, size: int, shapes: Shapes) -> _Region | str:
    """The region that must be padded with the channels of `start`; or the obstacle, in words."""
    region, pending, seen = _Region(), [start], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value in seen:
            continue
        seen.add(value)
        producer = value.producer()
        if len(seen) > _MOST_NODES or producer is None or value.is_graph_output():
            return f"{value.name!r} crosses the boundary of the graph"
        if producer not in region.inner:
            if not _is_full_conv(producer, shapes):
                data = _data_of(producer, size, shapes)
                if data is None:
                    return f"{producer.op_type} {where(producer)!r}"
                pending.extend(data)
            region.inner[producer] = None
        for user, index in value.uses():
            if user.graph is not producer.graph:
                return f"{user.op_type} in another graph"
            if index == 0 and _is_full_conv(user, shapes):
                region.ends[user] = None
            elif (data := _data_of(user, size, shapes)) is not None and value in data:
                pending.append(user.outputs[0])
            else:
                return f"{user.op_type} {where(user)!r}"
    return region


def _data_of(node: ir.Node, size: int, shapes: Shapes) -> Sequence[ir.Value] | None:
    """The data inputs of a per-channel operator; None for other nodes."""
    source, kind = node.inputs[0] if node.inputs else None, node.op_type
    if node.domain != "" or source is None or any(map(ir.is_read, node.outputs[1:])):
        return None
    if channels(shapes, node.outputs[0]) != size:
        return None
    if kind in ACTIVATIONS or kind in POOLS or kind == "Sqrt" or _is_depthwise(node, size):
        return [source] if channels(shapes, source) == size else None
    if kind == "BatchNormalization":
        plain = not ir.attribute(node, "training_mode") and (node.version or 0) >= 9
        return [source] if plain and all(map(ir.is_constant, node.inputs[1:])) else None
    if kind not in SUMS:
        return None
    images = []
    for value in node.inputs:
        if value is None:
            return None
        if ir.is_constant(value):
            if not _spreads(shapes.static(value), size):
                return None
        elif channels(shapes, value) == size:
            images.append(value)
        else:
            return None
    return images


def _spreads(dims: tuple[int, ...] | None, size: int) -> bool:
    """Whether a constant is a scalar, or has one element for each channel."""
    if dims is None or len(dims) > 4:
        return False
    full = (1,) * (4 - len(dims)) + dims
    return full in ((1, 1, 1, 1), (1, size, 1, 1))


def _is_ragged(region: _Region, size: int, shapes: Shapes, block: int) -> bool:
    """Whether the region is not in the blocked layout as it stands."""
    return (
        size % 4 != 0
        or size < block
        or any(node.op_type in POOLS or (_is_depthwise(node, size) and not runs_blocked(node)) for node in region.inner)
    )


def _pays(region: _Region, size: int, block: int) -> bool:
    """Whether the blocked layout gains more than the additional products cost."""
    is_read_plain = block <= size and size % 4 != 0
    most = 1.6 if is_read_plain and block == 8 else 1.25
    return whole(size, block) <= size * most or not any(map(_has_window, region.ends))


def _has_window(conv: ir.Node) -> bool:
    weight = ir.constant_tensor(conv.inputs[1]) if conv.inputs[1] is not None else None
    return weight is not None and any(dim != 1 for dim in tuple(weight.shape)[2:])


def _rebuild(
    nodes: Sequence[ir.Node], ends: Mapping[ir.Node, None], size: int, more: int, rewriter: ir.Rewriter
) -> list[ir.Node]:
    """Insert padded nodes, and let the ends use them; return the new nodes."""
    filled: dict[ir.Value, ir.Value] = {}
    written: list[ir.Node] = []
    for node in nodes:
        attributes = {"group": size + more} if _is_depthwise(node, size) else {}
        inputs = _filled_inputs(node, filled, _ragged_axes(node, size, node in ends, is_inner=True), more)
        made = ir.similar_node(node, inputs, attributes, provenance=PadConvChannels.name)
        rewriter.insert(made, before=node)
        filled[node.outputs[0]] = made.outputs[0]
        written.append(made)
    for end in (each for each in ends if each not in nodes):
        inputs = _filled_inputs(end, filled, _ragged_axes(end, size, True, is_inner=False), more)
        for index, value in enumerate(inputs):
            if value is not end.inputs[index]:
                rewriter.set_input(end, index, value)
    for node in reversed(nodes):
        rewriter.erase(node)
    return written


def _filled_inputs(
    node: ir.Node, filled: Mapping[ir.Value, ir.Value], axes: Mapping[int, Sequence[int]], more: int
) -> list[ir.Value | None]:
    """The inputs of a node over filled images: constants get zeros along their axes of channels."""
    inputs = [filled.get(value, value) if value is not None else None for value in node.inputs]
    for index, ragged in axes.items():
        given = node.inputs[index]
        content = ir.constant(given) if given is not None else None
        if content is None:
            continue
        width = [(0, more if axis in ragged else 0) for axis in range(content.ndim)]
        is_variance = node.op_type == "BatchNormalization" and index == 4
        made = np.pad(content, width, constant_values=1 if is_variance else 0)
        inputs[index] = ir.pending_constant(made, name=f"{where(node)}_padded")
    return inputs


def _ragged_axes(node: ir.Node, size: int, is_end: bool, *, is_inner: bool) -> dict[int, list[int]]:
    """The axes of channels, by input, of the constants of a node."""
    if node.op_type == "Conv":
        if not is_inner:
            return {1: [1]}
        return {1: [0, 1] if is_end else [0], 2: [0]} if len(node.inputs) > 2 else {1: [0, 1] if is_end else [0]}
    if node.op_type == "BatchNormalization":
        return {index: [0] for index in range(1, 5)}
    constants = {index: ir.constant(value) for index, value in enumerate(node.inputs) if value is not None}
    return {
        index: [content.ndim - 3]
        for index, content in constants.items()
        if content is not None and content.size == size
    }
