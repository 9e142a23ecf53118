"""Recognize LeakyRelu written as a selection or a maximum."""

from __future__ import annotations

from ... import ir
from ..pipeline.exactness import Exactness
from ..rewriting.constraints import constant, let, require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import op, values
from ..rewriting.rule import rewrite

x, slope = values("x slope")

_leak = op.Mul(x, slope).any_order().named("leak")
_selection = (
    op.Where(op.Less(x, 0.0).named("test"), _leak, x)
    | op.Where(op.Greater(x, 0.0).named("test"), x, _leak)
    | op.Where(op.GreaterOrEqual(x, 0.0).named("test"), x, _leak)
)


def _read_slope(m: Match) -> float | str:
    slope = m.slope.scalar
    if not isinstance(slope, float) or not m.shapes.same_dims(m.x.dims, m.shapes.dims(m.root.outputs[0])):
        return f"{m.shapes.show(m.slope.value)} on {m.shapes.show(m.x.value)}"
    return slope


_slope = let("a slope of one element that does not broadcast x", _read_slope)


rewrite(
    "recognize-leaky-relu",
    "Recognize LeakyRelu.",
    _selection | op.Max(x, _leak).any_order().named("larger"),
    op.LeakyRelu(x, alpha=_slope),
    when=[
        structural("opset 16", lambda m: (m.root.version or 0) >= 16),
        constant("slope"),
        require("float32", lambda m: m.x.dtype == ir.DataType.FLOAT, lambda m: str(m.x.dtype)),
        _slope,
        require(
            "a slope between 0 and 1 in a maximum",
            lambda m: not m.has("larger") or 0 < m[_slope] < 1,
            lambda m: str(m[_slope]),
        ),
    ],
    exactness=Exactness.ROUNDING,
    source="Maas et al. 2013, in the form of ONNX LeakyRelu-16",
)
