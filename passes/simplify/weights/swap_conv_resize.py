"""A 1x1 convolution and a Resize commute: before the image grows, the convolution has less to do."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, profitable, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule
from .linear_ops import UNSHARED

w, b = values("w b")

_MOST_GROWTH = 2  # channels of the result for each channel of the image: beyond, the Resize has more to do


@dataclass(frozen=True)
class _Piece:
    """Channels that the convolution reads, and the Resize that they come out of."""

    image: ir.Value
    channels: int
    resize: ir.Node | None = None


def _pieces(m: Match) -> list[_Piece] | str:
    """The channels that the convolution reads, in order; or why they cannot be convolved one by one."""
    if m.has("Resize"):
        piece = _piece(m.Resize.value, m.Resize.node, m.shapes)
        return [piece] if piece is not None and piece.resize is not None else "it is no Resize of images alone"
    if m.Concat.rank is None or m.Concat.integer("axis") % m.Concat.rank != 1:
        return "the Concat is not one of channels"
    found = []
    for value in m.Concat.node.inputs:
        piece = _piece(value, m.Concat.node, m.shapes) if value is not None else None
        if piece is None:
            return "the channels of a piece are not known"
        found.append(piece)
    return found if any(each.resize is not None for each in found) else "there is no Resize"


def _piece(value: ir.Value, reader: ir.Node, shapes: Shapes) -> _Piece | None:
    dims = shapes.dims(value)
    if dims is None or len(dims) < 3 or not isinstance(dims[1], int):
        return None
    resize = value.producer()
    is_private = resize is reader or (value.uses() and not value.is_graph_output() and len(value.uses()) == 1)
    if resize is not None and resize.op_type == "Resize" and is_private and resize.graph is reader.graph:
        source = resize.inputs[0]
        if source is not None and _keeps_channels(resize, source, shapes):
            return _Piece(source, dims[1], resize)
    return _Piece(value, dims[1])


def _keeps_channels(resize: ir.Node, source: ir.Value, shapes: Shapes) -> bool:
    """Whether each pixel of the result is an average of pixels of the same channel, with weights that add up to 1."""
    given, made = shapes.dims(source), shapes.dims(resize.outputs[0])
    if resize.domain != "" or ir.attribute(resize, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    return given is not None and made is not None and len(given) == len(made) and given[:2] == made[:2]


def _is_pointwise(m: Match) -> bool:
    strides, pads = m.Conv.integers("strides") or (1,), m.Conv.integers("pads") or (0,)
    dims = m.w.array.shape
    return m.Conv.integer("group", 1) == 1 and set(dims[2:]) == {1} and set(strides) == {1} and set(pads) == {0}


def _grows(m: Match) -> bool:
    """Whether no image is known to shrink, and none would be resized with many more channels."""
    pieces, outputs = _pieces(m), m.w.array.shape[0]
    if isinstance(pieces, str):
        return False
    for piece in pieces:
        if piece.resize is None:
            continue
        given, made = m.shapes.static(piece.image), m.shapes.static(piece.resize.outputs[0])
        if outputs > _MOST_GROWTH * piece.channels:
            return False
        if given is not None and made is not None:
            if prod(made) < 2 * prod(given):
                return False
        elif len(pieces) == 1 and not _scales_up(piece.resize):
            return False
    return True


def _scales_up(resize: ir.Node) -> bool:
    scales = ir.parameter(resize, "scales")
    return (
        isinstance(scales, np.ndarray) and scales.size > 0 and prod(scales.astype(np.float64).reshape(-1).tolist()) >= 2
    )


def _sizes_fit(m: Match) -> bool:
    """Whether the Resize can be told how many channels it has now: it is not, or the number stays."""
    pieces = _pieces(m)
    resized = [] if isinstance(pieces, str) else [each for each in pieces if each.resize is not None]
    return all(each.channels == m.w.array.shape[0] or _is_told_no_channels(each.resize) for each in resized)


def _is_told_no_channels(resize: ir.Node | None) -> bool:
    if resize is None or "axes" in resize.attributes:
        return resize is not None
    return ir.named_input(resize, "sizes") is None


@rule(
    op.Conv(any_call("Resize") | any_call("Concat"), w, b.optional()).any_attributes(),
    requires=[
        constant("w", "b"),
        structural("Resizes that are read by the convolution", lambda m: not isinstance(_pieces(m), str)),
        require("a convolution of single pixels", _is_pointwise),
        profitable("images that grow, and not their channels", _grows),
        require("a Resize that is not told its channels, or keeps their number", _sizes_fit),
        require(
            "one image, or a target that counts time and not operators",
            lambda m: len(_pieces(m)) == 1 or m.context.settings.target.is_onnxruntime,
            lambda m: f"{len(_pieces(m))} images",
        ),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    is_heuristic=True,
    source=(
        "W·Σ aᵢxᵢ + b = Σ aᵢ(W·xᵢ + b), as Σ aᵢ = 1; the decoder of SegFormer (arXiv:2105.15203, section 3.2): "
        "x3 alone, x1.35 on the whole model"
    ),
)
def swap_resize_conv1x1(m: Match, op: Builder) -> ir.Value | None:
    """Convolve each image before it grows; the parts of a Concat are added instead.

    before:  Conv(Concat(Resize(x), y), w, b) -> z
    after:   Sum(Resize(Conv(x, w[:, :n], b)), Conv(y, w[:, n:])) -> z
    """
    pieces = _pieces(m)
    if isinstance(pieces, str):
        return None
    weight, start, parts = m.w.array, 0, []
    for piece in pieces:
        part = np.ascontiguousarray(weight[:, start : start + piece.channels])
        bias = m.b if start == 0 else None
        convolved = op.Conv(piece.image, op.constant(part), bias, **m.Conv.attributes)
        if piece.resize is not None:
            inputs = [convolved, *piece.resize.inputs[1:]]
            convolved = op.node("Resize", inputs, attributes=dict(piece.resize.attributes))[0]
        parts.append(convolved)
        start += piece.channels
    return op.Sum(*parts) if len(parts) > 1 else parts[0]
