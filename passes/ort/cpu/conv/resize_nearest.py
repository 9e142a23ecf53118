"""Nearest-neighbor Resize by integer factors, in the form for which ONNX Runtime has a blocked kernel."""

from __future__ import annotations

import numpy as np

from ..... import ir
from ....rewriting.builder import Builder
from ....rewriting.constraints import attribute, require
from ....rewriting.match import Match
from ....rewriting.pattern import any_call
from ....rewriting.rule import rule

_LARGEST = 1 << 16  # pixels along an axis: float32 resolves them far more finely than half a pixel of the result


def _has_whole_factors(m: Match) -> bool:
    node, shapes = m.root, m.shapes
    source = node.inputs[0]
    if source is None:
        return False
    scales = ir.parameter(node, "scales")
    if isinstance(scales, np.ndarray) and scales.size:
        return all(scale >= 1 and scale.is_integer() for scale in scales.astype(np.float64).reshape(-1).tolist())
    before, after = shapes.static(source), shapes.static(node.outputs[0])
    if before is None or after is None:
        return False
    return all(old > 0 and new % old == 0 and new <= _LARGEST for old, new in zip(before, after, strict=True))


@rule(
    any_call("Resize"),
    requires=[
        attribute("Resize", "mode", "nearest"),
        require(
            "half pixels, rounded",
            lambda m: (
                m.Resize.attribute("coordinate_transformation_mode") in ("half_pixel", "pytorch_half_pixel")
                and m.Resize.attribute("nearest_mode") in ("round_prefer_floor", "round_prefer_ceil")
            ),
            lambda m: f"{m.Resize.attribute('coordinate_transformation_mode')}, {m.Resize.attribute('nearest_mode')}",
        ),
        require(
            "integer factors",
            _has_whole_factors,
            lambda m: " to ".join(m.shapes.show(value) for value in (m.root.inputs[0], m.Resize.value) if value),
        ),
    ],
    source=(
        "(q·s + r + 0.5) / s - 0.5 lies within half a pixel of q for 0 <= r < s; ONNX Runtime's blocked layout has the "
        "asymmetric form: x1.7 to x2.8 after a convolution"
    ),
)
def resize_nearest_to_asymmetric(m: Match, op: Builder) -> ir.Value:
    """Upsample by integer factors in asymmetric coordinates: each pixel is repeated in either mode.

    before:  y = Resize<coordinate_transformation_mode = "half_pixel", mode = "nearest">(x, , %scales)
    after:   y = Resize<coordinate_transformation_mode = "asymmetric", nearest_mode = "floor", …>(x, , %scales)
    """
    attributes: dict[str, ir.AttributeValue | ir.Attr] = dict(m.Resize.attributes)
    attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return op.node("Resize", list(m.root.inputs), attributes=attributes)[0]
