"""Fold per-channel scales and shifts into the weight and bias of Conv, ConvTranspose, Gemm and MatMul.

Weights are computed in float64 and rounded once. A large weight with other users is left alone: folding would store it
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
    """The linear operator of the match, in whichever branch of the pattern."""
    return m.operand(next(name for name in LINEAR if m.has(name)))


def channels(m: Match) -> int:
    """The number of output channels, or columns, of the linear operator."""
    dims = m.w.array.shape
    match linear(m).node.op_type:
        case "Conv":
            return int(dims[0])
        case "ConvTranspose":
            return int(dims[1] * linear(m).integer("group", 1))
        case "Gemm":
            return int(dims[0 if linear(m).integer("transB") else 1])
        case _:
            return int(dims[-1])


def inputs_of(m: Match) -> int:
    """The number of input channels, or columns of the input, of the linear operator."""
    dims = m.w.array.shape
    match linear(m).node.op_type:
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

    None when it varies along another axis or would raise the rank or a dim of the value.
    """
    if content.ndim > rank or content.dtype.kind not in "fV":
        return None
    dims = (1,) * (rank - content.ndim) + content.shape
    if any(dim != 1 for index, dim in enumerate(dims) if index != axis % rank) or dims[axis % rank] not in (1, size):
        return None
    return np.broadcast_to(content.astype(np.float64).reshape(-1), (size,))


def channel_axis(m: Match) -> int:
    """The channel axis of the operator's input and output: 1 for convolutions, the last for matrices."""
    return 1 if m.has("Conv") or m.has("ConvTranspose") else -1


def _per_group(m: Match, weight: Vector, scale: Vector) -> Vector:
    """Scale axis 1 of a grouped convolution's weight [group * n, k, …], by one number for each of [group, k]."""
    group = linear(m).integer("group", 1)
    grouped = weight.reshape(group, -1, *weight.shape[1:])
    scaled: Vector = grouped * scale.reshape(group, 1, -1, *(1,) * (weight.ndim - 2))
    return scaled.reshape(weight.shape)


def scaled_outputs(m: Match, scale: Vector) -> Vector:
    """The weight with every output channel multiplied by its `scale`."""
    weight = m.w.array.astype(np.float64)
    match linear(m).node.op_type:
        case "Conv":  # [outputs, inputs per group, …]
            return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        case "ConvTranspose":  # [inputs, outputs per group, …]
            return _per_group(m, weight, scale)
        case "Gemm" if linear(m).integer("transB"):
            return weight * scale.reshape(-1, 1)
        case _:
            return weight * scale


def scaled_inputs(m: Match, scale: Vector) -> Vector:
    """The weight with every input channel multiplied by its `scale`."""
    weight = m.w.array.astype(np.float64)
    match linear(m).node.op_type:
        case "Conv":
            return _per_group(m, weight, scale)
        case "ConvTranspose":
            return weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        case "Gemm" if linear(m).integer("transB"):
            return weight * scale
        case _:
            return weight * scale.reshape(-1, 1)


def bias_of(m: Match) -> Vector | None:
    """The bias `b` in float64; None where there is none."""
    return m.b.array.astype(np.float64) if m.has("b") else None


def shifted_bias(m: Match, shift: Vector) -> Vector:
    """The bias plus the product of the weight and a `shift` of each input channel."""
    product: Vector = scaled_inputs(m, shift)
    if m.has("Gemm"):
        product = product.sum(axis=1 if linear(m).integer("transB") else 0) * linear(m).number("alpha", 1.0)
    else:
        product = product.reshape(product.shape[0], -1).sum(axis=1)
    bias = bias_of(m)
    return product if bias is None else product + bias


def rebuild(
    m: Match, op: Builder, weight: Vector | None, bias: Vector | None, *, data: ir.Value | None = None
) -> ir.Value | None:
    """The linear operator over `x`, or `data`, with another weight (None: its own) and bias.

    None where the type of the weight cannot hold them.
    """
    old, dtype = linear(m), m.w.array.dtype
    inputs: list[ir.Value | ir.Content] = [m.x.value if data is None else data, m.w.value]
    if weight is not None:
        rounded = round_weight(weight, dtype)
        if rounded is None:
            return None
        inputs[1] = rounded
    if bias is not None:
        with np.errstate(over="ignore"):
            shift = bias.astype(dtype)
        if not np.isfinite(shift).all():
            return None
        inputs.append(shift)
    op_type = "Gemm" if old.node.op_type == "MatMul" and bias is not None else old.node.op_type
    return op.node(op_type, inputs, attributes=old.attributes)[0]


def round_weight(exact: Vector, dtype: npt.DTypeLike) -> ir.Array | None:
    """`exact` rounded once to `dtype`; None where that cannot hold it.

    float16 ends at 65504, and loses precision below 0.00006: an error of 1/128 of the largest magnitude is too large.
    """
    with np.errstate(over="ignore"):
        rounded: ir.Array = exact.astype(dtype)
    if not np.isfinite(rounded).all():
        return None
    largest = np.abs(exact).max(initial=0.0)
    return rounded if np.abs(rounded.astype(np.float64) - exact).max(initial=0.0) <= largest / 128 else None


def _other_user(m: Match) -> str | None:
    if prod(m.w.array.shape) <= 1 << 12:
        return None
    nodes = m.nodes()
    user = next((user for user, _ in m.w.value.uses() if user not in nodes), None)
    return None if user is None else f"{m.w.value.name!r} is also used by {user.op_type} {user.name!r}"


UNSHARED = Condition("w used by this alone, or small", _other_user)
"""The weight has no other user, or is small: folding would store it twice."""

NO_PADDING: Condition = require(
    "no padding: the operator would pad with zeros, not with c",
    lambda m: (
        not any(linear(m).integers("pads") or ())
        and linear(m).attribute("auto_pad") in (None, "NOTSET", "VALID")
        and not m.has("ConvTranspose")
    ),
    lambda m: f"pads = {linear(m).integers('pads')}, auto_pad = {linear(m).attribute('auto_pad')}",
)
