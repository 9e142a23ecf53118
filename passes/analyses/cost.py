"""What nodes cost: floating-point operations and bytes moved, for given values of the symbols.

A multiply-add counts as two operations, as vendors count; any other scalar function as one. Bytes are inputs read once
and outputs written once: what a perfect cache leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from ... import ir
from ..engine.analysis import Analysis, AnalysisManager
from . import dims as d
from .compute_rules import heads
from .dims import Dim
from .facts import DIMS, Call, Fact, NothingKnownError
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
    """The cost of the nodes of the main graph; nodes with bodies (If, Loop, Scan) and other domains are unknown."""

    needs: ClassVar[tuple[type[Analysis], ...]] = (Shapes,)

    nodes: tuple[ir.Node, ...]
    shapes: Shapes

    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Cost:
        return cls(tuple(model.graph), analyses.get(Shapes))

    def of(self, node: ir.Node, bindings: Mapping[str, int] | None = None) -> NodeCost:
        """The cost of one node, where the symbols have these values."""
        known = bindings or {}
        inputs = [None if value is None else self.shapes.fact(value).bound(known) for value in node.inputs]
        outputs = [self.shapes.fact(value).bound(known) for value in node.outputs]
        if node.domain != "" or (node.op_type not in DIMS and node.op_type != "Constant"):
            return NodeCost(None, None)
        try:
            flops: Dim | None = FLOPS.get(node.op_type, _one_each)(Call(node, inputs), outputs)
        except (NothingKnownError, LookupError, ValueError):
            flops = None
        return NodeCost(flops if isinstance(flops, int) else None, _moved(node, inputs, outputs))

    def total(self, bindings: Mapping[str, int] | None = None) -> Total:
        """The sum over all nodes, where the symbols have these values."""
        costs = {node: self.of(node, bindings) for node in self.nodes}
        return Total(
            sum(cost.flops or 0 for cost in costs.values()),
            sum(cost.bytes or 0 for cost in costs.values()),
            tuple(node for node, cost in costs.items() if cost.flops is None or cost.bytes is None),
        )


def _moved(node: ir.Node, inputs: Sequence[Fact | None], outputs: Sequence[Fact]) -> int | None:
    if node.op_type in VIEWS:
        return 0
    if node.op_type in PICKS:  # as much as they give is read, not the table
        inputs = [outputs[0], *inputs[1:]]
    sizes = [fact.bytes for fact in (*inputs, *outputs) if fact is not None]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


VIEWS: Final = frozenset({"Constant", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
"""Runtimes make no copy for these."""

PICKS: Final = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})

MOVES: Final = (
    VIEWS
    | PICKS
    | set(
        """Concat ConstantOfShape DepthToSpace Expand EyeLike NonZero OneHot Pad ReverseSequence Scatter ScatterElements
        ScatterND SpaceToDepth Split TensorScatter Tile Transpose Trilu""".split()
    )
)
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
"""Operations per element of the input, for what is more than one: as the operator's formula spells them."""

FlopsRule = Callable[[Call, Sequence[Fact]], Dim]


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
