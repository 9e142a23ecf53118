"""Constant scales and shifts around a linear operator go into its weights and bias."""

from __future__ import annotations

import numpy as np

from .... import ir
from ...pipeline.exactness import Exactness
from ...rewriting.builder import Builder
from ...rewriting.constraints import constant, finite, floating, require
from ...rewriting.match import Match
from ...rewriting.pattern import Pattern, op, values
from ...rewriting.rule import rule
from .linear_ops import (
    NO_PADDING,
    UNSHARED,
    Vector,
    along,
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


def _after(m: Match) -> Vector | None:
    """The constant as one number for each output channel."""
    rank = m.shapes.rank(linear(m).value)
    return along(m.c.array, rank, channel_axis(m), channels(m)) if rank is not None else None


def _before(m: Match) -> Vector | None:
    """The constant as one number for each input channel."""
    rank = m.x.rank
    if rank is None:
        return None
    axis = 0 if m.has("Gemm") and linear(m).integer("transA") else channel_axis(m)
    return along(m.c.array, rank, axis, inputs_of(m))


def _keeps_dims(m: Match) -> bool:
    """Whether x itself has the channels that the weight reads: c may have stretched a dim of 1."""
    dims = m.x.dims
    if m.c.array.size == 1:
        return True
    axis = 0 if m.has("Gemm") and linear(m).integer("transA") else channel_axis(m)
    return dims is not None and dims[axis] == inputs_of(m)


def _dims_of_c(m: Match) -> str:
    return f"c has dims {list(m.c.array.shape)}"


CONSTANTS = (constant("w", "b", "c"), floating("w"))
FINITE = finite("w", "b", "c")
PER_OUTPUT = require("c varies along the output channels alone", lambda m: _after(m) is not None, _dims_of_c)
PER_INPUT = require("c varies along the input channels alone", lambda m: _before(m) is not None, _dims_of_c)
KEEPS_DIMS = require("x has all the channels itself", _keeps_dims, lambda m: f"x is {m.shapes.show(m.x.value)}")
MATRIX = require("the weight has two dims or more", lambda m: m.w.array.ndim >= 2, lambda m: f"w has {m.w.array.ndim}")
NO_ZERO = require("c without zeros, where it divides", lambda m: not m.has("Div") or bool(np.all(m.c.array != 0)))
PLAIN_GEMM = require("Gemm with beta = 1", lambda m: not m.has("Gemm") or linear(m).number("beta", 1.0) == 1.0)


def _is_half_of_gelu(m: Match) -> bool:
    """X · (1 + erf(…)) · 0.5, or with tanh: without its half, ONNX Runtime does not fuse it to a Gelu."""
    product = m.x.value.producer()
    if product is None or product.op_type != "Mul" or m.c.scalar != 0.5:
        return False
    sums = [value.producer() for value in product.inputs if value is not None]
    functions = [each.producer() for node in sums if node and node.op_type == "Add" for each in node.inputs if each]
    return any(node is not None and node.op_type in ("Erf", "Tanh") for node in functions)


def _bias(m: Match) -> Vector | None:
    return m.b.array.astype(np.float64) if m.has("b") else None


NO_GELU = require(
    "no half of a Gelu that ONNX Runtime fuses",
    lambda m: not m.context.settings.target.is_onnxruntime or not _is_half_of_gelu(m),
)


@rule(
    op.Mul(_linear(x), c).any_order() | op.Div(_linear(x), c),
    requires=(*CONSTANTS, MATRIX, PER_OUTPUT, NO_ZERO, UNSHARED, FINITE),
    exactness=Exactness.SPECIAL_VALUES,
    source=SOURCE,
)
def fold_output_scale(m: Match, op: Builder) -> ir.Value | None:
    """Multiply the weights and the bias instead of the result.

    before:  x -> Conv(w, b) -> Mul(c) -> y        the same for Div, ConvTranspose, Gemm, MatMul
    after:   x -> Conv(w * c, b * c) -> y
    """
    scale = _after(m)
    assert scale is not None
    scale = 1.0 / scale if m.has("Div") else scale
    bias = _bias(m)
    return rebuild(m, op, scaled_outputs(m, scale), bias * scale if bias is not None else None)


@rule(
    op.Add(_with_bias(x), c).any_order() | op.Sub(_with_bias(x), c),
    requires=(*CONSTANTS, PER_OUTPUT, PLAIN_GEMM, FINITE),
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def fold_output_shift(m: Match, op: Builder) -> ir.Value | None:
    """Add to the bias instead of the result.

    before:  x -> Conv(w, b) -> Add(c) -> y        the same for Sub, ConvTranspose, Gemm
    after:   x -> Conv(w, b + c) -> y
    """
    shift = _after(m)
    assert shift is not None
    shift = -shift if m.has("Sub") else shift
    bias = _bias(m)
    return rebuild(m, op, None, bias + shift if bias is not None else shift)


@rule(
    _linear(op.Mul(x, c).any_order() | op.Div(x, c)),
    requires=(*CONSTANTS, MATRIX, PER_INPUT, KEEPS_DIMS, NO_ZERO, UNSHARED, FINITE, NO_GELU),
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def fold_input_scale(m: Match, op: Builder) -> ir.Value | None:
    """Multiply the weights instead of the input.

    before:  x -> Mul(c) -> Conv(w, b) -> y        the same for Div, ConvTranspose, Gemm, MatMul
    after:   x -> Conv(w * c, b) -> y
    """
    scale = _before(m)
    assert scale is not None
    return rebuild(m, op, scaled_inputs(m, 1.0 / scale if m.has("Div") else scale), _bias(m))


@rule(
    _with_bias(op.Add(x, c).any_order() | op.Sub(x, c)),
    requires=(*CONSTANTS, PER_INPUT, KEEPS_DIMS, NO_PADDING, PLAIN_GEMM, FINITE),
    exactness=Exactness.ROUNDING,
    source=SOURCE,
)
def fold_input_shift(m: Match, op: Builder) -> ir.Value | None:
    """Add what the weights make of the constant to the bias.

    before:  x -> Add(c) -> Conv(w, b) -> y        the same for Sub and Gemm; without padding
    after:   x -> Conv(w, b + sum(w * c)) -> y
    """
    shift = _before(m)
    assert shift is not None
    return rebuild(m, op, None, shifted_bias(m, -shift if m.has("Sub") else shift))
