"""What the rules that fold affine steps into weights share: y -> y * scale + shift, per output channel.

Weights are computed in float64 and rounded once. A weight that others read too is left alone: folding would store it
twice. After Jacob et al. 2018, section 3.2 (arXiv:1712.05877).
"""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import require
from ...rewriting.match import Condition, Match
from ...rewriting.operand import Operand

Vector = npt.NDArray[np.float64]

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def linear(m: Match) -> Operand:
    """The linear operator of the match, whichever alternative fitted."""
    operand: Operand = getattr(m, next(name for name in LINEAR if m.has(name)))
    return operand


def channels(m: Match) -> int:
    """How many output channels the linear operator has."""
    node, dims = linear(m).node, m.w.array.shape
    match node.op_type:
        case "Conv":
            return int(dims[0])
        case "ConvTranspose":
            return int(dims[1] * linear(m).integer("group", 1))
        case "Gemm":
            return int(dims[0 if linear(m).integer("transB") else 1])
        case _:
            return int(dims[-1])


def inputs_of(m: Match) -> int:
    """How many channels, or columns, the linear operator reads."""
    node, dims = linear(m).node, m.w.array.shape
    match node.op_type:
        case "Conv":
            return int(dims[1] * linear(m).integer("group", 1))
        case "ConvTranspose":
            return int(dims[0])
        case "Gemm":
            return int(dims[1 if linear(m).integer("transB") else 0])
        case _:
            return int(dims[-2])


def along(content: ir.Array, rank: int, axis: int, size: int) -> Vector | None:
    """`content`, which broadcasts against a value of `rank`, as `size` numbers along `axis`.

    None when it varies along another axis or would make the value larger.
    """
    if content.ndim > rank or content.dtype.kind not in "fV":
        return None
    dims = (1,) * (rank - content.ndim) + content.shape
    if any(dim != 1 for index, dim in enumerate(dims) if index != axis % rank) or dims[axis % rank] not in (1, size):
        return None
    return np.broadcast_to(content.astype(np.float64).reshape(-1), (size,))


def channel_axis(m: Match) -> int:
    """Where the channels lie in the operator's input and output: axis 1 of images, the last of matrices."""
    return 1 if m.has("Conv") or m.has("ConvTranspose") else -1


def scaled_outputs(m: Match, scale: Vector) -> Vector:
    """The weight with every output channel multiplied by its `scale`."""
    weight = m.w.array.astype(np.float64)
    node = linear(m).node
    if node.op_type == "Conv":
        return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if node.op_type == "ConvTranspose":  # [inputs, outputs per group, …], the groups one after the other
        group = linear(m).integer("group", 1)
        grouped = weight.reshape(group, -1, *weight.shape[1:])
        return (grouped * scale.reshape(group, 1, -1, *(1,) * (weight.ndim - 2))).reshape(weight.shape)
    if node.op_type == "Gemm" and linear(m).integer("transB"):
        return weight * scale.reshape(-1, 1)
    return weight * scale


def scaled_inputs(m: Match, scale: Vector) -> Vector:
    """The weight with every input channel multiplied by its `scale`."""
    weight = m.w.array.astype(np.float64)
    node = linear(m).node
    if node.op_type == "Conv":  # [outputs, inputs per group, …]: output channel o reads the inputs of its group
        group = linear(m).integer("group", 1)
        grouped = weight.reshape(group, -1, *weight.shape[1:])
        return (grouped * scale.reshape(group, 1, -1, *(1,) * (weight.ndim - 2))).reshape(weight.shape)
    if node.op_type == "ConvTranspose":
        return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if node.op_type == "Gemm" and linear(m).integer("transB"):
        return weight * scale
    return weight * scale.reshape(-1, 1)


def shifted_bias(m: Match, shift: Vector) -> Vector:
    """The bias with what the weights make of a `shift` of each input channel."""
    moved: Vector = scaled_inputs(m, shift)
    if m.has("Gemm"):
        moved = moved.sum(axis=1 if linear(m).integer("transB") else 0) * linear(m).number("alpha", 1.0)
    else:
        moved = moved.reshape(moved.shape[0], -1).sum(axis=1)
    if m.has("b"):
        moved = moved + m.b.array.astype(np.float64)
    return moved


def rebuild(
    m: Match, op: Builder, weight: Vector | None, bias: Vector | None, *, data: ir.Value | None = None
) -> ir.Value | None:
    """The linear operator over `x`, or `data`, with another weight (None: its own) and bias; None where the type loses
    them.
    """
    old, dtype = linear(m), m.w.array.dtype
    inputs: list[ir.Value | None] = [m.x.value if data is None else data, m.w.value]
    if weight is not None:
        with np.errstate(over="ignore"):
            rounded = weight.astype(dtype)
        if not carries(rounded, weight):
            return None
        inputs[1] = op.constant(rounded)
    if bias is not None:
        with np.errstate(over="ignore"):
            shift = bias.astype(dtype)
        if not np.isfinite(shift).all():
            return None
        inputs.append(op.constant(shift))
    op_type = "Gemm" if old.node.op_type == "MatMul" and bias is not None else old.node.op_type
    return op.node(op_type, inputs, attributes=old.attributes)[0]


def carries(rounded: ir.Array, exact: Vector) -> bool:
    """Whether a type can hold the numbers: float16 ends at 65504, and loses what is below 0.00006."""
    if not np.isfinite(rounded).all():
        return False
    largest = np.abs(exact).max(initial=0.0)
    return bool(np.abs(rounded.astype(np.float64) - exact).max(initial=0.0) <= largest / 128)


def _shared(m: Match) -> str | None:
    if prod(m.w.array.shape) <= 1 << 12:
        return None
    mine = m.nodes()
    reader = next((user for user, _ in m.w.value.uses() if user not in mine), None)
    return None if reader is None else f"{m.w.value.name!r} is also read by {reader.op_type} {reader.name!r}"


UNSHARED = Condition("w read by this alone, or small", _shared)
NO_PADDING: Condition = require(
    "no padding: the operator would pad with zeros, not with c",
    lambda m: (
        not any(linear(m).integers("pads") or ())
        and linear(m).attribute("auto_pad") in (None, "NOTSET", "VALID")
        and not m.has("ConvTranspose")
    ),
)
