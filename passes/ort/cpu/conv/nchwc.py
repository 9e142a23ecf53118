"""What the rules share that keep images in ONNX Runtime's blocked layout (NCHWc) between convolutions.

On the CPU, Conv runs on channels in blocks of 16 with AVX-512, of 8 with AVX2; what cannot read that layout is
surrounded by two reorders. From ONNX Runtime 1.32, core/optimizer/nchwc_transformer.cc; measured on one thread of an
AVX-512 machine: the ratios in the rules' sources. Here is what holds for both; what does not asks the settings for the
block of the processor that the result is for.
"""

from __future__ import annotations

from math import prod

from ..... import ir
from ....analyses import Shapes
from ....rewriting.constraints import profitable, require
from ....rewriting.match import Match

BLOCK = 16
_SMALLER_BLOCK = 8
_DEPTH = 6

FLOAT32 = require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype))


def known_elements(m: Match) -> int:
    """How many elements x has at least: unknown dims count as 1."""
    return prod(dim for dim in m.x.dims if isinstance(dim, int)) if m.x.dims is not None else 0


LARGE = profitable(
    "16,384 elements or more",
    lambda m: known_elements(m) >= 1 << 14,
    lambda m: m.shapes.show(m.x.value),
)
"""Where several operators take the place of one: each costs some microseconds by itself."""
WIDE = profitable(
    "a last dim above 1",
    lambda m: m.x.dims is not None and isinstance(m.x.dims[-1], int) and m.x.dims[-1] > 1,
    lambda m: m.shapes.show(m.x.value),
)
"""Where scalars take part: beside a last dim of 1 they cost a loop for each element (see `scalar_rank`)."""

ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu"})
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"})
_KEEPING = ACTIVATIONS | POOLS | {"BatchNormalization", "Add", "Sum", "Mul"}


def channels(shapes: Shapes, value: ir.Value) -> int | None:
    """The channels of an image [N, C, H, W], when they are a known number."""
    dims = shapes.dims(value)
    if dims is None or len(dims) != 4 or not isinstance(dims[1], int):
        return None
    return dims[1]


def channels_of(m: Match) -> int | None:
    """The channels of the image x."""
    return channels(m.shapes, m.x.value)


def is_blocked(value: ir.Value, shapes: Shapes) -> bool:
    """Whether a value comes out of a convolution, and what was done to it since kept the blocked layout."""
    pending, seen = [(value, 0)], set()
    while pending:
        at, depth = pending.pop()
        node = at.producer()
        if node is None or node.domain != "" or depth > _DEPTH:
            return False
        if node in seen:
            continue
        seen.add(node)
        if node.op_type == "Conv":
            if not runs_blocked(node, shapes):
                return False
        elif node.op_type in _KEEPING:
            data = node.inputs if node.op_type in ("Add", "Sum", "Mul") else node.inputs[:1]
            pending.extend((each, depth + 1) for each in data if each is not None)
        else:
            return False
    return True


def runs_blocked(conv: ir.Node, shapes: Shapes) -> bool:
    """Whether ONNX Runtime gives a Conv to its blocked kernels: float32, constant weights, channels in fours."""
    weight = ir.constant_tensor(conv.inputs[1]) if conv.inputs[1] is not None else None
    if weight is None or weight.dtype != ir.DataType.FLOAT or len(weight.shape) != 4:
        return False
    outputs, inputs = weight.shape.numpy()[:2]
    group = ir.attribute(conv, "group")
    return takes_channels(outputs, inputs, group if isinstance(group, int) else 1)


def takes_channels(outputs: int, inputs: int, groups: int) -> bool:
    """Whether the blocked kernels take a Conv of so many outputs, with so many inputs in each group."""
    if groups == 1:
        return inputs < _SMALLER_BLOCK or inputs % 4 == 0  # fewer than a block are read from the plain layout
    if inputs == 1 and outputs == groups:
        return outputs >= BLOCK and outputs % 4 == 0
    return inputs % BLOCK == 0 and (outputs // groups) % BLOCK == 0


def whole(size: int, block: int = BLOCK) -> int:
    """The channels of whole blocks that hold `size` channels."""
    return -(-size // block) * block
