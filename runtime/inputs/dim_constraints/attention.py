"""Attention, rotary embedding and recurrences: batches, lengths and sizes of heads that fit each other."""

from __future__ import annotations

from ....ir.shapes.facts import Dims
from ....ir.shapes.symbolic import Dim, floordiv
from .constrained_call import MICROSOFT, ConstrainedCall, constrains


@constrains("Attention", "QAttention", "DecoderMaskedSelfAttention", domain=MICROSOFT)
def _packed_attention(call: ConstrainedCall) -> None:
    call.equal(call.dims(0)[2], call.dims(1)[0])


def _caches(call: ConstrainedCall, index: int, batch: Dim, heads: Dim, sizes: tuple[Dim | None, Dim | None]) -> None:
    """Require that the cache of the keys, at `index`, and of the values are [batch, heads, past, size], of one past."""
    for place, size in enumerate(sizes, index):
        if size is not None and (cache := call.known(place)) is not None:
            call.equal_dims((cache[0], cache[1], cache[3]), (batch, heads, size))
    if len(caches := call.all_known(index, index + 1)) == 2:
        call.equal(caches[0][2], caches[1][2])


def _head_size(dims: Dims | None, heads: int) -> Dim | None:
    return None if dims is None else floordiv(dims[2], heads)


def _rank_3(call: ConstrainedCall, index: int) -> Dims | None:
    dims = call.known(index)
    return dims if dims is not None and len(dims) == 3 else None


@constrains("MultiHeadAttention", domain=MICROSOFT)
def _multi_head_attention(call: ConstrainedCall) -> None:
    batch, _, width = call.dims(0)
    k, v, heads = _rank_3(call, 1), _rank_3(call, 2), call.integer("num_heads", 1)
    call.equations.require_multiple(width, heads)
    for dims in (k, v):
        call.equal(batch, dims[0] if dims else batch)
    if k and v:
        call.equal_dims((width, k[1]), (k[2], v[1]))
    _caches(call, 6, batch, heads, (_head_size(k, heads), _head_size(v, heads)))


@constrains("GroupQueryAttention", domain=MICROSOFT)
def _group_query_attention(call: ConstrainedCall) -> None:
    batch, length, width = call.dims(0)
    k, v, heads = _rank_3(call, 1), _rank_3(call, 2), call.integer("kv_num_heads", 1)
    call.equations.require_multiple(width, call.integer("num_heads", 1))
    for dims in (k, v):
        if dims:
            call.equal_dims(dims[:2], (batch, length))
            call.equations.require_multiple(dims[2], heads)
    _caches(call, 3, batch, heads, (_head_size(k, heads), _head_size(v, heads)))
    call.equal(call.dims(5)[0], batch)


@constrains("RotaryEmbedding")
def _rotary(call: ConstrainedCall) -> None:
    _rotated(call, tables=(1, 2), positions=3)


@constrains("RotaryEmbedding", domain=MICROSOFT)
def _rotary_of_microsoft(call: ConstrainedCall) -> None:
    _rotated(call, tables=(2, 3), positions=1)


def _rotated(call: ConstrainedCall, tables: tuple[int, int], positions: int) -> None:
    """Tables [positions, size / 2] with the positions [batch, length], or [batch, length, size / 2] without."""
    x = call.dims(0)
    batch, length = x[0], x[-2]
    heads, part = call.integer("num_heads"), call.integer("rotary_embedding_dim")
    size = part or (x[3] if len(x) == 4 else floordiv(x[2], heads) if heads else None)
    for table in call.all_known(*tables):
        if len(table) == 3:
            call.equal_dims(table[:2], (batch, length))
        else:
            call.equations.require_most(length, table[0])
            call.within(positions, table[0])
        if size is not None:
            call.equal(table[-1] * 2, size)
        elif positions == 1 and isinstance(table[-1], int):  # without heads, each has the size that the tables have
            call.equations.require_multiple(x[-1], 2 * table[-1])
    call.equal_dims(call.known(tables[0]), call.known(tables[1]))
    if len(given := call.dims(positions)) == 2:
        call.equal_dims(given, (batch, length))


@constrains("Attention")
def _attention(call: ConstrainedCall) -> None:
    q, k, v = (call.dims(index) for index in range(3))
    call.equal_dims((q[0], k[0], k[-2]), (k[0], v[0], v[-2]))
    heads, kv_heads = call.integer("q_num_heads", 1), call.integer("kv_num_heads", 1)
    if len(q) == 4:
        call.equal(q[3], k[3])
        _caches(call, 4, q[0], k[1], (k[3], v[3]))
    else:
        call.equations.require_multiple(q[2], heads)
        call.equal(q[2] * kv_heads, k[2] * heads)
        call.equations.require_multiple(v[2], kv_heads)
        _caches(call, 4, q[0], kv_heads, (_head_size(k, kv_heads), _head_size(v, kv_heads)))
    mask, past = call.dims(3), call.known(4)
    total = k[-2] if past is None else k[-2] + past[2]
    call.broadcast((*(mask[:1] if len(mask) == 4 else (1,)), *mask[-2:]), (q[0], q[-2], total))


@constrains("LSTM", "GRU", "RNN")
def _recurrence(call: ConstrainedCall) -> None:
    x, w, r = call.dims(0), call.dims(1), call.dims(2)
    call.equal(x[2], w[2])
    batch, directions = x[0 if call.integer("layout") else 1], 2 if call.word("direction") == "bidirectional" else 1
    hidden = call.integer("hidden_size") or r[2]
    state = (batch, directions, hidden) if call.integer("layout") else (directions, batch, hidden)
    for dims in call.all_known(5, 6):
        call.equal_dims(dims, state)
    call.equal(call.dims(4)[0], batch)
