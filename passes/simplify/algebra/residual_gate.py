"""Factor the residual connection around a gate out of the sum."""

from __future__ import annotations

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...rewriting.constraints import floating, require
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite

x, g = values("x g")


def _is_broadcast(shapes: Shapes, gate: ir.Value, data: ir.Value) -> bool:
    """Whether the gate is of no higher rank than the data, and 1 along an axis where the data are known not to be."""
    short, long = shapes.dims(gate), shapes.dims(data)
    if short is None or long is None or len(short) > len(long):
        return False
    padded = (1,) * (len(long) - len(short)) + tuple(short)
    fits = all(small in (1, large) for small, large in zip(padded, long, strict=True))
    return fits and any(small == 1 and large != 1 for small, large in zip(padded, long, strict=True))


rewrite(
    "factor-residual-gate",
    "Add 1 to the gate, which is broadcast against x, instead of adding the large value.",
    op.Add(x, op.Mul(x, g).any_order()).any_order(),
    op.Mul(x, op.Add(g, 1.0)),
    when=[
        floating("x"),
        require(
            "a gate that is broadcast against x",
            lambda m: _is_broadcast(m.shapes, m.g.value, m.x.value),
            lambda m: f"{m.shapes.show(m.g.value)} against {m.shapes.show(m.x.value)}",
        ),
    ],
    exactness=Exactness.SPECIAL_VALUES,
    source="x + xg = x(1 + g): the residual squeeze-and-excitation of PaddleOCR's RSE-FPN",
)
