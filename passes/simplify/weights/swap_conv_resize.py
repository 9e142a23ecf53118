"""Swap a 1x1 convolution and the Resize before it: at the smaller size, the convolution has less to do."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, let, profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import any_call, op, values
from ...rewriting.rule import rule
from .linear_ops import UNSHARED

w, b = values("w b")

_MOST_GROWTH = 2  # output channels for each input channel: beyond, the Resize has more to do


@dataclass(frozen=True)
class _Piece:
    """Consecutive input channels of the convolution, and the Resize whose result they are."""

    image: ir.Value
    channels: int
    resize: ir.Node | None = None


def _split_channels(m: Match) -> list[_Piece] | str:
    """The input channels of the convolution, by operand; why they cannot be convolved separately."""
    if m.has("Resize"):
        piece = _piece(m.Resize.value, m.Resize.node, m.shapes)
        return [piece] if piece is not None and piece.resize is not None else "the Resize has other axes than space"
    if m.Concat.rank is None or m.Concat.integer("axis") % m.Concat.rank != 1:
        return "the Concat is not one of channels"
    pieces = []
    for value in m.Concat.node.inputs:
        piece = _piece(value, m.Concat.node, m.shapes) if value is not None else None
        if piece is None:
            return "the channels of an operand are not known"
        pieces.append(piece)
    return pieces if any(each.resize is not None for each in pieces) else "there is no Resize"


def _piece(value: ir.Value, user: ir.Node, shapes: Shapes) -> _Piece | None:
    dims = shapes.dims(value)
    if dims is None or len(dims) < 3 or not isinstance(dims[1], int):
        return None
    resize = value.producer()
    is_private = resize is user or (value.uses() and not value.is_graph_output() and len(value.uses()) == 1)
    if resize is not None and resize.op_type == "Resize" and is_private and resize.graph is user.graph:
        source = resize.inputs[0]
        if source is not None and _keeps_channels(resize, source, shapes):
            return _Piece(source, dims[1], resize)
    return _Piece(value, dims[1])


def _keeps_channels(resize: ir.Node, source: ir.Value, shapes: Shapes) -> bool:
    """Whether each pixel of the result is an average of pixels of the same channel, with weights that add up to 1."""
    before, after = shapes.dims(source), shapes.dims(resize.outputs[0])
    if resize.domain != "" or ir.attribute(resize, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    return before is not None and after is not None and len(before) == len(after) and before[:2] == after[:2]


_pieces = let("Resizes before the convolution", _split_channels, is_structural=True)


def _is_pointwise(m: Match) -> bool:
    strides, pads = m.Conv.integers("strides") or (1,), m.Conv.integers("pads") or (0,)
    dims = m.w.array.shape
    return m.Conv.integer("group", 1) == 1 and set(dims[2:]) == {1} and set(strides) == {1} and set(pads) == {0}


def _grows(m: Match) -> bool:
    """Whether no image is known to shrink, and none would be resized with many more channels."""
    pieces, outputs = m[_pieces], m.w.array.shape[0]
    for piece in pieces:
        if piece.resize is None:
            continue
        before, after = m.shapes.static(piece.image), m.shapes.static(piece.resize.outputs[0])
        if outputs > _MOST_GROWTH * piece.channels:
            return False
        if before is not None and after is not None:
            if prod(after) < 2 * prod(before):
                return False
        elif len(pieces) == 1 and not _scales_up(piece.resize):
            return False
    return True


def _scales_up(resize: ir.Node) -> bool:
    scales = ir.parameter(resize, "scales")
    return (
        isinstance(scales, np.ndarray) and scales.size > 0 and prod(scales.astype(np.float64).reshape(-1).tolist()) >= 2
    )


def _may_change_channels(m: Match) -> bool:
    """Whether no Resize with another number of channels than before is given the sizes of all axes."""
    outputs = m.w.array.shape[0]
    return not any(
        piece.resize is not None
        and piece.channels != outputs
        and "axes" not in piece.resize.attributes
        and ir.named_input(piece.resize, "sizes") is not None
        for piece in m[_pieces]
    )


def _show_channels(m: Match) -> str:
    return f"{[piece.channels for piece in m[_pieces]]} channels, {m.w.array.shape[0]} afterwards"


@rule(
    op.Conv(any_call("Resize") | any_call("Concat"), w, b.optional()).any_attributes(),
    requires=[
        constant("w", "b"),
        _pieces,
        require("a 1x1 convolution", _is_pointwise, lambda m: f"w has dims {list(m.w.array.shape)}"),
        profitable("images that grow, and not their channels", _grows, _show_channels),
        require("a Resize that is not given its channels, or keeps their number", _may_change_channels, _show_channels),
        require(
            "one image, or a target that counts time and not operators",
            lambda m: len(m[_pieces]) == 1 or m.context.settings.target.is_onnxruntime,
            lambda m: f"{len(m[_pieces])} images",
        ),
        UNSHARED,
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "W·Σ aᵢxᵢ + b = Σ aᵢ(W·xᵢ + b), as Σ aᵢ = 1; the decoder of SegFormer (arXiv:2105.15203, section 3.2): "
        "x3 alone, x1.35 on the whole model"
    ),
)
def swap_resize_conv1x1(m: Match, op: Builder) -> ir.Value | None:
    """Convolve each image before it is resized; the operands of a Concat are convolved separately and added.

    before:  z = Conv(Concat<axis = 1>(Resize(x), y), %w, %b)        x: [n, c, h, w]
    after:   z = Sum(Resize(Conv(x, %w[:, :c], %b)), Conv(y, %w[:, c:]))
    """
    weight, start, parts = m.w.array, 0, []
    for piece in m[_pieces]:
        part = np.ascontiguousarray(weight[:, start : start + piece.channels])
        bias = m.b if start == 0 else None
        convolved = op.Conv(piece.image, part, bias, **m.Conv.attributes)
        if piece.resize is not None:
            inputs = [convolved, *piece.resize.inputs[1:]]
            convolved = op.node("Resize", inputs, attributes=dict(piece.resize.attributes))[0]
        parts.append(convolved)
        start += piece.channels
    return op.Sum(*parts) if len(parts) > 1 else parts[0]
