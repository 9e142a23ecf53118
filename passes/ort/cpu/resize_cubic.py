"""Cubic Resize of images as two matrix products: ONNX Runtime computes each pixel by itself, from 16 others."""

from __future__ import annotations

from math import prod

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, profitable, require, structural
from ...rewriting.match import Match
from ...rewriting.pattern import any_call
from ...rewriting.rule import rule

_MOST_PER_PIXEL = 2_500
"""Multiplications for each pixel of the result up to which the products are faster: x2.9 from 800x800 to 400x400."""
_MOST_ANTIALIASED = 64
_LEAST_ANTIALIASED = 8
"""The same against the separable kernel of `antialias`, and the least height and width: x0.73 with 3, x1.1 to x1.9 from
8 to 16 on, x0.3 with 460 multiplications."""
_FEWEST_PIXELS = 64
_SWAPPED = (0, 1, 3, 2)
_MATRICES = 256
"""Pixels whose computation costs as much as the operators that make the matrices at run time."""


def _pixels(m: Match) -> tuple[int, int] | str:
    """Height and width of the source."""
    x, y = m.root.inputs[0], m.root.outputs[0]
    before, after = (None if value is None else m.shapes.dims(value) for value in (x, y))
    if before is None or after is None or len(before) != 4:
        return f"x is {m.shapes.show(x) if x is not None else 'not given'}"
    if before[:2] != after[:2]:
        return f"{m.shapes.show(y)}: other axes than height and width are resized"
    height, width = before[2:]
    if not isinstance(height, int) or not isinstance(width, int) or not height or not width:
        return f"{m.shapes.show(y)}: height and width of x are not known"
    return height, width


def _sizes(m: Match) -> tuple[str, ir.Value]:
    """What says how large the result is: the name of the input, and its value."""
    _, _, scales, *sizes = m.root.inputs
    if sizes and sizes[0] is not None:
        return "sizes", sizes[0]
    assert scales is not None, "a Resize has one of them"
    return "scales", scales


PIXELS = let("images of known height and width", _pixels)


def _is_made_once(m: Match) -> bool:
    """Whether the matrices are constants."""
    return ir.is_constant(_sizes(m)[1]) and not ir.is_constant(m.root.inputs[0])


def _pays(m: Match) -> bool:
    height, width = m[PIXELS]
    dims = m.shapes.dims(m.root.outputs[0]) or ()
    rows, pixels = dims[2], prod(dim for dim in dims if isinstance(dim, int))
    per_pixel = height + height * width / (rows if isinstance(rows, int) and rows else height)
    is_small = per_pixel <= _MOST_ANTIALIASED and min(height, width) >= _LEAST_ANTIALIASED
    if dims[2:] == (height, width) or (m.Resize.integer("antialias", 0) and not is_small):
        return False
    fewest = _FEWEST_PIXELS if _is_made_once(m) else _MATRICES + height + width
    return per_pixel <= _MOST_PER_PIXEL and pixels >= fewest


@rule(
    any_call("Resize"),
    requires=[
        structural("a cubic Resize", lambda m: m.Resize.attribute("mode") == "cubic"),
        require(
            "linear in x",
            lambda m: (
                m.Resize.attribute("coordinate_transformation_mode") != "tf_crop_and_resize"
                and m.Resize.attribute("keep_aspect_ratio_policy") in (None, "stretch")
                and [axis % 4 for axis in m.Resize.integers("axes") or (2, 3)] == [2, 3]
            ),
            lambda m: "it crops, keeps a ratio or names axes",
        ),
        require(
            "float32", lambda m: m.root.outputs[0].dtype == ir.DataType.FLOAT, lambda m: str(m.root.outputs[0].dtype)
        ),
        PIXELS,
        profitable("many pixels, few products for each", _pays, lambda m: m.shapes.show(m.root.outputs[0])),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "Keys 1981, Cubic convolution interpolation: separable; an inf or NaN spreads over its row and column; ONNX "
        "Runtime's core/providers/cpu/tensor/upsample.cc, ResizeBiCubic: x3 to x100, with antialias x1.2 to x8"
    ),
)
def resize_cubic_to_matmul(m: Match, op: Builder) -> ir.Value:
    """Resize the rows and columns of the identity, and multiply by those: any convention of coordinates is kept.

    before:  y = Resize<mode = "cubic">(x, , , sizes)      x: float[n, c, h, w]
    after:   rows = Resize(eye(h), by height); columns = Resize(eye(w), by width)
             y = MatMul(Transpose(MatMul(Transpose(x), rows)), columns)
    """
    rows, columns = (_matrix(m, op, axis) for axis in (2, 3))
    turned = op.MatMul(op.Transpose(m.root.inputs[0], perm=_SWAPPED), rows)  # from the left, no batch may be empty
    return op.MatMul(op.Transpose(turned, perm=_SWAPPED), columns)


def _matrix(m: Match, op: Builder, axis: int) -> ir.Value:
    """What the Resize makes of the rows of the identity, as along `axis`: two dims."""
    size, (kind, given) = m[PIXELS][axis - 2], _sizes(m)
    names_axes = m.Resize.attribute("axes") is not None
    at = axis - 2 if names_axes else axis
    is_scaled = kind == "scales"
    one, kept = (op.constant(np.ones(1, np.float32)) if is_scaled else op.constant([dim]) for dim in (1, size))
    along = op.Concat(*(() if names_axes else (one, one)), kept, op.Slice(given, [at], [at + 1]), axis=0)
    eye = op.constant(np.eye(size, dtype=np.float32)[None, None])
    sizes = [along] if is_scaled else [None, along]
    (resized,) = op.node("Resize", [eye, m.root.inputs[1], *sizes], attributes=dict(m.Resize.attributes))
    return op.Squeeze(resized, axes=[0, 1])
