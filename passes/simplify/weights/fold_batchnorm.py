"""BatchNormalization at inference is an affine step: it goes into the weights of the operator before it."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, require
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

INFERENCE = (
    constant("w", "b", *_STATISTICS),
    require(
        "BatchNormalization in inference form",
        # Below opset 7 is_test says so, below 14 the number of outputs, then training_mode; below 9 spatial = 0 keeps
        # statistics per position.
        lambda m: (
            len([value for value in m.BatchNormalization.node.outputs if value.name]) == 1
            and m.BatchNormalization.attribute("is_test") in (None, 1)
            and m.BatchNormalization.attribute("spatial") in (None, 1)
            and m.BatchNormalization.attribute("training_mode") in (None, 0)
        ),
    ),
    finite(*_STATISTICS),
    require("positive variance", lambda m: bool(np.all(m.var.array.astype(np.float64) + _epsilon(m) > 0))),
    UNSHARED,
    finite("w", "b"),
)


def _normalized(producer: Pattern) -> Pattern:
    return op.BatchNormalization(producer, gamma, beta, mean, var).any_attributes()


def _epsilon(m: Match) -> float:
    return m.BatchNormalization.number("epsilon", 1e-5)


def _fold(m: Match, op: Builder, bias: Vector) -> ir.Value | None:
    gamma, beta, mean, var = (getattr(m, name).array.astype(np.float64) for name in _STATISTICS)
    scale = gamma / np.sqrt(var + _epsilon(m))
    return rebuild(m, op, scaled_outputs(m, scale), (bias - mean) * scale + beta)


@rule(
    _normalized(op.Conv(x, w, b.optional()).any_attributes() | op.ConvTranspose(x, w, b.optional()).any_attributes()),
    requires=INFERENCE,
    exactness=Exactness.SPECIAL_VALUES,
    source="Jacob et al. 2018, section 3.2 (arXiv:1712.05877)",
)
def fold_batchnorm_into_conv(m: Match, op: Builder) -> ir.Value | None:
    """Fold an inference BatchNormalization into the Conv or ConvTranspose that feeds it.

    before:  x -> Conv(w, b) -> BatchNormalization(gamma, beta, mean, var) -> y
    after:   x -> Conv(w * s, (b - mean) * s + beta) -> y,  s = gamma / sqrt(var + epsilon)
    """
    return _fold(m, op, m.b.array_or(0.0).astype(np.float64))


@rule(
    _normalized(op.Gemm(x, w, b.optional()).any_attributes() | op.MatMul(x, w)),
    requires=(
        *INFERENCE,
        require("statistics per output channel", lambda m: m.gamma.array.shape == (channels(m),)),
        require("a matrix of one row for each sample", lambda m: m.x.rank == 2 and m.w.array.ndim == 2),
        require("Gemm with alpha = beta = 1", lambda m: m.has("MatMul") or _is_plain(m)),
        require("opset 7 or later, where a Gemm broadcasts", lambda m: (m.BatchNormalization.node.version or 0) >= 7),
    ),
    exactness=Exactness.ROUNDING,
    source="Jacob et al. 2018, section 3.2 (arXiv:1712.05877)",
)
def fold_batchnorm_into_gemm(m: Match, op: Builder) -> ir.Value | None:
    """Fold an inference BatchNormalization into the Gemm or 2-D MatMul that feeds it.

    before:  x -> MatMul(w) -> BatchNormalization(gamma, beta, mean, var) -> y
    after:   x -> Gemm(w * s, (0 - mean) * s + beta) -> y,  s = gamma / sqrt(var + epsilon)
    """
    return _fold(m, op, m.b.array_or(0.0).astype(np.float64) if m.has("Gemm") else np.zeros(1))


def _is_plain(m: Match) -> bool:
    return linear(m).number("alpha", 1.0) == 1.0 and linear(m).number("beta", 1.0) == 1.0


def _reads_rows(m: Match) -> bool:
    is_one_each = m.gamma.array.shape == (inputs_of(m),)
    return is_one_each and (m.has("Conv") or (_is_plain(m) and not linear(m).integer("transA")))


@rule(
    op.Conv(_normalized(x), w, b.optional()).any_attributes()
    | op.Gemm(_normalized(x), w, b.optional()).any_attributes(),
    requires=(
        *(each for each in INFERENCE if each.text not in ("statistics per output channel", "w floating-point")),
        require("Gemm of rows with alpha = beta = 1", _reads_rows),
        NO_PADDING,
    ),
    exactness=Exactness.ROUNDING,
    source="Jacob et al. 2018, section 3.2 (arXiv:1712.05877)",
)
def fold_batchnorm_into_next_linear(m: Match, op: Builder) -> ir.Value | None:
    """Fold an inference BatchNormalization into the Conv without padding, or the Gemm, that reads it.

    before:  x -> BatchNormalization(gamma, beta, mean, var) -> Conv(w, b) -> y
    after:   x -> Conv(w * s, b + sum(w * (beta - mean * s))) -> y,  s = gamma / sqrt(var + epsilon)
    """
    gamma, beta, mean, var = (getattr(m, name).array.astype(np.float64) for name in _STATISTICS)
    scale = gamma / np.sqrt(var + _epsilon(m))
    return rebuild(m, op, scaled_inputs(m, scale), shifted_bias(m, beta - mean * scale))
