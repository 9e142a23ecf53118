"""Fold BatchNormalization in inference form into the weights of the linear operator before or after it."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import Pattern, op, values
from ...rewriting.rule import rule
from .linear_ops import (
    NO_PADDING,
    UNSHARED,
    Vector,
    channels,
    inputs_of,
    linear,
    rebuild,
    scaled_inputs,
    scaled_outputs,
    shifted_bias,
)

x, w, b, gamma, beta, mean, var = values("x w b gamma beta mean var")

_STATISTICS = ("gamma", "beta", "mean", "var")


def _is_inference(m: Match) -> bool:
    """Below opset 7 is_test says so, below 14 the number of outputs, then training_mode.

    Below 9, spatial = 0 keeps statistics per position.
    """
    norm = m.BatchNormalization
    return (
        len([value for value in norm.node.outputs if value.name]) == 1
        and norm.attribute("is_test") in (None, 1)
        and norm.attribute("spatial") in (None, 1)
        and norm.attribute("training_mode") in (None, 0)
    )


def _show_mode(m: Match) -> str:
    norm = m.BatchNormalization
    modes = ((name, norm.attribute(name)) for name in ("is_test", "spatial", "training_mode"))
    given = ", ".join(f"{name} = {value}" for name, value in modes if value is not None)
    return f"{len(norm.node.outputs)} outputs, {given}"


def _compute_deviation(m: Match) -> Vector | str:
    variance: Vector = m.var.array.astype(np.float64) + m.BatchNormalization.number("epsilon", 1e-5)
    return np.sqrt(variance) if np.all(variance > 0) else f"the smallest is {variance.min()}"


_deviation = let("positive variance", _compute_deviation)

INFERENCE = (
    constant("w", "b", *_STATISTICS),
    require("BatchNormalization in inference form", _is_inference, _show_mode),
    finite(*_STATISTICS),
    _deviation,
    UNSHARED,
    finite("w", "b"),
)


def _normalized(producer: Pattern) -> Pattern:
    return op.BatchNormalization(producer, gamma, beta, mean, var).any_attributes()


def _is_plain(m: Match) -> bool:
    return linear(m).number("alpha", 1.0) == 1.0 and linear(m).number("beta", 1.0) == 1.0


def _show_factors(m: Match) -> str:
    operator = linear(m)
    return f"alpha = {operator.number('alpha', 1.0)}, beta = {operator.number('beta', 1.0)}"


def _fold(m: Match, op: Builder, bias: Vector) -> ir.Value | None:
    gamma, beta, mean = (operand.array.astype(np.float64) for operand in (m.gamma, m.beta, m.mean))
    scale = gamma / m[_deviation]
    return rebuild(m, op, scaled_outputs(m, scale), (bias - mean) * scale + beta)


@rule(
    _normalized(op.Conv(x, w, b.optional()).any_attributes() | op.ConvTranspose(x, w, b.optional()).any_attributes()),
    requires=INFERENCE,
    exactness=Exactness.SPECIAL_VALUES,
    source="Jacob et al. 2018, section 3.2 (arXiv:1712.05877)",
)
def fold_batchnorm_into_conv(m: Match, op: Builder) -> ir.Value | None:
    """Fold BatchNormalization into the Conv or ConvTranspose before it.

    before:  y = BatchNormalization(Conv(x, %w, %b), %gamma, %beta, %mean, %var)
    after:   y = Conv(x, %(w * s), %((b - mean) * s + beta))        s = gamma / sqrt(var + epsilon)
    """
    return _fold(m, op, m.b.array_or(0.0).astype(np.float64))


@rule(
    _normalized(op.Gemm(x, w, b.optional()).any_attributes() | op.MatMul(x, w)),
    requires=(
        *INFERENCE,
        require(
            "statistics per output channel",
            lambda m: m.gamma.array.shape == (channels(m),),
            lambda m: f"{list(m.gamma.array.shape)} for {channels(m)} channels",
        ),
        require(
            "x and w of rank 2",
            lambda m: m.x.rank == 2 and m.w.array.ndim == 2,
            lambda m: f"x is {m.shapes.show(m.x.value)}, w {list(m.w.array.shape)}",
        ),
        require("Gemm with alpha = beta = 1", lambda m: m.has("MatMul") or _is_plain(m), _show_factors),
        require(
            "opset 7 or later, where a Gemm broadcasts",
            lambda m: (m.BatchNormalization.node.version or 0) >= 7,
            lambda m: f"opset {m.BatchNormalization.node.version}",
        ),
    ),
    exactness=Exactness.ROUNDING,
    source="Jacob et al. 2018, section 3.2 (arXiv:1712.05877)",
)
def fold_batchnorm_into_gemm(m: Match, op: Builder) -> ir.Value | None:
    """Fold BatchNormalization into the Gemm or 2-D MatMul before it.

    before:  y = BatchNormalization(MatMul(x, %w), %gamma, %beta, %mean, %var)
    after:   y = Gemm(x, %(w * s), %((0 - mean) * s + beta))        s = gamma / sqrt(var + epsilon)
    """
    return _fold(m, op, m.b.array_or(0.0).astype(np.float64) if m.has("Gemm") else np.zeros(1))


def _normalizes_inputs(m: Match) -> bool:
    """Whether the statistics are those of the input channels, or columns, of the linear operator."""
    per_input = m.gamma.array.shape == (inputs_of(m),)
    return per_input and (m.has("Conv") or (_is_plain(m) and not linear(m).integer("transA")))


@rule(
    op.Conv(_normalized(x), w, b.optional()).any_attributes()
    | op.Gemm(_normalized(x), w, b.optional()).any_attributes(),
    requires=(
        *INFERENCE,
        require(
            "statistics per input channel, and Gemm without transA and with alpha = beta = 1",
            _normalizes_inputs,
            lambda m: f"{list(m.gamma.array.shape)} for {inputs_of(m)} channels",
        ),
        NO_PADDING,
    ),
    exactness=Exactness.ROUNDING,
    source="Jacob et al. 2018, section 3.2 (arXiv:1712.05877)",
)
def fold_batchnorm_into_next_linear(m: Match, op: Builder) -> ir.Value | None:
    """Fold BatchNormalization into the Conv without padding, or the Gemm, after it.

    before:  y = Conv(BatchNormalization(x, %gamma, %beta, %mean, %var), %w, %b)
    after:   y = Conv(x, %(w * s), %(b + sum(w * (beta - mean * s))))        s = gamma / sqrt(var + epsilon)
    """
    gamma, beta, mean = (operand.array.astype(np.float64) for operand in (m.gamma, m.beta, m.mean))
    scale = gamma / m[_deviation]
    return rebuild(m, op, scaled_inputs(m, scale), shifted_bias(m, beta - mean * scale))
