"""Convolutions of one value that are added are one convolution: RepVGG's branches, left as they were trained."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, require
from ...rewriting.match import Match
from ...rewriting.operand import Operand
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from .linear_ops import UNSHARED, Vector, carries

x, w, b, v, d, gamma, beta, mean, var = values("x w b v d gamma beta mean var")

SOURCE = "Ding et al. 2021, RepVGG, section 3.3 (arXiv:2101.03697)"


def _pads(conv: Operand, kernel: tuple[int, ...]) -> tuple[int, ...] | None:
    """The pads of a Conv in numbers."""
    rank = len(kernel)
    match conv.attribute("auto_pad"):
        case None | "NOTSET":
            return conv.integers("pads") or (0,) * (2 * rank)
        case "VALID":
            return (0,) * (2 * rank)
        case _:
            return None


def _settings(conv: Operand, rank: int) -> tuple[object, ...]:
    """What two convolutions must have in common besides where their windows lie."""
    return conv.integer("group", 1), conv.integers("strides") or (1,) * rank, conv.integers("dilations") or (1,) * rank


def _offsets(m: Match) -> tuple[int, ...] | None:
    """Where the smaller kernel lies in the larger one: both windows must start and end at the same places."""
    large, small = m.w.array.shape, m.v.array.shape
    rank = len(large) - 2
    if large[:2] != small[:2] or _settings(m.large, rank) != _settings(m.small, rank):
        return None
    outer, inner = _pads(m.large, large[2:]), _pads(m.small, small[2:])
    dilations = m.large.integers("dilations") or (1,) * rank
    if outer is None or inner is None:
        return None
    offsets = []
    for axis in range(rank):
        begin, end = outer[axis] - inner[axis], outer[axis + rank] - inner[axis + rank]
        step = dilations[axis]
        if begin < 0 or end < 0 or begin % step or end % step:
            return None
        if large[axis + 2] != small[axis + 2] + begin // step + end // step:
            return None
        offsets.append(begin // step)
    return tuple(offsets)


@rule(
    op.Add(
        op.Conv(x, w, b.optional()).any_attributes().named("large"),
        op.Conv(x, v, d.optional()).any_attributes().named("small"),
    ).any_order(),
    requires=[
        constant("w", "b", "v", "d"),
        finite("w", "b", "v", "d"),
        require("windows of one that lie within those of the other", lambda m: _offsets(m) is not None),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
)
def merge_parallel_convs(m: Match, op: Builder) -> ir.Value | None:
    """One convolution with the sum of the kernels, the smaller one padded.

    before:  Add(Conv(x, w3x3, b), Conv(x, v1x1, d)) -> y
    after:   Conv(x, w + v, b + d) -> y
    """
    offsets = _offsets(m)
    assert offsets is not None
    weight = m.w.array.astype(np.float64)
    small = m.v.array
    place = tuple(slice(at, at + size) for at, size in zip(offsets, small.shape[2:], strict=True))
    weight[(slice(None), slice(None), *place)] += small.astype(np.float64)
    bias = _bias(m, "b") + _bias(m, "d") if m.has("b") or m.has("d") else None
    return _conv(m, op, m.large, weight, bias)


def _bias(m: Match, name: str) -> Vector:
    return getattr(m, name).array.astype(np.float64) if m.has(name) else np.zeros(m.w.array.shape[0])


def _conv(m: Match, op: Builder, conv: Operand, weight: Vector, bias: Vector | None) -> ir.Value | None:
    dtype = m.w.array.dtype
    with np.errstate(over="ignore"):
        contents = [each.astype(dtype) for each in (weight, bias) if each is not None]
    if not carries(contents[0], weight) or not all(np.isfinite(each.astype(np.float64)).all() for each in contents):
        return None
    return op.node("Conv", [m.x, *map(op.constant, contents)], attributes=conv.attributes)[0]


def _centre(m: Match) -> tuple[int, ...] | None:
    """The place in the kernel that reads the element at the place of the result, where the result is as large as x."""
    kernel = m.w.array.shape[2:]
    rank = len(kernel)
    pads = _pads(m.Conv, kernel)
    dilations = m.Conv.integers("dilations") or (1,) * rank
    if pads is None or (m.Conv.integers("strides") or (1,) * rank) != (1,) * rank:
        return None
    for axis in range(rank):
        if pads[axis] % dilations[axis] or pads[axis] + pads[axis + rank] != dilations[axis] * (kernel[axis] - 1):
            return None
    return tuple(pads[axis] // dilations[axis] for axis in range(rank))


def _diagonal(m: Match, scale: Vector) -> Vector:
    """The kernel that multiplies each channel by its scale."""
    weight = np.zeros(m.w.array.shape)
    channels, per_group = weight.shape[:2]
    centre = _centre(m)
    assert centre is not None
    for channel in range(channels):
        weight[(channel, channel % per_group, *centre)] = scale[channel]
    return weight


def _norm(m: Match) -> tuple[Vector, Vector]:
    g, s, mu, variance = (getattr(m, name).array.astype(np.float64) for name in ("gamma", "beta", "mean", "var"))
    scale = g / np.sqrt(variance + m.BatchNormalization.number("epsilon", 1e-5))
    return scale, s - mu * scale


def _inference(m: Match) -> bool:
    node = m.BatchNormalization
    return (
        (node.node.version or 0) >= 9 and node.attribute("training_mode") in (None, 0) and len(node.node.outputs) == 1
    )


@rule(
    op.Add(
        op.Conv(x, w, b.optional()).any_attributes(),
        op.BatchNormalization(x, gamma, beta, mean, var).any_attributes(),
    ).any_order(),
    requires=[
        constant("w", "b", "gamma", "beta", "mean", "var"),
        finite("w", "b", "gamma", "beta", "mean", "var"),
        require("BatchNormalization in inference form", _inference),
        require(
            "as many channels out as in",
            lambda m: m.w.array.shape[0] == m.w.array.shape[1] * m.Conv.integer("group", 1) == m.gamma.array.size,
        ),
        require("positive variance", lambda m: bool(np.all(m.var.array.astype(np.float64) >= 0))),
        require("a window that reads its own place once", lambda m: _centre(m) is not None),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
)
def merge_repvgg_identity(m: Match, op: Builder) -> ir.Value | None:
    """The normalized input is a 1x1 convolution of it, which goes into the other convolution.

    before:  Add(Conv(x, w, b), BatchNormalization(x, gamma, beta, mean, var)) -> y
    after:   Conv(x, w + diagonal(s), b + beta - mean * s) -> y,  s = gamma / sqrt(var + epsilon)
    """
    scale, shift = _norm(m)
    return _conv(m, op, m.Conv, m.w.array.astype(np.float64) + _diagonal(m, scale), _bias(m, "b") + shift)
