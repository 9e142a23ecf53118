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
    mask = call.dims(3)
    if mask is not None:
        call.equations.require_alike(mask[-1], total)
        call.equations.require_alike(mask[-2], q[-2])
        if len(mask) == 4:
            call.equations.require_alike(mask[0], q[0])
    heads, kv_heads = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
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
