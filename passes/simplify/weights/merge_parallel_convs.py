"""Merge convolutions of one value that are added: the training-time branches of RepVGG."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, let, require
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import Var, op, values
from ...rewriting.rule import rule
from .linear_ops import UNSHARED, Vector, round_weight

x, w, b, v, d, gamma, beta, mean, var = values("x w b v d gamma beta mean var")

SOURCE = "Ding et al. 2021, RepVGG, section 3.3 (arXiv:2101.03697)"


def _pads(conv: Operand, kernel: tuple[int, ...]) -> tuple[int, ...] | None:
    """The explicit pads of a Conv."""
    rank = len(kernel)
    match conv.attribute("auto_pad"):
        case None | "NOTSET":
            return conv.integers("pads") or (0,) * (2 * rank)
        case "VALID":
            return (0,) * (2 * rank)
        case _:
            return None


def _settings(conv: Operand, rank: int) -> tuple[object, ...]:
    """The attributes that two merged convolutions must share, besides pads and kernel shape."""
    return conv.integer("group", 1), conv.integers("strides") or (1,) * rank, conv.integers("dilations") or (1,) * rank


def _align_kernels(m: Match) -> tuple[int, ...] | str:
    """The offset of the smaller kernel in the larger one, such that both windows sample the same positions."""
    large, small = m.w.array.shape, m.v.array.shape
    rank = len(large) - 2
    if large[:2] != small[:2] or _settings(m.large, rank) != _settings(m.small, rank):
        return f"kernels {list(large)} and {list(small)}, or other groups, strides or dilations"
    outer, inner = _pads(m.large, large[2:]), _pads(m.small, small[2:])
    dilations = m.large.integers("dilations") or (1,) * rank
    mismatch = f"kernels {list(large)} and {list(small)}, pads {outer} and {inner}"
    if outer is None or inner is None:
        return mismatch
    offsets = []
    for axis in range(rank):
        begin, end = outer[axis] - inner[axis], outer[axis + rank] - inner[axis + rank]
        step = dilations[axis]
        if begin < 0 or end < 0 or begin % step or end % step:
            return mismatch
        if large[axis + 2] != small[axis + 2] + begin // step + end // step:
            return mismatch
        offsets.append(begin // step)
    return tuple(offsets)


_offsets = let("windows of one that lie within those of the other", _align_kernels)


@rule(
    op.Add(
        op.Conv(x, w, b.optional()).any_attributes().named("large"),
        op.Conv(x, v, d.optional()).any_attributes().named("small"),
    ).any_order(),
    requires=[
        constant("w", "b", "v", "d"),
        finite("w", "b", "v", "d"),
        _offsets,
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
)
def merge_parallel_convs(m: Match, op: Builder) -> ir.Value | None:
    """Add the kernels, the smaller one padded with zeros, and the biases of two convolutions of one value.

    before:  y = Add(Conv(x, %w, %b), Conv(x, %v, %d))        w: [o, i, 3, 3], v: [o, i, 1, 1]
    after:   y = Conv(x, %(w + v), %(b + d))
    """
    offsets, weight, small = m[_offsets], m.w.array.astype(np.float64), m.v.array
    window = tuple(slice(at, at + size) for at, size in zip(offsets, small.shape[2:], strict=True))
    weight[(slice(None), slice(None), *window)] += small.astype(np.float64)
    bias = _bias(m, b) + _bias(m, d) if m.has("b") or m.has("d") else None
    return _conv(m, op, m.large, weight, bias)


def _bias(m: Match, operand: Var) -> Vector:
    return m[operand].array.astype(np.float64) if m.has(operand.name) else np.zeros(m.w.array.shape[0])


def _conv(m: Match, op: Builder, conv: Operand, weight: Vector, bias: Vector | None) -> ir.Value | None:
    """The convolution of x with another weight and bias; None where the type of w cannot hold them."""
    rounded = round_weight(weight, m.w.array.dtype)
    if rounded is None:
        return None
    constants = [rounded]
    if bias is not None:
        with np.errstate(over="ignore"):
            constants.append(bias.astype(rounded.dtype))
        if not np.isfinite(constants[1].astype(np.float64)).all():
            return None
    return op.node("Conv", [m.x, *constants], attributes=conv.attributes)[0]


def _find_center(m: Match) -> tuple[int, ...] | str:
    """The kernel position that samples x at the position of the result, where the result has the dims of x."""
    kernel = m.w.array.shape[2:]
    rank = len(kernel)
    pads, strides = _pads(m.Conv, kernel), m.Conv.integers("strides") or (1,) * rank
    dilations = m.Conv.integers("dilations") or (1,) * rank
    mismatch = f"kernel {list(kernel)}, pads {pads}, strides {strides}, dilations {dilations}"
    if pads is None or strides != (1,) * rank:
        return mismatch
    for axis in range(rank):
        if pads[axis] % dilations[axis] or pads[axis] + pads[axis + rank] != dilations[axis] * (kernel[axis] - 1):
            return mismatch
    return tuple(pads[axis] // dilations[axis] for axis in range(rank))


_center = let("a window that reads its own position once", _find_center)


def _diagonal(m: Match, scale: Vector) -> Vector:
    """The kernel that multiplies each channel by its scale."""
    weight = np.zeros(m.w.array.shape)
    channels, per_group = weight.shape[:2]
    for channel in range(channels):
        weight[(channel, channel % per_group, *m[_center])] = scale[channel]
    return weight


def _is_inference(m: Match) -> bool:
    norm = m.BatchNormalization
    return (
        (norm.node.version or 0) >= 9 and norm.attribute("training_mode") in (None, 0) and len(norm.node.outputs) == 1
    )


def _show_mode(m: Match) -> str:
    norm = m.BatchNormalization
    training = norm.attribute("training_mode")
    return f"opset {norm.node.version}, training_mode = {training}, {len(norm.node.outputs)} outputs"


@rule(
    op.Add(
        op.Conv(x, w, b.optional()).any_attributes(),
        op.BatchNormalization(x, gamma, beta, mean, var).any_attributes(),
    ).any_order(),
    requires=[
        constant("w", "b", "gamma", "beta", "mean", "var"),
        finite("w", "b", "gamma", "beta", "mean", "var"),
        require("BatchNormalization in inference form", _is_inference, _show_mode),
        require(
            "as many channels out as in",
            lambda m: m.w.array.shape[0] == m.w.array.shape[1] * m.Conv.integer("group", 1) == m.gamma.array.size,
            lambda m: f"w has dims {list(m.w.array.shape)}, gamma {list(m.gamma.array.shape)}",
        ),
        require(
            "positive variance",
            lambda m: bool(np.all(m.var.array.astype(np.float64) >= 0)),
            lambda m: f"the smallest is {m.var.array.astype(np.float64).min()}",
        ),
        _center,
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
)
def merge_repvgg_identity(m: Match, op: Builder) -> ir.Value | None:
    """Merge the identity branch of RepVGG: a normalized input is a diagonal 1x1 convolution of it.

    before:  y = Add(Conv(x, %w, %b), BatchNormalization(x, %gamma, %beta, %mean, %var))
    after:   y = Conv(x, %(w + diagonal(s)), %(b + beta - mean * s))        s = gamma / sqrt(var + epsilon)
    """
    gamma, beta, mean, var = (operand.array.astype(np.float64) for operand in (m.gamma, m.beta, m.mean, m.var))
    scale = gamma / np.sqrt(var + m.BatchNormalization.number("epsilon", 1e-5))
    weight = m.w.array.astype(np.float64) + _diagonal(m, scale)
    return _conv(m, op, m.Conv, weight, _bias(m, b) + (beta - mean * scale))
