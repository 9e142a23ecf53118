"""Types and dims of the results of com.microsoft operators, as quantizers and offline optimization emit them.

Source: ONNX Runtime, docs/ContribOperators.md and core/graph/contrib_ops. Where an operator does what one of
the standard does, the standard's rule serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ... import ir
from . import symbolic as d
from .compute import convolve, matmul_dims, pool_windows
from .elementwise import broadcast_dims, reduction
from .facts import UNKNOWN, Call, Dims, DimsRule, Fact, NothingKnownError, position, unknown_dims
from .indexing import agreed, gather_nd
from .layout import as_dim, range_dims
from .symbolic import Dim

DOMAIN: Final = "com.microsoft"

_BROKEN: Final = (NothingKnownError, LookupError, ValueError, TypeError, ArithmeticError)

ResultType = int | ir.DataType
"""The element type of a result: that of an input, by its index, or a fixed one."""

_RULES: Final[dict[str, tuple[tuple[ResultType, ...], DimsRule]]] = {}

_T: Final = ir.DataType


def contrib_facts(call: Call) -> list[Fact]:
    """The facts about the outputs of one node of `DOMAIN`."""
    count = len(call.node.outputs)
    types, rule = _RULES.get(call.node.op_type, ((), None))
    if rule is None:
        return [UNKNOWN] * count
    try:
        dims = rule(call)
    except _BROKEN:
        dims = ()
    known = [_type(call, each) for each in types[:count]]
    return [
        Fact(dtype, dims[index] if index < len(dims) and dtype is not None else None)
        for index, dtype in enumerate([*known, *[None] * (count - len(known))])
    ]


def _type(call: Call, given: ResultType) -> ir.DataType | None:
    if isinstance(given, ir.DataType):
        return given
    fact = call.inputs[given] if given < len(call.inputs) else None
    if fact is None:
        instead = _TYPE_WITHOUT_INPUT.get((call.node.op_type, given))
        return None if instead is None else _type(call, instead)
    return fact.dtype


_TYPE_WITHOUT_INPUT: Final[dict[tuple[str, int], ResultType]] = {
    ("QuantizeLinear", 2): _T.UINT8,
    ("QGemm", 8): _T.FLOAT,
    ("GroupQueryAttention", 3): 0,
    ("GroupQueryAttention", 4): 0,
}
"""The type of a result whose input that would say it is optional and absent."""


def _contrib(*operators: str, types: tuple[ResultType, ...] = (0,)) -> Callable[[DimsRule], DimsRule]:
    def register(rule: DimsRule) -> DimsRule:
        for operator in operators:
            assert operator not in _RULES, operator
            _RULES[operator] = (types, rule)
        return rule

    return register


# --- element by element -----------------------------------------------------------------------------------------------


@_contrib(
    *"""BiasAdd BiasGelu BiasSoftmax FastGelu Gelu GroupNorm Inverse QLinearLeakyRelu QLinearSigmoid QLinearSoftmax
    QuickGelu RotaryEmbedding Trilu""".split()
)
@_contrib("DequantizeLinear", types=(1,))
@_contrib("QuantizeLinear", types=(2,))
def _like_the_first(call: Call) -> Sequence[Dims | None]:
    return (call.dims(0),)


@_contrib("BiasDropout", types=(0, _T.BOOL))
@_contrib("SkipGroupNorm", types=(0, 0))
def _both_like_the_first(call: Call) -> Sequence[Dims | None]:
    return (call.dims(0), call.dims(0))


@_contrib("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", types=(0, _T.FLOAT, _T.FLOAT, 0))
def _skip_normalization(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    statistics = (*x[:-1], 1)
    return (x, statistics, statistics, x)


def _broadcasting(*places: int) -> DimsRule:
    """Broadcasting of these inputs; those between are scales and zero points."""
    return lambda call: (broadcast_dims(*map(call.dims, places)),)


_contrib("QLinearAdd", "QLinearMul")(_broadcasting(0, 3))
_contrib("QLinearWhere", types=(1,))(_broadcasting(0, 1, 4))
_contrib("MulInteger", types=(_T.INT32,))(_broadcasting(0, 2))
_contrib("ComplexMul", "ComplexMulConj")(_broadcasting(0, 1))


@_contrib("BiasSplitGelu")
def _bias_split_gelu(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    return ((*x[:-1], d.floordiv(x[-1], 2)),)


_contrib("QLinearReduceMean")(reduction)
_contrib("ReduceSumInteger", types=(_T.INT32,))(reduction)


@_contrib("MurmurHash3", types=(_T.UINT32,))
def _hash(call: Call) -> Sequence[Dims | None]:
    if call.integer("positive", 1) != 1:
        raise NothingKnownError
    return (call.dims(0),)


# --- products ---------------------------------------------------------------------------------------------------------


def _product(left: int, right: int) -> DimsRule:
    return lambda call: (matmul_dims(call.dims(left), call.dims(right)),)


_contrib("DynamicQuantizeMatMul")(_product(0, 1))
_contrib("MatMulIntegerToFloat", types=(2,))(_product(0, 1))
_contrib("MatMulInteger16", types=(_T.INT32,))(_product(0, 1))


@_contrib("FusedMatMul", "FusedMatMulActivation", "TransposeMatMul")
def _fused_matmul(call: Call) -> Sequence[Dims | None]:
    return (matmul_dims(_factor(call, 0, "A"), _factor(call, 1, "B")),)


def _factor(call: Call, index: int, letter: str) -> Dims:
    """A factor as it is multiplied: its first dim behind the batch, then its last two swapped. One of rank 1 stays."""
    dims = call.dims(index)
    if len(dims) < 2:
        return dims
    if call.integer(f"transBatch{letter}"):
        dims = (*dims[1:-1], dims[0], dims[-1])
    return (*dims[:-2], dims[-1], dims[-2]) if call.integer(f"trans{letter}") else dims


def _gemm(left: int, right: int) -> DimsRule:
    def rule(call: Call) -> Sequence[Dims | None]:
        (m, k), (k_or_n, n) = call.dims(left), call.dims(right)
        return ((k if call.integer("transA") else m, k_or_n if call.integer("transB") else n),)

    return rule


_contrib("FusedGemm")(_gemm(0, 1))
_contrib("QGemm", types=(8,))(_gemm(0, 3))


@_contrib("MatMulNBits", "MatMulBnb4")
def _packed_matmul(call: Call) -> Sequence[Dims | None]:
    if not call.integer("N") or call.attribute("transB") == 0:
        raise NothingKnownError
    return ((*call.dims(0)[:-1], call.integer("N")),)


# --- windows ----------------------------------------------------------------------------------------------------------


def _nchw(dims: Dims) -> Dims:
    return (dims[0], dims[-1], *dims[1:-1])


def _nhwc(dims: Dims) -> Dims:
    return (dims[0], *dims[2:], dims[1])


def _convolution(weights: int, channels_last: bool | None = None) -> DimsRule:
    """A convolution; where `channels_last` is None an attribute says it. Weights are [out, in, …] either way."""

    def rule(call: Call) -> Sequence[Dims | None]:
        if bool(call.integer("channels_last")) if channels_last is None else channels_last:
            return (_nhwc(convolve(call, _nchw(call.dims(0)), call.dims(weights))),)
        return (convolve(call, call.dims(0), call.dims(weights)),)

    return rule


_contrib("FusedConv")(_convolution(1, channels_last=False))
_contrib("NhwcFusedConv")(_convolution(1, channels_last=True))
_contrib("QLinearConv", types=(7,))(_convolution(3))


@_contrib("ConvTransposeWithDynamicPads")
def _transposed_convolution(call: Call) -> Sequence[Dims | None]:
    x, w = call.dims(0), call.dims(1)
    return ((x[0], w[1] * call.integer("group", 1), *unknown_dims(len(x) - 2)),)


def _pool(channels_last: bool | None) -> DimsRule:
    def rule(call: Call) -> Sequence[Dims | None]:
        kernel = call.integers("kernel_shape")
        if bool(call.integer("channels_last")) if channels_last is None else channels_last:
            x = _nchw(call.dims(0))
            return (_nhwc((*x[:2], *pool_windows(call, x[2:], kernel))),)
        x = call.dims(0)
        return ((*x[:2], *pool_windows(call, x[2:], kernel)),)

    return rule


_contrib("QLinearAveragePool")(_pool(channels_last=None))
_contrib("NhwcMaxPool")(_pool(channels_last=True))
_contrib("MaxpoolWithMask")(_pool(channels_last=False))


@_contrib("QLinearGlobalAveragePool")
def _global_pool(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    ones = (1,) * (len(x) - 2)
    return ((x[0], *ones, x[-1]) if call.integer("channels_last") else (*x[:2], *ones),)


_contrib("GridSample")(lambda call: ((*call.dims(0)[:2], *call.dims(1)[1:3]),))


@_contrib("CropAndResize")
def _crop(call: Call) -> Sequence[Dims | None]:
    height, width = map(as_dim, call.vector(3))
    return ((call.dims(1)[0], call.dims(0)[1], height, width),)


# --- layout, picking --------------------------------------------------------------------------------------------------


@_contrib("QLinearConcat", types=(1,))
def _concat(call: Call) -> Sequence[Dims | None]:
    pieces = [call.dims(index) for index in range(2, len(call.inputs), 3)]
    axis = position(call.integer("axis"), len(pieces[0]))
    total: Dim = 0
    for piece in pieces:
        total = total + piece[axis]
    rest = map(agreed, zip(*pieces, strict=True))
    return (tuple(total if place == axis else dim for place, dim in enumerate(rest)),)


@_contrib("ExpandDims")
def _expand_dims(call: Call) -> Sequence[Dims | None]:
    x, (axis,) = call.dims(0), call.numbers(1)
    place = position(axis, len(x) + 1)
    return ((*x[:place], 1, *x[place:]),)


@_contrib("Pad")
def _pad(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    if call.fact(1).elements is None:
        return (unknown_dims(len(x)),)
    pads = call.vector(1)
    return (tuple(as_dim(dim + pads[i] + pads[i + len(x)]) for i, dim in enumerate(x)),)


_contrib("Range")(range_dims)
_contrib("GatherND")(gather_nd)


@_contrib("GatherBlockQuantized", types=(2,))
def _gather_quantized(call: Call) -> Sequence[Dims | None]:
    data, indices = call.dims(0), call.dims(1)
    axis = position(call.integer("gather_axis"), len(data))
    if call.fact(0).dtype == _T.UINT8 and call.integer("bits", 4) != 8:
        data = (*data[:-1], data[-1] * (8 // call.integer("bits", 4)))  # packed along the last axis
    return ((*data[:axis], *indices, *data[axis + 1 :]),)


@_contrib("Unique", types=(0, _T.INT64, _T.INT64))
def _unique(call: Call) -> Sequence[Dims | None]:
    count = d.fresh_dim()
    return ((count,), call.dims(0), (count,))


_contrib("TorchEmbedding")(lambda call: ((*call.dims(1), *call.dims(0)[1:]),))
_contrib("CDist")(lambda call: ((call.dims(0)[0], call.dims(1)[0]),))
_contrib("IsAllFinite", types=(_T.BOOL,))(lambda call: ((),))


@_contrib("Rfft")
def _rfft(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    if call.integer("signal_ndim", 1) != 1 or not call.integer("onesided", 1):
        raise NothingKnownError
    return ((*x[:-1], d.floordiv(x[-1], 2) + 1, 2),)


# --- transformers -----------------------------------------------------------------------------------------------------


@_contrib("DynamicQuantizeLSTM", types=(0, 0, 0))
def _lstm(call: Call) -> Sequence[Dims | None]:
    x = call.dims(0)
    directions = 2 if call.word("direction", "forward") == "bidirectional" else 1
    last = (directions, x[1], call.integer("hidden_size") or d.floordiv(call.dims(1)[2], 4))
    return ((x[0], *last), last, last)


def _packed_attention(weights: int, past: int) -> DimsRule:
    """Attention whose projections are one matrix: width of V, and the cache [2, batch, heads, length, size]."""

    def rule(call: Call) -> Sequence[Dims | None]:
        batch, length, _ = call.dims(0)
        widths = call.integers("qkv_hidden_sizes", ())
        width = widths[2] if widths else d.floordiv(call.dims(weights)[1], 3)
        y = (batch, length, width)
        if call.integer("past_present_share_buffer") or (widths and len(set(widths)) > 1):
            return (y,)
        heads = call.integer("num_heads")
        before: Dim = call.dims(past)[3] if call.has(past) else 0
        return (y, (2, batch, heads, before + length, d.floordiv(width, heads)))

    return rule


_contrib("Attention", types=(0, 0))(_packed_attention(1, 4))
_contrib("QAttention", types=(3, 3))(_packed_attention(1, 8))


@_contrib("MultiHeadAttention", types=(0, 0, 0, 0))
def _multi_head_attention(call: Call) -> Sequence[Dims | None]:
    query, heads = call.dims(0), call.integer("num_heads")
    batch, length = query[:2]
    if len(query) == 5:  # [batch, length, heads, 3, size]: keys and values within
        size = query[4]
        return ((batch, length, query[2] * size), *[(batch, heads, length, size)] * 2)
    key, value = call.dims(1), call.dims(2) if call.has(2) else None
    if len(key) == 5 or value is None:  # [batch, length, heads, 2, size]
        return ((batch, length, key[2] * key[4]),)
    if len(value) == 4:  # projected already: [batch, heads, length, size]
        return ((batch, length, heads * value[3]), key, value)
    y = (batch, length, value[2])
    if len(key) != 3 or call.integer("past_present_share_buffer"):
        return (y,)
    total = key[1] + (call.dims(6)[2] if call.has(6) else 0)
    return (y, *((batch, heads, total, d.floordiv(each[2], heads)) for each in (key, value)))


@_contrib("GroupQueryAttention", types=(0, 3, 4, 0))
def _group_query_attention(call: Call) -> Sequence[Dims | None]:
    batch, length, width = call.dims(0)
    heads, groups = call.integer("num_heads"), call.integer("kv_num_heads")
    if call.has(1):
        size = d.floordiv(width, heads)
        y = (batch, length, width)
    else:  # queries, keys and values in one
        size = d.floordiv(width, heads + 2 * groups)
        y = (batch, length, size * heads)
    present = (batch, groups, d.fresh_dim(), size)  # the buffer of the past, or the total length where that is longer
    return (y, present, present)


@_contrib("EmbedLayerNormalization", types=(2, _T.INT32, 2))
@_contrib("QEmbedLayerNormalization", types=(8, _T.INT32))
def _embed(call: Call) -> Sequence[Dims | None]:
    ids = call.dims(0)
    y = (*ids, call.dims(2)[1])
    return (y, (ids[0],) if call.integer("mask_index_type", 1) == 1 else None, y)


@_contrib("RelativePositionBias")
def _relative_bias(call: Call) -> Sequence[Dims | None]:
    (queries,), (keys,) = call.vector(1), call.vector(2)
    return ((1, call.dims(0)[1], as_dim(queries), as_dim(keys)),)


@_contrib("GatedRelativePositionBias")
def _gated_bias(call: Call) -> Sequence[Dims | None]:
    if call.has(6):
        raise NothingKnownError  # without padding: the batch is elsewhere
    batch, length, _ = call.dims(0)
    return ((batch, call.integer("num_heads"), length, length),)


OPERATORS: Final = frozenset(_RULES)
"""The operators of `DOMAIN` that have a rule."""
