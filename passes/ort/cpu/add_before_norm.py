"""Keep additions before normalizations out of a fusion that is slow on ONNX Runtime's CPU provider."""

from __future__ import annotations

from ...rewriting.constraints import floating, profitable, require
from ...rewriting.match import Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rewrite

x, y = values("x y")

_NORMALIZATIONS = ("LayerNormalization", "ReduceMean")


def _feeds_normalization(m: Match) -> bool:
    result = m.root.outputs[0]
    return any(
        user.op_type in _NORMALIZATIONS and user.domain == "" and user.inputs[0] is result
        for user in result.consumers()
    )


def _is_fused(m: Match) -> bool:
    """Whether the fusion applies and its kernel is the slower one: with rows of 1 to 8 Sum was x0.85 to x0.96."""
    dims = m.shapes.dims(m.root.outputs[0])
    return dims is None or (len(dims) == 3 and (not isinstance(dims[2], int) or dims[2] > 8))


rewrite(
    "add-to-sum-before-norm",
    "Write an addition before a normalization as Sum, which computes the same and which no fusion matches.",
    op.Add(x, y),
    op.Sum(x, y),
    when=[
        floating(x, y),
        require(
            "a normalization of the result",
            _feeds_normalization,
            lambda m: f"users {', '.join(user.op_type for user in m.root.outputs[0].consumers()) or 'none'}",
        ),
        require(
            "two computed operands",
            lambda m: not m.x.is_constant and not m.y.is_constant,
            lambda m: f"{(m.x if m.x.is_constant else m.y).value.name!r} is constant",
        ),
        profitable("three dims, the last above 8", _is_fused, lambda m: m.shapes.show(m.root.outputs[0])),
    ],
    source=(
        "ONNX Runtime fuses Add -> LayerNormalization into SkipLayerNormalization, whose float32 CPU kernel is 5 to 8 "
        "times slower than the two (core/optimizer/skip_layer_norm_fusion.cc matches Add alone)"
    ),
)
