"""Properties of a model that decide how its outputs can be compared."""

from __future__ import annotations

import re

from ... import ir
from ..arrays import eps_of

_BOUNDED = frozenset("Sigmoid HardSigmoid Softmax Hardmax Tanh Erf Softsign Sin Cos".split())
"""Operators whose results are at most 1, and whose kernels round by an eps of 1 wherever they are."""


def is_bounded(output: ir.Value) -> bool:
    """Whether an output comes from an operator that bounds it by 1, through data movement."""
    value: ir.Value | None = output
    while value is not None and (node := value.producer()) is not None and node.domain == "":
        if node.op_type in _BOUNDED:
            return True
        if node.op_type not in ir.MOVEMENT | {"Concat", "Cast", "Pad"}:
            return False
        value = node.inputs[0]
    return False


def grain(model: ir.Model) -> float:
    """The eps of the coarsest float type that the model computes in, as far as inputs, weights and casts tell.

    An output may be finer: boxes in float64 that were computed in float32.
    """
    used = {ir.declared_dtype(value) for value in model.graph.inputs}
    weights = {ir.declared_dtype(value) for value in model.graph.initializers.values()}
    used |= weights & {ir.DataType.FLOAT, ir.DataType.DOUBLE}  # float16 may be for storage only, with a Cast after
    used |= {ir.attribute(node, "to") for node in ir.nodes(model) if node.op_type == "Cast"}  # type: ignore[misc]
    computed = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return max((eps_of(dtype.numpy()) for dtype in computed if dtype in used), default=0.0)


_QUANTIZED = re.compile(r"quant|integer|qlinear|^qattention|^qgemm|^qmoe|qordered|nbits|bnb4", re.IGNORECASE)


def is_quantized(model: ir.Model) -> bool:
    """Whether the model rounds to integers inside, or ONNX Runtime's optimizations may make it do so.

    Then the smallest noise may become a whole step. DequantizeLinear alone counts: with optimizations on, ONNX Runtime
    makes MatMulNBits at accuracy level 4 of a product with its result (core/optimizer/qdq_transformer).
    """
    return any(_QUANTIZED.search(node.op_type) for node in ir.nodes(model))


def computes_in_fp16(model: ir.Model) -> bool:
    """Whether float16 is computed with. On the CPU, ONNX Runtime runs such nodes in float32 where neighbours allow it.

    What it rounds in between then depends on the neighbours, so that even an exact rewrite moves results.
    """
    half = ir.DataType.FLOAT16
    return any(
        value is not None and ir.declared_dtype(value) == half
        for graph in ir.graphs(model)
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values())
    ) or any(node.op_type == "Cast" and ir.attribute(node, "to") == half for node in ir.nodes(model))


def draws_random_numbers(model: ir.Model) -> bool:
    """Whether an operator of the model, or of its functions, draws random numbers by its definition."""
    return any(ir.is_random(node) for node in ir.nodes(model))


def has_unknown_operators(model: ir.Model) -> bool:
    """Whether the model calls operators that nothing here defines: whether those draw numbers, a run must tell."""
    functions = model.functions
    return any(
        node.domain != "com.microsoft" and node.op_identifier() not in functions and not ir.is_known(node)
        for node in ir.nodes(model)
    )
