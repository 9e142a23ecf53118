"""The cost of nodes: floating-point operations and bytes moved, for given values of the symbols.

A multiply-add counts as two operations, as vendors count; any other scalar function as one. Bytes are inputs read once
and outputs written once: what a perfect cache leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ... import ir
from ...ir.shapes import symbolic as d
from ...ir.shapes.compute import heads
from ...ir.shapes.contrib import DOMAIN as CONTRIB_DOMAIN
from ...ir.shapes.facts import DIMS, Call, Fact, NothingKnownError
from ...ir.shapes.symbolic import Dim
from .manager import Analysis, AnalysisManager
from .shapes import Shapes


@dataclass(frozen=True, slots=True)
class NodeCost:
    """The cost of one node; None where it is not known."""

    flops: int | None
    bytes: int | None


@dataclass(frozen=True)
class Total:
    """The cost of the nodes that are known, and which ones are not."""

    flops: int
    bytes: int
    unknown: tuple[ir.Node, ...]


@dataclass(frozen=True)
class Cost(Analysis):
    """The cost of the nodes of the main graph; unknown: nodes with bodies (If, Loop, Scan), calls, foreign domains."""

    nodes: tuple[ir.Node, ...]
    shapes: Shapes

    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Cost:
        """The cost of `model`."""
        return cls(tuple(model.graph), analyses.get(Shapes))

    def of(self, node: ir.Node, bindings: Mapping[str, int] | None = None) -> NodeCost:
        """The cost of one node, where the symbols have these values."""
        flops, moved = self._dims_of(node, bindings or {})
        return NodeCost(flops if isinstance(flops, int) else None, moved if isinstance(moved, int) else None)

    def total(self, bindings: Mapping[str, int] | None = None) -> Total:
        """The sum over all nodes, where the symbols have these values."""
        costs = {node: self.of(node, bindings) for node in self.nodes}
        return Total(
            sum(cost.flops or 0 for cost in costs.values()),
            sum(cost.bytes or 0 for cost in costs.values()),
            tuple(node for node, cost in costs.items() if cost.flops is None or cost.bytes is None),
        )

    def formulas(self) -> tuple[Dim | None, Dim | None]:
        """Operations and bytes of the whole graph in the symbols of its interface; None where others are needed."""
        flops: dict[Dim, int] = {}
        moved: dict[Dim, int] = {}
        for node in self.nodes:
            for found, counts in zip(self._dims_of(node, {}), (flops, moved), strict=True):
                if found is None or d.born(found):
                    return None, None
                counts[found] = counts.get(found, 0) + 1
        totals = [_sum(counts) for counts in (flops, moved)]
        return totals[0], totals[1]

    def _dims_of(self, node: ir.Node, bindings: Mapping[str, int]) -> tuple[Dim | None, Dim | None]:
        """Operations and bytes of one node, with the symbols that have no value."""
        if not _is_known(node):
            return None, None
        sizes = tuple(bindings.items())
        inputs = [None if value is None else _bound(self.shapes.fact(value), sizes) for value in node.inputs]
        given = (value for value in node.outputs if value.name or ir.is_read(value))
        outputs = [_bound(self.shapes.fact(value), sizes) for value in given]
        try:
            rules = FLOPS if node.domain == "" else CONTRIB
            flops: Dim | None = rules.get(node.op_type, _one_each)(Call(node, inputs), outputs)
        except (NothingKnownError, LookupError, ValueError):
            flops = None
        return flops, _moved(node, inputs, outputs)


def _is_known(node: ir.Node) -> bool:
    if node.domain == CONTRIB_DOMAIN:
        return node.op_type in CONTRIB
    return node.domain == "" and (node.op_type in DIMS or node.op_type == "Constant")


def _sum(counts: Mapping[Dim, int]) -> Dim | None:
    total: Dim = 0
    for dim, count in counts.items():
        total = total + dim * count
    return None if d.born(total) else total  # a polynomial that grew beyond bounds


def _moved(node: ir.Node, inputs: Sequence[Fact | None], outputs: Sequence[Fact]) -> Dim | None:
    if node.op_type in VIEWS:
        return 0
    if node.op_type in PICKS and outputs:  # as much as they give is read, not the table
        inputs = [outputs[0], *inputs[1:]]
    sizes = [_bytes(fact) for fact in (*inputs, *outputs) if fact is not None]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


@lru_cache(maxsize=4096)  # large graphs have few different facts, and polynomials take their time
def _bound(fact: Fact, bindings: tuple[tuple[str, int], ...]) -> Fact:
    return fact.bound(dict(bindings)) if bindings else fact


@lru_cache(maxsize=4096)
def _bytes(fact: Fact) -> Dim | None:
    if fact.static is not None:
        return fact.bytes
    if fact.dtype is None or fact.dims is None or fact.dtype == ir.DataType.STRING:
        return None
    bits = d.product(fact.dims) * int(fact.dtype.bitwidth)
    return d.floordiv(bits + 7, 8) if fact.dtype.bitwidth % 8 else d.floordiv(bits, 8)


VIEWS: Final = ir.ALIASES | {"Constant", "Shape", "Size"}
"""Runtimes make no copy for these."""

PICKS: Final = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})

_FILLERS = frozenset("Concat ConstantOfShape EyeLike NonZero OneHot Pad ReverseSequence TensorScatter Trilu".split())

MOVES: Final = VIEWS | ir.MOVEMENT | _FILLERS | {"Scatter", "ScatterElements", "ScatterND"}
"""Operators that compute nothing."""

PER_ELEMENT: Final = {
    "BatchNormalization": 2,
    "DequantizeLinear": 2,
    "DynamicQuantizeLinear": 4,
    "Gelu": 5,
    "GroupNormalization": 7,
    "HardSigmoid": 4,
    "HardSwish": 5,
    "InstanceNormalization": 7,
    "LayerNormalization": 7,
    "LogSoftmax": 5,
    "QuantizeLinear": 4,
    "RMSNormalization": 4,
    "RotaryEmbedding": 3,
    "Sigmoid": 3,
    "Softmax": 5,
}
"""Operations per element of the input, where more than one: as in the operator's formula."""

