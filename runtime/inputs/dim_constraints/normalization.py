"""Normalization and quantization: one parameter per channel, or per normalized element."""

from __future__ import annotations

from .call import MICROSOFT, Call, Results, SymbolicTensor, infers


@infers("BatchNormalization InstanceNormalization")
def _channel_norm(call: Call) -> Results | None:
    x = call.required(0)
    if x.dims is not None:
        for index in range(1, len(call.inputs)):
            if (parameter := call.dims(index)) is not None and len(x.dims) > 1:
                call.equal(x.dims[1], parameter[0])
    return [x]


@infers("GroupNormalization")
def _group_norm(call: Call) -> Results | None:
    x, scale = call.required(0), call.dims(1)
    groups = call.integer("num_groups", 1)
    if x.dims is not None:
        call.equations.require_multiple(x.dims[1], groups)
        if scale is not None and (call.node.version or 21) >= 21:
            call.equal(x.dims[1], scale[0])
    return [x]


@infers("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def _layer_norm(call: Call) -> Results | None:
    x = call.required(0)
    for parameter in call.inputs[1:]:
        call.require_broadcast_into(parameter, x.dims)
    return [SymbolicTensor(x.dtype, x.dims)]


@infers("SkipLayerNormalization SkipSimplifiedLayerNormalization", MICROSOFT)
def _skip_norm(call: Call) -> Results | None:
    x = call.required(0)
    for operand in call.inputs[1:]:
        call.require_broadcast_into(operand, x.dims)
    return [x, None, None, x]


@infers(
    "FastGelu BiasGelu Gelu QuickGelu BiasSplitGelu Add QLinearAdd QLinearMul SimplifiedLayerNormalization "
    "LayerNormalization QLinearSigmoid QLinearLeakyRelu Inverse",
    MICROSOFT,
)
def _microsoft_elementwise(call: Call) -> Results | None:
    x = call.required(0)
    other = call.inputs[3] if call.op_type in ("QLinearAdd", "QLinearMul") else call.tensor(1)
    dims = x.dims
    if other is not None and not call.op_type.startswith(("QLinearS", "QLinearL")):
        dims = call.broadcast(x.dims, other.dims)
    return [SymbolicTensor(x.dtype, dims)]


@infers("QuantizeLinear DequantizeLinear")
def _scaled_axis(call: Call) -> Results | None:
    x, scale = call.dims(0), call.dims(1)
    if x and scale is not None and len(scale) == 1 and scale[0].constant != 1 and len(x) > 0:
        call.equal(x[call.integer("axis", 1)], scale[0])
    return None
