"""Convolutions, pooling, padding and resizing: channels, and spatial dims under a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .... import ir
from .call import MICROSOFT, Call, Dims, Results, SymbolicTensor, infers


def _window(call: Call, dims: Dims, kernel: Sequence[int], *, ceil: bool) -> Dims:
    """The spatial dims of a strided window's result; the padded dims are required to hold the window."""
    strides = call.integers("strides", [1] * len(dims))
    dilations = call.integers("dilations", [1] * len(dims))
    pads = call.integers("pads", [0] * 2 * len(dims))
    auto = call.string("auto_pad", "NOTSET")
    result = []
    for axis, dim in enumerate(dims):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        if auto.startswith("SAME"):
            result.append(call.equations.floor_div(dim + (strides[axis] - 1), strides[axis]))
            continue
        padded = dim if auto == "VALID" else dim + (pads[axis] + pads[axis + len(dims)])
        call.equations.require_least(padded - (extent - 1), 1)
        reach = padded - extent + (strides[axis] - 1 if ceil else 0)
        call.equations.require_least(padded, extent)
        result.append(call.equations.floor_div(reach, strides[axis]) + 1)
    return tuple(result)


@infers("Conv ConvInteger QLinearConv")
def _conv(call: Call) -> Results | None:
    x, w = call.dims(0), call.dims(3 if call.op_type == "QLinearConv" else 1)
    if x is None or w is None:
        return None
    call.equal(x[1], w[1] * call.integer("group", 1))
    kernel = [dim.constant for dim in w[2:]]
    if None in kernel:
        return [SymbolicTensor(None, (x[0], w[0], *(call.unknown() for _ in x[2:])))]
    return [SymbolicTensor(None, (x[0], w[0], *_window(call, x[2:], [size or 1 for size in kernel], ceil=False)))]


@infers("FusedConv QLinearConv NhwcFusedConv", MICROSOFT)
def _fused_conv(call: Call) -> Results | None:
    if call.op_type == "NhwcFusedConv" or call.integer("channels_last"):
        return None
    x, w = call.dims(0), call.dims(3 if call.op_type == "QLinearConv" else 1)
    if x is None or w is None:
        return None
    call.equal(x[1], w[1] * call.integer("group", 1))
    kernel = [dim.constant or 1 for dim in w[2:]]
    return [SymbolicTensor(call.dtype(0), (x[0], w[0], *_window(call, x[2:], kernel, ceil=False)))]


@infers("MaxPool AveragePool LpPool")
def _pool(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None:
        return None
    spatial = _window(call, dims[2:], call.integers("kernel_shape"), ceil=bool(call.integer("ceil_mode")))
    shape = (*dims[:2], *spatial)
    return [SymbolicTensor(call.dtype(0), shape), SymbolicTensor(ir.DataType.INT64, shape)]


@infers("ConvTranspose")
def _conv_transpose(call: Call) -> Results | None:
    x, w = call.dims(0), call.dims(1)
    if x is None or w is None:
        return None
    call.equal(x[1], w[0])
    channels = w[1] * call.integer("group", 1)
    count = len(x) - 2
    kernel = [dim.constant for dim in w[2:]]
    auto = call.string("auto_pad", "NOTSET")
    if None in kernel or call.attribute("output_shape") is not None or auto not in ("NOTSET", "VALID"):
        return [SymbolicTensor(None, (x[0], channels, *(call.unknown() for _ in range(count))))]
    strides, dilations = call.integers("strides", [1] * count), call.integers("dilations", [1] * count)
    pads = call.integers("pads", [0] * 2 * count)
    extra = call.integers("output_padding", [0] * count)
    spatial = tuple(
        (x[2 + i] - 1) * strides[i] + (extra[i] + ((kernel[i] or 1) - 1) * dilations[i] + 1 - pads[i] - pads[i + count])
        for i in range(count)
    )
    return [SymbolicTensor(None, (x[0], channels, *spatial))]


@infers("Pad")
def _pad(call: Call) -> Results | None:
    dims = call.dims(0)
    pads = call.constant(1) if len(call.inputs) > 1 else call.integers("pads")
    if dims is None or pads is None:
        return None
    axes = call.constant(3) if call.tensor(3) is not None else list(range(len(dims)))
    if axes is None:
        return None
    result = list(dims)
    for index, axis in enumerate(axes):
        before, after = pads[index], pads[index + len(axes)]
        if call.string("mode", "constant") == "reflect":
            call.equations.require_least(dims[axis], max(before, after) + 1)
        call.equations.require_least(dims[axis] + (before + after), 2)
        result[axis] = dims[axis] + (before + after)
    return [SymbolicTensor(None, tuple(result))]


@infers("Resize Upsample")
def _resize(call: Call) -> Results | None:
    dims = call.dims(0)
    if dims is None or call.attribute("axes") is not None:
        return None
    if call.tensor(3) is not None:
        sizes = call.elements(3)
        return None if sizes is None else [SymbolicTensor(None, call.sizes(sizes))]
    index = 2 if len(call.inputs) > 2 else 1
    scales = ir.constant(call.node.inputs[index]) if len(call.node.inputs) > index else None
    if scales is None:
        attribute = call.attribute("scales")
        scales = np.asarray(attribute) if isinstance(attribute, tuple) else None
    if scales is None or len(scales) != len(dims):
        return [SymbolicTensor(None, tuple(call.unknown() for _ in dims))]
    result = []
    for dim, scale in zip(dims, np.asarray(scales, dtype=np.float64), strict=True):
        if scale == round(scale):
            result.append(dim * int(scale))
        elif (1 / scale) == round(1 / scale):
            result.append(call.equations.floor_div(dim, round(1 / scale)))
        else:
            result.append(call.unknown())
    return [SymbolicTensor(None, tuple(result))]
