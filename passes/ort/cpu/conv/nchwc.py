"""ONNX Runtime's blocked channel layout (NCHWc): which convolutions use it, and which operators keep it.

On the CPU, Conv runs on channels in blocks of 16 with AVX-512, of 8 with AVX2; an operator without a kernel for that
layout is surrounded by two reorders. From ONNX Runtime 1.32, core/optimizer/nchwc_transformer.cc; the ratios in the
rules' sources are measured on one thread of an AVX-512 machine. This module states what holds for both block sizes;
passes that depend on one ask `Target.nchwc_blocks`.
"""

from __future__ import annotations

from abc import abstractmethod
from math import prod
from typing import ClassVar

from ..... import ir
from ....analyses import Shapes
from ....pipeline.exactness import Exactness
from ....pipeline.pass_ import Pass, PassContext
from ....rewriting.constraints import let, profitable, require
from ....rewriting.match import Match

BLOCK = 16
_SMALLER_BLOCK = 8
_DEPTH = 6

FLOAT32 = require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))


def known_elements(m: Match) -> int:
    """A lower bound of the number of elements of x: symbolic dims count as 1."""
    return prod(dim for dim in m.x.dims if isinstance(dim, int)) if m.x.dims is not None else 0


LARGE = profitable(
    "16,384 elements or more",
    lambda m: known_elements(m) >= 1 << 14,
    lambda m: m.shapes.show(m.x.value),
)
"""For rewrites of one operator to several: each costs some microseconds by itself."""
WIDE = profitable(
    "a last dim above 1",
    lambda m: m.x.dims is not None and isinstance(m.x.dims[-1], int) and m.x.dims[-1] > 1,
    lambda m: m.shapes.show(m.x.value),
)
"""For rewrites that add scalars: beside a last dim of 1 they cost a loop for each element (see `scalar_rank`)."""

ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu"})
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"})
_KEEPING = ACTIVATIONS | POOLS | {"BatchNormalization", "Add", "Sum", "Mul"}


class NchwcPass(Pass):
    """A pass for the blocked layout: for ONNX Runtime on the CPU, graph by graph."""

    is_heuristic: ClassVar[bool] = True
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        if not context.settings.target.is_cpu or context.hides_operators():
            return
        shapes = context.analyses.get(Shapes)
        for graph in ir.graphs(model):
            self.rewrite_graph(graph, context, shapes)

    @abstractmethod
    def rewrite_graph(self, graph: ir.Graph, context: PassContext, shapes: Shapes) -> None:
        """Rewrite one graph. `shapes` are up to date."""


def channels(shapes: Shapes, value: ir.Value) -> int | None:
    """The channels of an image [N, C, H, W], None where symbolic."""
    dims = shapes.dims(value)
    if dims is None or len(dims) != 4 or not isinstance(dims[1], int):
        return None
    return dims[1]


def _channels_of_x(m: Match) -> int | str:
    count = channels(m.shapes, m.x.value)
    return count if count is not None else m.shapes.show(m.x.value)


CHANNELS = let("an image with known channels", _channels_of_x)
"""The channels of the image x."""


def is_blocked(value: ir.Value, shapes: Shapes) -> bool:
    """Whether a value comes from convolutions in the blocked layout, by way of operators that keep it."""
    pending, seen = [(value, 0)], set()
    while pending:
        operand, depth = pending.pop()
        node = operand.producer()
        if node is None or node.domain != "" or depth > _DEPTH:
            return False
        if node in seen:
            continue
        seen.add(node)
        if node.op_type == "Conv":
            if not runs_blocked(node):
                return False
        elif node.op_type in _KEEPING:
            data = node.inputs if node.op_type in ("Add", "Sum", "Mul") else node.inputs[:1]
            pending.extend((source, depth + 1) for source in data if source is not None)
        else:
            return False
    return True


def runs_blocked(conv: ir.Node) -> bool:
    """Whether ONNX Runtime has blocked kernels for a Conv: float32, constant weights, channels in multiples of 4."""
    weight = ir.constant_tensor(conv.inputs[1]) if conv.inputs[1] is not None else None
    if weight is None or weight.dtype != ir.DataType.FLOAT or len(weight.shape) != 4:
        return False
    outputs, inputs = weight.shape.numpy()[:2]
    group = ir.attribute(conv, "group")
    return takes_channels(outputs, inputs, group if isinstance(group, int) else 1)


def takes_channels(outputs: int, inputs: int, groups: int) -> bool:
    """Whether the blocked kernels take a Conv with these channels: all outputs, and the inputs of each group."""
    if groups == 1:
        return inputs < _SMALLER_BLOCK or inputs % 4 == 0  # fewer than a block are read from the plain layout
    if inputs == 1 and outputs == groups:
        return outputs >= BLOCK and outputs % 4 == 0
    return inputs % BLOCK == 0 and (outputs // groups) % BLOCK == 0


def whole(size: int, block: int = BLOCK) -> int:
    """`size` channels, rounded up to whole blocks."""
    return -(-size // block) * block
