"""Resize to the nearest pixel by a whole factor, in the form that ONNX Runtime copies pixels for."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....rewriting.builder import Builder
from ....rewriting.constraints import require
from ....rewriting.match import Match
from ....rewriting.pattern import any_call
from ....rewriting.rule import rule

_LARGEST = 1 << 16  # pixels along an axis: float32 places them far more finely than half a pixel of the result


def _has_whole_factors(m: Match) -> bool:
    node, shapes = m.root, m.shapes
    source = node.inputs[0]
    if source is None:
        return False
    scales = ir.parameter(node, "scales")
    if isinstance(scales, np.ndarray) and scales.size:
        return all(each >= 1 and each.is_integer() for each in scales.astype(np.float64).reshape(-1).tolist())
    given, made = shapes.static(source), shapes.static(node.outputs[0])
    if given is None or made is None:
        return False
    return all(old > 0 and new % old == 0 and new <= _LARGEST for old, new in zip(given, made, strict=True))


@rule(
    any_call("Resize"),
    requires=[
        require("the nearest pixel", lambda m: m.Resize.attribute("mode") == "nearest"),
        require(
            "half pixels, rounded",
            lambda m: (
                m.Resize.attribute("coordinate_transformation_mode") in ("half_pixel", "pytorch_half_pixel")
                and m.Resize.attribute("nearest_mode") in ("round_prefer_floor", "round_prefer_ceil")
            ),
        ),
        require("whole factors", _has_whole_factors),
    ],
    is_heuristic=True,
    source=(
        "(q·s + r + 0.5) / s - 0.5 lies within half a pixel of q for 0 <= r < s; ONNX Runtime's blocked layout has the "
        "asymmetric form: x1.7 to x2.8 after a convolution"
    ),
)
def resize_nearest_to_asymmetric(m: Match, op: Builder) -> ir.Value:
    """Enlarged by a whole factor, each pixel is repeated, whatever the mode says.

    before:  x -> Resize(nearest, half_pixel, round_prefer_floor, scales [1, 1, 2, 2]) -> y
    after:   x -> Resize(nearest, asymmetric, floor, scales [1, 1, 2, 2]) -> y
    """
    attributes: dict[str, ir.AttributeValue | ir.Attr] = dict(m.Resize.attributes)
    attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return op.node("Resize", list(m.root.inputs), attributes=attributes)[0]