FlopsRule = Callable[[Call, Sequence[Fact]], Dim]


@lru_cache(maxsize=4096)
def _count(fact: Fact) -> Dim:
    if fact.dims is None:
        raise NothingKnownError
    return d.product(fact.dims)


def _one_each(call: Call, outputs: Sequence[Fact]) -> Dim:
    return _count(outputs[0]) * PER_ELEMENT.get(call.node.op_type, 1)


def _nothing(call: Call, outputs: Sequence[Fact]) -> Dim:
    return 0


def _variadic(call: Call, outputs: Sequence[Fact]) -> Dim:
    return _count(outputs[0]) * max(len(call.inputs) - 1, 1)


def _reduction(call: Call, outputs: Sequence[Fact]) -> Dim:
    return _count(call.fact(0))


def _matmul(call: Call, outputs: Sequence[Fact]) -> Dim:
    return 2 * _count(outputs[0]) * call.dims(0)[-1]


def _gemm(call: Call, outputs: Sequence[Fact]) -> Dim:
    rows, columns = call.dims(0)
    inner = rows if call.integer("transA") else columns
    return _count(outputs[0]) * (2 * inner + (1 if call.has(2) else 0))


def _convolution(weight: int) -> FlopsRule:
    def flops(call: Call, outputs: Sequence[Fact]) -> Dim:
        taps = d.product(call.dims(weight)[1:])
        bias = call.has(2) if call.node.op_type == "Conv" else False
        return _count(outputs[0]) * (2 * taps + (1 if bias else 0))

    return flops


def _transposed_convolution(call: Call, outputs: Sequence[Fact]) -> Dim:
    bias = _count(outputs[0]) if call.has(2) else 0
    return 2 * _count(call.fact(0)) * d.product(call.dims(1)[1:]) + bias


def _pool(call: Call, outputs: Sequence[Fact]) -> Dim:
    return _count(outputs[0]) * d.product(call.integers("kernel_shape"))


def _einsum(call: Call, outputs: Sequence[Fact]) -> Dim:
    sizes: dict[str, Dim] = {}
    for index, term in enumerate(call.word("equation").replace(" ", "").partition("->")[0].split(",")):
        sizes.update(zip(term, call.dims(index), strict=True))
    return len(call.inputs) * d.product(sizes.values())


def _recurrence(call: Call, outputs: Sequence[Fact]) -> Dim:
    return 2 * d.product(call.dims(0)[:2]) * (d.product(call.dims(1)) + d.product(call.dims(2)))


def _attention(call: Call, outputs: Sequence[Fact]) -> Dim:
    (batch, count, queries, size), k, v = heads(call, 0, "q"), heads(call, 1, "kv"), heads(call, 2, "kv")
    keys = k[2] + (call.dims(4)[2] if call.has(4) else 0)
    return batch * count * queries * keys * (2 * size + 2 * v[3] + PER_ELEMENT["Softmax"])


def _multi_head_attention(call: Call, outputs: Sequence[Fact]) -> Dim:
    (batch, queries, size), (_, keys, values) = call.dims(0), call.dims(2)
    softmax = PER_ELEMENT["Softmax"] * call.integer("num_heads")
    return batch * queries * keys * (2 * size + 2 * values + softmax)


def _group_query_attention(call: Call, outputs: Sequence[Fact]) -> Dim:
    batch, queries, size = call.dims(0)
    keys = queries + call.dims(3)[2] if call.has(3) else queries
    return batch * queries * keys * (4 * size + PER_ELEMENT["Softmax"] * call.integer("num_heads"))


def _each(operations: int) -> FlopsRule:
    return lambda call, outputs: _count(outputs[0]) * operations


def _table(entries: Iterable[tuple[Iterable[str], FlopsRule]]) -> dict[str, FlopsRule]:
    return {operator: rule for operators, rule in entries for operator in operators}


FLOPS: Final = _table(
    [
        (MOVES, _nothing),
        (("Sum", "Max", "Min", "Mean"), _variadic),
        ([operator for operator in DIMS if operator.startswith(("Reduce", "Arg", "Global"))], _reduction),
        (("MatMul", "MatMulInteger", "QLinearMatMul"), _matmul),
        (("Gemm",), _gemm),
        (("Conv", "ConvInteger"), _convolution(1)),
        (("QLinearConv",), _convolution(3)),
        (("ConvTranspose",), _transposed_convolution),
        (("MaxPool", "AveragePool", "LpPool"), _pool),
        (("Einsum",), _einsum),
        (("LSTM", "GRU", "RNN"), _recurrence),
        (("Attention",), _attention),
    ]
)

CONTRIB: Final[Mapping[str, FlopsRule]] = {
    "GroupNorm": _each(7),
    "GroupQueryAttention": _group_query_attention,
    "MultiHeadAttention": _multi_head_attention,
    "QuickGelu": _each(5),
    "SkipLayerNormalization": _each(8),
    "SkipSimplifiedLayerNormalization": _each(5),
}
"""Operators of the domain com.microsoft that rules build."""
