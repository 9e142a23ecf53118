"""Fold constant scales and shifts before and after a linear operator into its weight and bias."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, let, require
from ...rewriting.match import Match
from ...rewriting.pattern import Pattern, op, values
from ...rewriting.rule import rule
from .linear_ops import (
    NO_PADDING,
    UNSHARED,
    Vector,
    along,
    bias_of,
    channel_axis,
    channels,
    inputs_of,
    linear,
    rebuild,
    scaled_inputs,
    scaled_outputs,
    shifted_bias,
)

x, w, b, c = values("x w b c")

SOURCE = "Jacob et al. 2018, section 3.2 (arXiv:1712.05877)"


def _linear(data: Pattern) -> Pattern:
    return (
        op.Conv(data, w, b.optional()).any_attributes()
        | op.ConvTranspose(data, w, b.optional()).any_attributes()
        | op.Gemm(data, w, b.optional()).any_attributes()
        | op.MatMul(data, w)
    )


def _with_bias(data: Pattern) -> Pattern:
    return (
        op.Conv(data, w, b.optional()).any_attributes()
        | op.ConvTranspose(data, w, b.optional()).any_attributes()
        | op.Gemm(data, w, b.optional()).any_attributes()
    )


def _rows_axis(m: Match) -> int:
    """The axis of x that the weight sums over."""
    return 0 if m.has("Gemm") and linear(m).integer("transA") else channel_axis(m)


def _dims_of_c(m: Match) -> str:
    return f"c has dims {list(m.c.array.shape)}"


def _constant_per_output(m: Match) -> Vector | str:
    rank = m.shapes.rank(linear(m).value)
    numbers = along(m.c.array, rank, channel_axis(m), channels(m)) if rank is not None else None
    return _dims_of_c(m) if numbers is None else numbers


def _constant_per_input(m: Match) -> Vector | str:
    rank = m.x.rank
    numbers = along(m.c.array, rank, _rows_axis(m), inputs_of(m)) if rank is not None else None
    return _dims_of_c(m) if numbers is None else numbers


def _has_all_channels(m: Match) -> bool:
    """Whether x itself has the channels that the weight reads: c may have broadcast a dim of 1."""
    dims = m.x.dims
    return m.c.array.size == 1 or (dims is not None and dims[_rows_axis(m)] == inputs_of(m))


def _is_half_of_gelu(m: Match) -> bool:
    """X · (1 + erf(…)) · 0.5, or with tanh: without the factor 0.5, ONNX Runtime does not fuse it to a Gelu."""
    product = m.x.value.producer()
    if product is None or product.op_type != "Mul" or m.c.scalar != 0.5:
        return False
    sums = [value.producer() for value in product.inputs if value is not None]
    functions = [each.producer() for node in sums if node and node.op_type == "Add" for each in node.inputs if each]
    return any(node is not None and node.op_type in ("Erf", "Tanh") for node in functions)


CONSTANTS = (constant("w", "b", "c"), floating("w"))
FINITE = finite("w", "b", "c")
PER_OUTPUT = let("c varies along the output channels alone", _constant_per_output)
PER_INPUT = let("c varies along the input channels alone", _constant_per_input)
KEEPS_DIMS = require("x has all the channels itself", _has_all_channels, lambda m: f"x is {m.shapes.show(m.x.value)}")
MATRIX = require("the weight has two dims or more", lambda m: m.w.array.ndim >= 2, lambda m: f"w has {m.w.array.ndim}")
NO_ZERO = require(
    "c without zeros, where it divides",
    lambda m: not m.has("Div") or bool(np.all(m.c.array != 0)),
    lambda m: f"{int(np.sum(m.c.array == 0))} zeros",
)
PLAIN_GEMM = require(
    "Gemm with beta = 1",
    lambda m: not m.has("Gemm") or linear(m).number("beta", 1.0) == 1.0,
    lambda m: f"beta = {linear(m).number('beta', 1.0)}",
)
NO_GELU = require(
    "no factor 0.5 of a Gelu that ONNX Runtime fuses",
    lambda m: not m.context.settings.target.is_onnxruntime or not _is_half_of_gelu(m),
    lambda m: f"target {m.context.settings.target}, {m.x.value.name!r} is x · (1 + erf(…)) or with tanh",
)


def _divided(m: Match, scale: Vector) -> Vector:
    return 1.0 / scale if m.has("Div") else scale


def _subtracted(m: Match, shift: Vector) -> Vector:
    return -shift if m.has("Sub") else shift


@rule(
    op.Mul(_linear(x), c).any_order() | op.Div(_linear(x), c),
    requires=(*CONSTANTS, MATRIX, PER_OUTPUT, NO_ZERO, UNSHARED, FINITE),
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
)
def fold_output_scale(m: Match, op: Builder) -> ir.Value | None:
    """Multiply the weight and the bias instead of the result.

    before:  y = Mul(Conv(x, %w, %b), %c)        the same for Div, ConvTranspose, Gemm, MatMul
    after:   y = Conv(x, %(w * c), %(b * c))
    """
    scale, bias = _divided(m, m[PER_OUTPUT]), bias_of(m)
    return rebuild(m, op, scaled_outputs(m, scale), bias * scale if bias is not None else None)


@rule(
    op.Add(_with_bias(x), c).any_order() | op.Sub(_with_bias(x), c),
    requires=(*CONSTANTS, PER_OUTPUT, PLAIN_GEMM, FINITE),
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def fold_output_shift(m: Match, op: Builder) -> ir.Value | None:
    """Add to the bias instead of the result.

    before:  y = Add(Conv(x, w, %b), %c)        the same for Sub, ConvTranspose, Gemm
    after:   y = Conv(x, w, %(b + c))
    """
    shift, bias = _subtracted(m, m[PER_OUTPUT]), bias_of(m)
    return rebuild(m, op, None, bias + shift if bias is not None else shift)


@rule(
    _linear(op.Mul(x, c).any_order() | op.Div(x, c)),
    requires=(*CONSTANTS, MATRIX, PER_INPUT, KEEPS_DIMS, NO_ZERO, UNSHARED, FINITE, NO_GELU),
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def fold_input_scale(m: Match, op: Builder) -> ir.Value | None:
    """Multiply the weight instead of the input.

    before:  y = Conv(Mul(x, %c), %w, b)        the same for Div, ConvTranspose, Gemm, MatMul
    after:   y = Conv(x, %(w * c), b)
    """
    return rebuild(m, op, scaled_inputs(m, _divided(m, m[PER_INPUT])), bias_of(m))


@rule(
    _with_bias(op.Add(x, c).any_order() | op.Sub(x, c)),
    requires=(*CONSTANTS, PER_INPUT, KEEPS_DIMS, NO_PADDING, PLAIN_GEMM, FINITE),
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def fold_input_shift(m: Match, op: Builder) -> ir.Value | None:
    """Add the product of the weight and the constant to the bias instead of adding the constant to the input.

    before:  y = Conv(Add(x, %c), %w, %b)        the same for Sub and Gemm; without padding
    after:   y = Conv(x, %w, %(b + sum(w * c)))
    """
    return rebuild(m, op, None, shifted_bias(m, _subtracted(m, m[PER_INPUT])))
