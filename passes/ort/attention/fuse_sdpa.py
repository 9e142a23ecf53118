"""Scaled dot-product attention, recognized from its softmax outward, as one operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .... import ir
from ...analyses.attention_mask import lowest_becomes_next, may_hold_infinities, may_hold_lowest
from ...analyses.nonzero_dims import dims_unless_empty
from ...pipeline.exactness import Exactness
from ...pipeline.phase import Phase
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, require
from ...rewriting.match import Condition, Match
from ...rewriting.pattern import op, values
from ...rewriting.rule import rule
from ...targets.cuda import FLOAT16_TYPES, AttentionCall
from ...views import emit
from ...views.emit import Step
from ...views.node_view import node_view
from ...views.view import View, identity
from .block import ABSORBING, Attention, Plan, Term
from .kv_cache import Cache, cache_of
from .recognize_block import find_softmax

probabilities, v = values("probabilities v")

PRODUCT = op.MatMul(probabilities, v)
"""The product of probabilities and values; everything else is found from the softmax outward."""

SOFTMAX = let("a softmax before the product", lambda m: find_softmax(m.root, m.shapes), is_structural=True)


def _find_block(m: Match) -> Attention | str:
    block = m[SOFTMAX].block()
    if isinstance(block, Attention):
        m.found.extend(block.nodes)
    return block


ATTENTION = let("an attention block", _find_block)


# --- what a kernel takes ----------------------------------------------------------------------------------------------


def _element_type(m: Match) -> ir.DataType | str:
    dtype = m.v.dtype
    has_kernel = dtype == ir.DataType.FLOAT or (m.context.settings.target.is_cuda and dtype in FLOAT16_TYPES)
    return dtype if has_kernel and dtype is not None else str(dtype)


ELEMENT_TYPE = let("float32, on CUDA also float16 or bfloat16", _element_type)
"""The type of v, for which the target has a kernel: that of the CPU for float16 converts to float32 and back."""


def attention_call(m: Match) -> AttentionCall:
    """The properties that select a kernel; float32 counts as float16 where the model is converted to it at the end."""
    block = m[ATTENTION]
    to_fp16 = m.context.settings.fp16 and m[ELEMENT_TYPE] == ir.DataType.FLOAT
    dtype = ir.DataType.FLOAT16 if to_fp16 else m[ELEMENT_TYPE]
    queries, keys = (dim if isinstance(dim, int) else None for dim in block.dims[2:])
    heads, kv_heads = block.counts
    return AttentionCall(dtype, *block.sizes, heads != kv_heads, bool(block.terms), queries, keys)


def _why_not_fused_on_cuda(m: Match) -> str | None:
    if not m.context.settings.target.is_cuda:
        return None
    if m[ATTENTION].sink is not None:
        return "a score beside those of the keys, measured on the CPU alone"
    return attention_call(m).why_not_fused() or None


FUSED_ON_CUDA = Condition("a kernel that fuses it, on CUDA", _why_not_fused_on_cuda)
NO_SOFTCAP = require("no softcap", lambda m: not m[ATTENTION].softcap, lambda m: f"softcap {m[ATTENTION].softcap}")
NO_SOFTCAP_ON_CUDA = Condition(
    "no softcap, on CUDA", lambda m: NO_SOFTCAP.fault(m) if m.context.settings.target.is_cuda else None
)


# --- layout -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operands:
    """The operands of an attention as they are brought into the layout, and the cache.

    `merged`: [batch, length, heads * size] instead of [batch, heads, length, size]. `result`: the operators that give
    the dims of the product that is replaced. `has_sink`: keys and values get one more, of zeros.
    """

    merged: bool
    q: Plan
    k: Plan
    v: Plan
    scales: tuple[Plan, ...]
    cache: Cache | None
    result: list[Step]
    has_sink: bool = False

    def build(self, op: Builder) -> list[ir.Value]:
        """Queries, keys and values in the layout, the queries scaled."""
        q, k, v = (plan.build(op) for plan in (self.q, self.k, self.v))
        for scale in self.scales:
            q = op.Mul(q, scale.build(op))
        if self.has_sink:
            pads = [0, 0, 0, 0, 1, 0] if self.merged else [0, 0, 0, 0, 0, 0, 1, 0]
            k, v = (op.Pad(value, pads) for value in (k, v))
        return [q, k, v]

    @property
    def past(self) -> tuple[ir.Value, ...]:
        """The cached keys and values, if there are any."""
        return () if self.cache is None else (self.cache.past_k, self.cache.past_v)


def operands_of(m: Match, *, layouts: Sequence[bool] = (True, False)) -> Operands | str:
    """The layout that needs the fewest operators before and after the attention; merged ones where it is the same."""
    block = m[ATTENTION]
    cache = None if block.sink is not None else cache_of(block, m.shapes)
    if cache is not None:
        m.found.extend(node for value in (cache.all_k, cache.all_v) if (node := value.producer()) is not None)
    k, v = (cache.k, cache.v) if cache is not None else (block.k, block.v)
    following = _following(m)
    options = []
    for merged in (layout for layout in layouts if not (layout and block.scales)):
        q_plan, k_plan, v_plan = (heads.cheapest(merged=merged) for heads in (block.q, k, v))
        result = _result_view(m, block, merged=merged)
        steps = None if result is None else emit.emit(result, computed=True)
        if result is None or steps is None or q_plan is None or k_plan is None or v_plan is None:
            continue
        plans = (q_plan, k_plan, v_plan)
        later = emit.emit(result.then(following) or result, computed=True)
        kept = frozenset[ir.Node]().union(*(plan.kept for plan in plans))
        cost = len(kept) + sum(emit.cost(plan.steps) for plan in plans) + emit.cost(steps if later is None else later)
        options.append((cost, Operands(merged, *plans, block.scales, cache, steps, block.sink is not None)))
    best = min(options, key=lambda option: option[0], default=None)
    return "no target says their dims" if best is None else best[1]


OPERANDS = let("queries, keys and values that can be moved into place", operands_of)
MERGED_OPERANDS = let(OPERANDS.text, lambda m: operands_of(m, layouts=(True,)))
"""For operators that take queries [batch, length, heads * size] alone."""


def _result_view(m: Match, block: Attention, *, merged: bool) -> View | None:
    """The product that is replaced as a view of what the attention gives."""
    (batch, heads, rows, _), size, dims = block.dims, block.v.dims[3], dims_unless_empty(m.shapes, m.root.outputs[0])
    if dims is None:
        return None
    if not merged:
        return identity((batch, heads, rows, size)).reshape(dims)
    split = identity((batch, rows, heads * size)).reshape((batch, rows, heads, size))
    return None if split is None else split.transpose((0, 2, 1, 3)).reshape(dims)


def _following(m: Match) -> View:
    """The view that the users of the product make of it, as long as each has one user."""
    value = m.root.outputs[0]
    dims_of = partial(dims_unless_empty, m.shapes)
    dims = dims_of(value)
    assert dims is not None
    view = identity(dims)
    while ir.is_private(value):
        (user,) = set(value.consumers())
        step = node_view(user.outputs[0], m.shapes, dims_of) if user.inputs[0] is value else None
        composed = None if step is None else view.then(step)
        if composed is None:
            break
        value, view = user.outputs[0], composed
    return view


# --- the mask ---------------------------------------------------------------------------------------------------------


def mask_of(
    m: Match, op: Builder, queries: ir.Value, keys: ir.Value, *, merged: bool, rank: int = 2
) -> ir.Value | None:
    """The sum that is added to the scores, of `rank` or more, a row for each query; None where nothing is added.

    ONNX Runtime loads a mask that is broadcast over the queries, and rejects it when it runs (1.31, 1.32).
    """
    block, axis = m[ATTENTION], 1 if merged else 2
    total: ir.Value | None = None
    for term in reversed(block.terms):
        total = _apply_term(op, term, total, m[ELEMENT_TYPE])
    m.shapes.learn_all(op.nodes)
    if block.sink is not None:
        columns = (
            block.dims[3] if isinstance(block.dims[3], int) else op.Sub(op.Shape(keys, start=axis, end=axis + 1), [1])
        )
        total = _add_sink(op, block.sink, total, columns, 0 if total is None else m.shapes.rank(total) or 4)
        m.shapes.learn_all(op.nodes)
    if total is None:
        return None
    if block.sink is None or not _is_finite(block.sink.source):
        total = _adapt_to_kernel(m, op, total, block)
        m.shapes.learn_all(op.nodes)
    if rank == 4 and m.shapes.rank(total) == 2:
        total = op.Unsqueeze(total, axes=[0, 1])
    if any(term.dims[2] != 1 for term in block.terms) or block.dims[2] == 1:
        return total
    rows = op.Shape(queries, start=axis, end=axis + 1)
    return op.Expand(total, op.Concat(rows, [1], axis=0))


def _apply_term(op: Builder, term: Term, total: ir.Value | None, dtype: ir.DataType) -> ir.Value:
    """The terms so far and this one: [batch or 1, heads or 1, rows or 1, columns], or [rows or 1, columns]."""
    assert term.plan is not None, "required before"
    if term.is_floor:
        assert total is not None, "dropped where it is the first"
        return op.Max(total, op.constant(np.array(term.low).astype(dtype.numpy())))
    value = term.plan.build(op)
    if term.low is None:
        addend = value if term.factor == 1 else op.Mul(value, term.factor)
        return addend if total is None else op.Add(total, addend)
    number = term.low if term.low <= ABSORBING else float(dtype.min) * lowest_becomes_next(dtype)
    low, kept = op.constant(np.array(number).astype(dtype.numpy())), 0 if total is None else total
    return op.Where(value, low, kept) if term.hides else op.Where(value, kept, low)


def _add_sink(op: Builder, sink: Plan, total: ir.Value | None, columns: int | ir.Value, rank: int) -> ir.Value:
    """The terms with a column more, that of the sink."""
    before = (
        [0, 0, 0, columns, 0, 0, 0, 0] if isinstance(columns, int) else op.Concat([0] * 3, columns, [0] * 4, axis=0)
    )
    column = op.Pad(sink.build(op), before)
    return column if total is None else op.Add(op.Pad(total, [0] * (2 * rank - 1) + [1]), column)


def _is_finite(value: ir.Value) -> bool:
    """Whether it is a constant of numbers beside which no row of scores counts as wholly masked."""
    content = ir.constant(value)
    return content is not None and bool(np.all(np.abs(content.astype(np.float64)) < -ABSORBING))


def _adapt_to_kernel(m: Match, op: Builder, total: ir.Value, block: Attention) -> ir.Value:
    """A mask [..., keys] with which Attention computes what Softmax and a product do.

    The lowest number becomes the next one above it, which absorbs scores as the lowest does, so that the kernel gives
    the mean. A row of -inf alone becomes NaN where no guard follows: for that, 2**-24 of a row's largest element
    (2**-11 in float16) is subtracted from the whole row, under which Softmax is invariant.
    """
    dtype = m[ELEMENT_TYPE]
    if not block.is_guarded and may_hold_infinities(total, m.shapes):
        return op.Sub(total, op.Mul(op.ReduceMax(total, axes=[-1]), float(dtype.eps) / 2))
    if may_hold_lowest(total, m.shapes):
        return op.Mul(total, lowest_becomes_next(dtype))
    return total


TERMS = require(
    "terms that constant shapes can move into place",
    lambda m: all(term.plan is not None for term in m[ATTENTION].terms),
    lambda m: ", ".join(m.shapes.show(term.value) for term in m[ATTENTION].terms),
)


# --- replacements -----------------------------------------------------------------------------------------------------


def replace_results(m: Match, op: Builder, outputs: Sequence[ir.Value], operands: Operands) -> ir.Value:
    """Replace result and caches of the match by the `outputs` of an attention."""
    if operands.cache is not None:
        op.replace(operands.cache.all_k, outputs[1])
        op.replace(operands.cache.all_v, outputs[2])
    return emit.build(operands.result, outputs[0], op)


@rule(
    PRODUCT,
    requires=[SOFTMAX, ATTENTION, ELEMENT_TYPE, OPERANDS, TERMS, FUSED_ON_CUDA, NO_SOFTCAP_ON_CUDA],
    exactness=Exactness.SPECIAL_VALUES,
    source=(
        "Vaswani et al. 2017 (arXiv:1706.03762), ONNX Attention-23; ONNX Runtime's kernel gives 0 for rows of the mask "
        "that are wholly -inf or the lowest float, where Softmax gives NaN, or 0 behind the exporters' guard, and the "
        "mean: analyses/attention_mask.py"
    ),
    phase=Phase.ATTENTION,
)
def fuse_sdpa(m: Match, op: Builder) -> ir.Value:
    """Fuse scaled dot-product attention, whatever the layout of its operands, with or without a cache.

    before:  s = MatMul(heads(q), Transpose(heads(k))); p = Softmax(s * scale + mask); y = MatMul(p, heads(v))
    after:   y, _, _ = Attention(q, k, v, mask, past_keys, past_values)
    """
    block, operands = m[ATTENTION], m[OPERANDS]
    q, k, v = operands.build(op)
    attributes: dict[str, int | float] = {"scale": block.scale}
    if operands.merged:
        heads, kv_heads = block.counts
        attributes |= {"q_num_heads": heads, "kv_num_heads": kv_heads}
    if block.softcap:
        attributes["softcap"] = block.softcap
    outputs = op.node(
        "Attention",
        [q, k, v, mask_of(m, op, q, k, merged=operands.merged), *operands.past],
        outputs=1 if operands.cache is None else 3,
        attributes=attributes,
    )
    return replace_results(m, op, outputs, operands)
