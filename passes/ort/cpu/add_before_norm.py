"""Additions before normalizations are spelled so that ONNX Runtime's CPU provider does not make them slow."""

from __future__ import annotations

from .... import ir
from ...rewriting.builder import Builder
from ...rewriting.constraints import floating, profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule

x, y = values("x y")

_NORMALIZATIONS = ("LayerNormalization", "ReduceMean")


def _feeds_normalization(m: Match) -> bool:
    readers = m.root.outputs[0].consumers()
    return any(
        reader.op_type in _NORMALIZATIONS and reader.domain == "" and reader.inputs[0] is m.root.outputs[0]
        for reader in readers
    )


def _is_fused(m: Match) -> bool:
    """Whether the fusion would take it and the kernel would be the slower one: rows of 1 to 8 were x0.85 to x0.96."""
    dims = m.shapes.dims(m.root.outputs[0])
    return dims is None or (len(dims) == 3 and (not isinstance(dims[2], int) or dims[2] > 8))


@rule(
    op.Add(x, y),
    requires=[
        floating("x", "y"),
        require("a normalization that reads the result", _feeds_normalization),
        require("two computed operands", lambda m: not m.x.is_constant and not m.y.is_constant),
        profitable("three dims, the last above 8", _is_fused, lambda m: m.shapes.show(m.root.outputs[0])),
    ],
    is_heuristic=True,
    source=(
        "ONNX Runtime fuses Add -> LayerNormalization into SkipLayerNormalization, whose float32 CPU kernel is 5 to 8 "
        "times slower than the two (core/optimizer/skip_layer_norm_fusion.cc matches Add alone)"
    ),
)
def add_to_sum_before_norm(m: Match, op: Builder) -> ir.Value:
    """Write the residual addition as Sum, which is the same addition and which no fusion matches.

    before:  Add(x, y) -> LayerNormalization -> z
    after:   Sum(x, y) -> LayerNormalization -> z
    """
    return op.Sum(m.x, m.y)
