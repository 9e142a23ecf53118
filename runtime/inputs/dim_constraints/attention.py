"""Attention and recurrent operators."""

from __future__ import annotations

from .... import ir
from ..symbolic_size import Size
from .call import MICROSOFT, Call, Results, SymbolicTensor, infers


@infers("Attention QAttention DecoderMaskedSelfAttention", MICROSOFT)
def _fused_attention(call: Call) -> Results | None:
    x, w = call.required(0), call.dims(1)
    if x.dims is None or w is None:
        return None
    call.equal(x.dims[2], w[0])
    sizes = call.integers("qkv_hidden_sizes")
    hidden = Size.number(sizes[2]) if sizes else call.equations.floor_div(w[1], 3)
    return [SymbolicTensor(x.dtype if call.op_type != "QAttention" else ir.DataType.FLOAT, (*x.dims[:2], hidden))]


@infers("MultiHeadAttention GroupQueryAttention", MICROSOFT)
def _query_attention(call: Call) -> Results | None:
    q = call.required(0)
    if q.dims is None or len(q.dims) != 3:
        return None
    call.equations.require_multiple(q.dims[2], call.integer("num_heads", 1))
    grouped = call.op_type == "GroupQueryAttention"
    k, v = (dims if (dims := call.dims(index)) is not None and len(dims) == 3 else None for index in (1, 2))
    heads, caches = (call.integer("kv_num_heads", 1), 3) if grouped else (call.integer("num_heads", 1), 6)
    for data, index in ((k, caches), (v, caches + 1)):
        if data is not None:
            _require_cache(call, index, (q.dims[0], Size.number(heads), call.equations.floor_div(data[2], heads)))
    _require_equal_lengths(call, caches)
    if grouped and (lengths := call.dims(5)) is not None:
        call.equal(lengths[0], q.dims[0])
    for dims in (k, v):
        if dims is not None:
            call.equal(q.dims[0], dims[0])
            if grouped:
                call.equal(q.dims[1], dims[1])
                call.equations.require_multiple(dims[2], call.integer("kv_num_heads", 1))
    if k is not None and v is not None:
        call.equal(k[1], v[1])
        if not grouped:
            call.equal(q.dims[2], k[2])
        hidden = q.dims[2] if grouped else v[2]
    else:
        hidden = q.dims[2] if call.tensor(1) is not None else call.unknown()
    return [SymbolicTensor(q.dtype, (*q.dims[:2], hidden))]


def _require_cache(call: Call, index: int, parts: tuple[Size, Size, Size]) -> None:
    """Require that a cache is [batch, heads, past, size], of these batch, heads and size."""
    dims = call.dims(index)
    if dims is not None:
        call.equal_dims((dims[0], dims[1], dims[3]), parts)


def _require_equal_lengths(call: Call, index: int) -> None:
    """Require that the cache of the keys, at `index`, and that of the values behind it, are of one length."""
    keys, vals = call.dims(index), call.dims(index + 1)
    if keys is not None and vals is not None:
        call.equal(keys[2], vals[2])


@infers("RotaryEmbedding")
def _rotary(call: Call) -> Results | None:
    return _rotated(call, tables=(1, 2), positions=3)


@infers("RotaryEmbedding", MICROSOFT)
def _rotary_of_microsoft(call: Call) -> Results | None:
    return _rotated(call, tables=(2, 3), positions=1)


def _rotated(call: Call, tables: tuple[int, int], positions: int) -> Results | None:
    """Tables [positions, size / 2] with the positions [batch, length], or [batch, length, size / 2] without."""
    x = call.required(0)
    if x.dims is None:
        return None
    batch, length = x.dims[0], x.dims[-2]
    heads, part = call.integer("num_heads"), call.integer("rotary_embedding_dim")
    size = Size.number(part) if part else x.dims[3] if len(x.dims) == 4 else None
    if size is None and heads:
        size = call.equations.floor_div(x.dims[2], heads)
    for index in tables:
        table = call.dims(index)
        if table is None:
            continue
        if len(table) == 3:
            call.equal(table[0], batch)
            call.equal(table[1], length)
        else:
            call.equations.require_most(length, table[0])
            call.require_within(call.tensor(positions), table[0])
        if size is not None:
            call.equal(table[-1] * 2, size)
        elif positions == 1:  # without heads, each has the size that the tables have
            call.equations.require_multiple(x.dims[-1], 2 * (table[-1].constant or 1))
    one, two = (call.dims(index) for index in tables)
    if one is not None and two is not None:
        call.equal_dims(one, two)
    given = call.dims(positions)
    if given is not None and len(given) == 2:
        call.equal(given[0], batch)
        call.equal(given[1], length)
    return [x]


@infers("Attention")
def _attention(call: Call) -> Results | None:
    q, k, v = (call.dims(index) for index in range(3))
    if q is None or k is None or v is None or not len(q) == len(k) == len(v):
        return None
    past = call.dims(4)
    call.equal(q[0], k[0])
    call.equal(k[0], v[0])
    call.equal(k[-2], v[-2])
    total = k[-2] if past is None else k[-2] + past[2]
    _require_equal_lengths(call, 4)
    mask = call.dims(3)
    if mask is not None:
        call.equations.require_alike(mask[-1], total)
        call.equations.require_alike(mask[-2], q[-2])
        if len(mask) == 4:
            call.equations.require_alike(mask[0], q[0])
    heads, kv_heads = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
    for dims, index in ((k, 4), (v, 5)):
        size = dims[3] if len(dims) == 4 else call.equations.floor_div(dims[2], kv_heads)
        _require_cache(call, index, (q[0], dims[1] if len(dims) == 4 else Size.number(kv_heads), size))
    if len(q) == 4:
        call.equal(q[3], k[3])
        return [SymbolicTensor(None, (*q[:3], v[3]))]
    call.equations.require_multiple(q[2], heads)
    call.equal(q[2] * kv_heads, k[2] * heads)
    call.equations.require_multiple(v[2], kv_heads)
    return [SymbolicTensor(None, (*q[:2], call.equations.floor_div(v[2] * heads, kv_heads)))]


@infers("LSTM GRU RNN")
def _recurrent(call: Call) -> Results | None:
    x, w, r = (call.dims(index) for index in range(3))
    if x is None:
        return None
    batch_first = bool(call.integer("layout"))
    length, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    if w is not None:
        call.equal(x[2], w[2])
    size = call.integer("hidden_size")
    hidden = Size.number(size) if size else r[2] if r is not None else call.unknown()
    directions = Size.number(2 if call.string("direction", "forward") == "bidirectional" else 1)
    lengths = call.dims(4)
    if lengths is not None:
        call.equal(lengths[0], batch)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    for index in (5, 6):
        if (dims := call.dims(index)) is not None:
            call.equal_dims(dims, state)
    y = (batch, length, directions, hidden) if batch_first else (length, directions, batch, hidden)
    return [SymbolicTensor(None, y), SymbolicTensor(None, state), SymbolicTensor(None, state)]
