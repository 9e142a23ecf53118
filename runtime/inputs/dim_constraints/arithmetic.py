"""Operators that compute: broadcast operands, contracted dims, channels, and one parameter per normalized element."""

from __future__ import annotations

from .... import ir
from ....ir.shapes.facts import Dims
from ....ir.shapes.symbolic import Dim
from .constrained_call import MICROSOFT, ConstrainedCall, constrains


@constrains(*ir.BROADCASTING)
def _broadcasting(call: ConstrainedCall) -> None:
    operands = range(len(call.inputs))
    call.broadcast(*call.all_known(*operands))
    if call.node.op_type == "Add" and len(operands) == 2:  # positions plus an offset
        for value, other in zip(call.node.inputs, (1, 0), strict=True):
            elements = call.fact(other).elements
            if value is not None and value in call.below and elements is not None and len(elements) == 1:
                call.bounded(call.below[value] + elements[0])


@constrains("Add", "BiasGelu", "FastGelu", "Gelu", "LayerNormalization", domain=MICROSOFT)
@constrains("SimplifiedLayerNormalization", domain=MICROSOFT)
def _biased(call: ConstrainedCall) -> None:
    call.broadcast(*call.all_known(0, 1))


@constrains("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def _quantized_broadcasting(call: ConstrainedCall) -> None:
    call.broadcast(*call.all_known(0, 3))


# --- products ---------------------------------------------------------------------------------------------------------


@constrains("MatMul", "MatMulInteger")
def _matmul(call: ConstrainedCall) -> None:
    _product(call, call.dims(0), call.dims(1))


@constrains("QLinearMatMul")
def _quantized_matmul(call: ConstrainedCall) -> None:
    _product(call, call.dims(0), call.dims(3))


@constrains("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "TransposeMatMul", "FusedMatMul", domain=MICROSOFT)
def _fused_matmul(call: ConstrainedCall) -> None:
    one, two = call.dims(0), call.dims(1)
    one = (*one[:-2], one[-1], one[-2]) if call.integer("transA") else one
    two = (*two[:-2], two[-1], two[-2]) if call.integer("transB") else two
    _product(call, one, two)


def _product(call: ConstrainedCall, one: Dims, two: Dims) -> None:
    call.equal(one[-1], two[-2] if len(two) > 1 else two[0])
    call.broadcast(one[:-2], two[:-2])


@constrains("Gemm")
@constrains("FusedGemm", domain=MICROSOFT)
def _gemm(call: ConstrainedCall) -> None:
    (rows, inner), (depth, columns) = call.dims(0), call.dims(1)
    rows, inner = (inner, rows) if call.integer("transA") else (rows, inner)
    depth, columns = (columns, depth) if call.integer("transB") else (depth, columns)
    call.equal(inner, depth)
    call.broadcast_into((rows, columns), 2)


@constrains("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", domain=MICROSOFT)
def _packed_matmul(call: ConstrainedCall) -> None:
    call.equal(call.dims(0)[-1], call.integer("K"))


@constrains("Einsum")
def _einsum(call: ConstrainedCall) -> None:
    terms = call.word("equation").replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, Dim] = {}
    for index, term in enumerate(terms):
        dims = None if "." in term else call.known(index)
        for label, dim in zip(term, dims or (), strict=dims is not None):
            call.equal(sizes.setdefault(label, dim), dim)
            sizes[label] = dim if isinstance(dim, int) else sizes[label]


@constrains("Det", "Inverse")
def _square(call: ConstrainedCall) -> None:
    call.equal(*call.dims(0)[-2:])


@constrains("DFT")
def _real_signal(call: ConstrainedCall) -> None:
    call.equal(call.dims(0)[-1], 1)


# --- channels ---------------------------------------------------------------------------------------------------------


@constrains("Conv", "ConvInteger")
@constrains("FusedConv", domain=MICROSOFT)
def _conv(call: ConstrainedCall) -> None:
    _channels(call, call.dims(1))


@constrains("QLinearConv")
@constrains("QLinearConv", domain=MICROSOFT)
def _quantized_conv(call: ConstrainedCall) -> None:
    _channels(call, call.dims(3))


@constrains("NhwcFusedConv", domain=MICROSOFT)
def _conv_channels_last(call: ConstrainedCall) -> None:
    call.equal(call.dims(0)[-1], call.dims(1)[1] * call.integer("group", 1))


def _channels(call: ConstrainedCall, weights: Dims) -> None:
    call.not_empty(2)
    if not call.integer("channels_last"):
        call.equal(call.dims(0)[1], weights[1] * call.integer("group", 1))


@constrains("MaxPool", "AveragePool", "LpPool")
def _pool(call: ConstrainedCall) -> None:
    call.not_empty(2)


@constrains("ConvTranspose")
def _conv_transpose(call: ConstrainedCall) -> None:
    call.equal(call.dims(0)[1], call.dims(1)[0])


# --- normalization and quantization -----------------------------------------------------------------------------------


@constrains("BatchNormalization", "InstanceNormalization")
def _channel_norm(call: ConstrainedCall) -> None:
    channels = call.dims(0)[1]
    for parameter in call.all_known(*range(1, len(call.inputs))):
        call.equal(channels, parameter[0])


@constrains("GroupNormalization")
def _group_norm(call: ConstrainedCall) -> None:
    channels = call.dims(0)[1]
    call.equations.require_multiple(channels, call.integer("num_groups", 1))
    if call.version >= 21:
        call.equal(channels, call.dims(1)[0])


@constrains("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "PRelu")
@constrains("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def _normalized(call: ConstrainedCall) -> None:
    call.broadcast_into(call.dims(0), *range(1, len(call.inputs)))


@constrains("QuantizeLinear", "DequantizeLinear")
def _scaled_axis(call: ConstrainedCall) -> None:
    x, scale = call.dims(0), call.dims(1)
    if x and len(scale) == 1 and scale[0] != 1:
        call.equal(x[call.integer("axis", 1)], scale[0])
