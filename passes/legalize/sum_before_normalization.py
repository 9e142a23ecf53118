"""Additions before normalizations are spelled so that ONNX Runtime's CPU provider does not make them slow."""

from __future__ import annotations

from ... import ir
from ..engine.conditions import floating, holds, target
from ..engine.pattern import op, values
from ..engine.rule import Builder, Match, rule

x, y = values("x y")

_NORMALIZATIONS = ("LayerNormalization", "ReduceMean")


def _feeds_normalization(m: Match) -> bool:
    readers = m.root.outputs[0].consumers()
    return any(
        reader.op_type in _NORMALIZATIONS and reader.domain == "" and reader.inputs[0] is m.root.outputs[0]
        for reader in readers
    )


@rule(
    op.Add(x, y),
    requires=[
        target("ort-cpu"),
        floating("x", "y"),
        holds("a normalization that reads the result", _feeds_normalization),
        holds("two computed operands", lambda m: not m.x.is_constant and not m.y.is_constant),
    ],
    is_choice=True,
    source=(
        "ONNX Runtime fuses Add -> LayerNormalization into SkipLayerNormalization, whose float32 CPU kernel is 5 to 8 "
        "times slower than the two (core/optimizer/skip_layer_norm_fusion.cc matches Add alone)"
    ),
    group="legalize",
)
def sum_before_normalization(m: Match, op: Builder) -> ir.Value:
    """Write the residual addition as Sum, which is the same addition and which no fusion matches.

    before:  Add(x, y) -> LayerNormalization -> z
    after:   Sum(x, y) -> LayerNormalization -> z
    """
    return op.Sum(m.x, m.y)
