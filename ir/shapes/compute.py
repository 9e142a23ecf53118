"""Dims through operators that do the arithmetic: products, convolutions, pools, recurrences, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from . import symbolic as d
from .elementwise import broadcast_dims
from .facts import Call, Dims, NothingKnownError, dims_of, plain, position, unknown_dims
from .layout import as_dim
from .symbolic import Dim


def matmul_dims(a: Dims, b: Dims) -> Dims:
    """The dims of a matrix product, as numpy's matmul gives them."""
    left, right = a if len(a) > 1 else (1, *a), b if len(b) > 1 else (*b, 1)
    batch = broadcast_dims(left[:-2], right[:-2])
    return batch + left[-2:-1] * (len(a) > 1) + right[-1:] * (len(b) > 1)


dims_of("MatMul", "MatMulInteger")(lambda call: (matmul_dims(call.dims(0), call.dims(1)),))
dims_of("QLinearMatMul")(lambda call: (matmul_dims(call.dims(0), call.dims(3)),))


@dims_of("Gemm")
def _gemm(call: Call) -> Sequence[Dims | None]:
    (m, k), (k_or_n, n) = call.dims(0), call.dims(1)
    return ((k if call.integer("transA") else m, k_or_n if call.integer("transB") else n),)


@dims_of("Einsum")
def _einsum(call: Call) -> Sequence[Dims | None]:
    left, arrow, result = call.word("equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or "." in left:
        raise NothingKnownError  # implicit results and ellipses are rare: left to the standard's own inference
    sizes: dict[str, list[Dim]] = {}
    for index, term in enumerate(terms):
        for letter, dim in zip(term, call.dims(index), strict=True):
            sizes.setdefault(letter, []).append(dim)
    return (tuple(d.broadcast(*sizes[letter]) for letter in result),)


# --- windows --------------------------------------------------------------------------------------------------------


def pool_windows(call: Call, spatial: Dims, kernel: Sequence[int]) -> Dims:
    """How often a window fits along each spatial axis."""
    rank = len(spatial)
    strides, dilations = call.integers("strides", (1,) * rank), call.integers("dilations", (1,) * rank)
    pads = call.integers("pads", (0,) * (2 * rank))
    padding, ceil = call.word("auto_pad", "NOTSET"), bool(call.integer("ceil_mode"))
    if padding in ("SAME_UPPER", "SAME_LOWER"):
        return tuple(d.floordiv(spatial[i] + (strides[i] - 1), strides[i]) for i in range(rank))
    if padding == "VALID":
        pads = (0,) * (2 * rank)
    return tuple(
        _windows(spatial[i], (kernel[i] - 1) * dilations[i] + 1, strides[i], (pads[i], pads[i + rank]), ceil=ceil)
        for i in range(rank)
    )


def _windows(dim: Dim, extent: int, stride: int, pads: tuple[int, int], *, ceil: bool) -> Dim:
    """The number of windows of `extent` elements along an axis."""
    before, after = pads
    room = dim + (before + after - extent)
    fewest = d.windows(room, stride)
    if ceil and stride > 1:
        most = d.windows(room + (stride - 1), stride)
        if most == fewest:
            return most
        # Whether a last window that starts in the padding counts depends on the opset and the runtime.
        if not isinstance(dim, int) or not isinstance(most, int) or (most - 1) * stride >= dim + before:
            return d.fresh_dim(likely=most)
        return most
    return fewest


def convolve(call: Call, x: Dims, w: Dims) -> Dims:
    """The dims of a convolution of `x` with `w`, channels first."""
    given = call.integers("kernel_shape", ())
    try:
        kernel = given or plain(w[2:])
    except NothingKnownError:
        return (x[0], w[0], *unknown_dims(len(x) - 2))
    return (x[0], w[0], *pool_windows(call, x[2:], kernel))


@dims_of("Conv", "ConvInteger")
def convolution(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Conv and ConvInteger."""
    return (convolve(call, call.dims(0), call.dims(1)),)


dims_of("QLinearConv")(lambda call: (convolve(call, call.dims(0), call.dims(3)),))


@dims_of("ConvTranspose")
def _transposed_convolution(call: Call) -> Sequence[Dims | None]:
    x, w = call.dims(0), call.dims(1)
    rank, head = len(x) - 2, (x[0], w[1] * call.integer("group", 1))
    asked = call.integers("output_shape", ())
    if asked or call.word("auto_pad") not in ("NOTSET", "VALID"):
        return ((*head, *(asked[-rank:] or unknown_dims(rank))),)
    try:
        kernel = call.integers("kernel_shape", ()) or plain(w[2:])
    except NothingKnownError:
        return ((*head, *unknown_dims(rank)),)
    strides, dilations = call.integers("strides", (1,) * rank), call.integers("dilations", (1,) * rank)
    pads, extra = call.integers("pads", (0,) * (2 * rank)), call.integers("output_padding", (0,) * rank)
    if call.word("auto_pad") == "VALID":
        pads = (0,) * (2 * rank)
    fixed = [(kernel[i] - 1) * dilations[i] + 1 + extra[i] - pads[i] - pads[i + rank] for i in range(rank)]
    return ((*head, *(as_dim((x[i + 2] - 1) * strides[i] + fixed[i]) for i in range(rank))),)


@dims_of("MaxPool", "AveragePool", "LpPool")
def _pool(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    found = (*x[:2], *pool_windows(call, x[2:], call.integers("kernel_shape")))
    return (found, found)


@dims_of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    return ((*x[:2], *(1,) * (len(x) - 2)),)


@dims_of("Resize")
def _resize(call: Call) -> Sequence[Dims | None]:
    dims = list(call.dims(0))
    axes = [position(axis, len(dims)) for axis in call.integers("axes", tuple(range(len(dims))))]
    if call.version < 11 or call.attribute("keep_aspect_ratio_policy") not in (None, "stretch"):
        return (unknown_dims(len(dims)),)
    if call.has(3):
        sizes = call.fact(3).elements
        new = [d.fresh_dim()] * len(axes) if sizes is None else list(map(as_dim, sizes))
        if sizes is None:
            return (tuple(d.fresh_dim() if axis in axes else dim for axis, dim in enumerate(dims)),)
    elif call.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        return (unknown_dims(len(dims)),)
    else:
        try:
            new = [_scaled(dims[axis], float(s)) for axis, s in zip(axes, call.content(2), strict=True)]
        except NothingKnownError:
            return (tuple(d.fresh_dim() if axis in axes else dim for axis, dim in enumerate(dims)),)
    for axis, dim in zip(axes, new, strict=True):
        dims[axis] = dim
    return (tuple(dims),)


def _scaled(dim: Dim, scale: float) -> Dim:
    """`floor(dim * scale)`, which is computed in float32: certain only where no rounding can happen."""
    if scale == int(scale) and 1 <= scale <= 64:
        return dim * int(scale)
    if isinstance(dim, int):
        exact, rounded = dim * scale, float(np.float32(dim) * np.float32(scale))
        if abs(exact - round(exact)) > 1e-3 * max(1.0, abs(exact)) or (exact == rounded == int(exact)):
            return math.floor(exact)
    return d.fresh_dim()


# --- recurrences and attention --------------------------------------------------------------------------------------


@dims_of("LSTM", "GRU", "RNN")
def _recurrence(call: Call) -> Sequence[Dims | None]:
    x, r = call.dims(0), call.dims(2)
    directions = 2 if call.word("direction") == "bidirectional" else 1
    hidden = call.integer("hidden_size") or r[2]
    if call.integer("layout"):
        by_batch = (x[0], directions, hidden)
        return ((*x[:2], directions, hidden), by_batch, by_batch)
    last = (directions, x[1], hidden)
    return ((x[0], *last), last, last)


@dims_of("Attention")
def attention(call: Call) -> Sequence[Dims | None]:
    """Infer the dims of Attention."""
    q, k, v = heads(call, 0, "q"), heads(call, 1, "kv"), heads(call, 2, "kv")
    batch, count, queries, _ = q
    y: Dims = (batch, count, queries, v[3])
    if call.rank(0) == 3:
        y = (batch, queries, count * v[3])
    past = call.dims(4)[2] if call.has(4) else 0
    keys, values = (*k[:2], past + k[2], k[3]), (*v[:2], past + v[2], v[3])
    return (y, keys, values, (batch, count, queries, past + k[2]))


def heads(call: Call, index: int, name: str) -> Dims:
    """Batch, heads, length, size of a head."""
    dims = call.dims(index)
    if len(dims) == 4:
        return dims
    batch, length, width = dims
    heads = call.integer(f"{name}_num_heads")
    return (batch, heads, length, d.floordiv(width, heads))
