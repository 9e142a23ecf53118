"""Recurrent cells, recognized from the operators that compute one iteration.

The operands of the activations are linear in the input and the state: in any form (one product for all gates and a
Split, a product for each gate, products of the concatenated input and state, scaled ones), each is equivalent to a
matrix for each of the two and a bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from ... import ir
from ..analyses import Shapes
from ..views.slice_ranges import axis_of, window

Matrix = npt.NDArray[np.float64]

_ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh"})
_GATES = _ACTIVATIONS | {"Min", "Max", "Clip", "HardSigmoid"}


@dataclass(frozen=True)
class Linear:
    """The sum of `leaf @ weights[leaf]` and `bias`, which has one element for each column."""

    weights: Mapping[ir.Value, Matrix]
    bias: Matrix

    def plus(self, other: Linear) -> Linear:
        """The sum of two."""
        leaves = {**self.weights, **other.weights}
        return Linear(
            {leaf: np.add(self.weights.get(leaf, 0), other.weights.get(leaf, 0)) for leaf in leaves},
            self.bias + other.bias,
        )

    def times(self, factor: Matrix | float) -> Linear:
        """Each column multiplied by its factor."""
        return Linear({leaf: each * factor for leaf, each in self.weights.items()}, self.bias * factor)

    def columns(self, start: int, stop: int) -> Linear:
        """Columns `start` to `stop`."""
        return Linear({leaf: each[:, start:stop] for leaf, each in self.weights.items()}, self.bias[start:stop])


@dataclass(frozen=True)
class Gate:
    """An activation of a linear operand, which for HardSigmoid includes slope and offset: it clips to 0 … 1."""

    activation: str
    linear: Linear


@dataclass(frozen=True)
class Cell:
    """A cell in the terms of `operator`: the operands of its gates, in its order, its activations, and its states.

    `inner_bias`: GRU applies the reset gate after the last product (linear_before_reset), and this bias before it.
    """

    operator: str
    gates: Sequence[Linear]
    activations: Sequence[str]
    states: Sequence[ir.Value]
    inner_bias: Matrix | None = None


class Step:
    """The linear operands and gates that the nodes of a loop's body compute.

    `leaves` are the inputs of an iteration with their numbers of columns: `x`, the element of the sequence, and states.
    """

    def __init__(self, body: ir.Graph, x: ir.Value, leaves: Mapping[ir.Value, int], shapes: Shapes) -> None:
        self.shapes = shapes
        self.x = x
        self.leaves = dict(leaves)
        self.linear: dict[ir.Value, Linear] = {}
        self.vectors: dict[ir.Value, Linear] = {}  # the one row of a matrix, as a vector
        self.clipped: dict[ir.Value, Linear] = {}
        self.gates: dict[ir.Value, Gate] = {}
        self.resets: dict[ir.Value, tuple[Gate, ir.Value]] = {}
        for node in body:
            if node.domain == "" and None not in node.inputs:
                self._visit(node, [value for value in node.inputs if value is not None])

    def _visit(self, node: ir.Node, inputs: Sequence[ir.Value]) -> None:
        result = node.outputs[0]
        linear = self.linear.get(inputs[0]) if inputs else None
        if node.op_type in _GATES:
            self._visit_gate(node, inputs)
            return
        match node.op_type:
            case "MatMul":
                self._learn(result, self._product(inputs[0], ir.constant(inputs[1]), False))
            case "Gemm":
                self._learn(result, self._gemm(node, inputs))
            case "Add":
                self._learn(result, self._sum(*inputs))
            case "Mul":
                self._multiply(result, *inputs)
            case "Squeeze" if linear is not None and self._is_row(inputs[0], result):
                self.vectors[result] = linear
            case "Split" if linear is not None and axis_of(node, self.shapes) == 1:
                self._split(node, linear)
            case "Slice" if linear is not None and (taken := window(node, self.shapes)) is not None and taken[0] == 1:
                self._learn(result, linear.columns(*taken[1:3]))

    def _visit_gate(self, node: ir.Node, inputs: Sequence[ir.Value]) -> None:
        """Record an activation, or a part of a HardSigmoid written as Min and Max or as Clip."""
        result = node.outputs[0]
        linear = self.linear.get(inputs[0]) if inputs else None
        match node.op_type:
            case "Min" if linear is not None and len(inputs) == 2 and _is(inputs[1], 1):
                self.clipped[result] = linear
            case "Max" if inputs[0] in self.clipped and len(inputs) == 2 and _is(inputs[1], 0):
                self.gates[result] = Gate("HardSigmoid", self.clipped[inputs[0]])
            case "Clip" if linear is not None and len(inputs) == 3 and _is(inputs[1], 0) and _is(inputs[2], 1):
                self.gates[result] = Gate("HardSigmoid", linear)
            case "HardSigmoid" if linear is not None:
                slope, offset = _numbers(node, "alpha", "beta")
                self.gates[result] = Gate("HardSigmoid", linear.times(slope).plus(Linear({}, np.asarray(offset))))
            case activation if activation in _ACTIVATIONS and linear is not None:
                self.gates[result] = Gate(activation, linear)

    def _learn(self, result: ir.Value, found: Linear | None) -> None:
        if found is not None:
            self.linear[result] = found

    def _split(self, node: ir.Node, linear: Linear) -> None:
        sizes = ir.parameter(node, "split")
        if sizes is None and linear.bias.size % len(node.outputs) == 0:
            sizes = np.full(len(node.outputs), linear.bias.size // len(node.outputs))
        if isinstance(sizes, np.ndarray) and sizes.sum() == linear.bias.size:
            ends = np.cumsum(sizes)
            for part, size, end in zip(node.outputs, sizes, ends, strict=True):
                self.linear[part] = linear.columns(end - size, end)

    def _product(self, value: ir.Value, weight: ir.Array | None, transposed: bool) -> Linear | None:
        """`value @ weight`, where `value` is an input of the iteration or a concatenation of some."""
        if weight is None or weight.ndim != 2:
            return None
        rows = np.asarray(weight.T if transposed else weight, dtype=np.float64)
        parts, node = [value], value.producer()
        joins = node is not None and node.op_type == "Concat" and value not in self.leaves
        if node is not None and joins and axis_of(node, self.shapes) == 1:
            parts = [each for each in node.inputs if each is not None]
        if any(part not in self.leaves for part in parts) or len(set(parts)) < len(parts):
            return None
        found, start = {}, 0
        for part in parts:
            found[part] = rows[start : start + self.leaves[part]]
            start += self.leaves[part]
        return Linear(found, np.zeros(rows.shape[1])) if start == rows.shape[0] else None

    def _gemm(self, node: ir.Node, inputs: Sequence[ir.Value]) -> Linear | None:
        alpha, beta = _numbers(node, "alpha", "beta")
        product = self._product(inputs[0], ir.constant(inputs[1]), ir.attribute(node, "transB") == 1)
        if product is None or ir.attribute(node, "transA") != 0:
            return None
        if len(inputs) < 3:
            return product.times(alpha)
        row = _row(inputs[2], product)
        other = self._operand(inputs[2]) if row is None else Linear({}, row)
        if other is None or (row is None and other.bias.size != product.bias.size):
            return None
        return product.times(alpha).plus(other.times(beta))

    def _is_row(self, matrix: ir.Value, vector: ir.Value) -> bool:
        dims = self.shapes.dims(matrix)
        return dims is not None and len(dims) == 2 and dims[0] == 1 and self.shapes.rank(vector) == 1 and dims[1] != 1

    def _operand(self, value: ir.Value) -> Linear | None:
        """An addend of a matrix: another one, or the single row of one."""
        return self.linear.get(value) or self.vectors.get(value)

    def _sum(self, a: ir.Value, b: ir.Value) -> Linear | None:
        one, other = self.linear.get(a), self.linear.get(b)
        if one is not None or other is not None:
            one, other = one or self.vectors.get(a), other or self.vectors.get(b)
        if one is not None and other is not None:
            return one.plus(other) if one.bias.shape == other.bias.shape else None
        given, rest = (one, b) if one is not None else (other, a)
        row = None if given is None else _row(rest, given)
        return None if given is None or row is None else given.plus(Linear({}, row))

    def _multiply(self, result: ir.Value, a: ir.Value, b: ir.Value) -> None:
        for one, other in ((a, b), (b, a)):
            if one in self.linear and (row := _row(other, self.linear[one])) is not None:
                self.linear[result] = self.linear[one].times(row)
            elif one in self.gates and other in self.leaves and other is not self.x:
                self.resets[result] = self.gates[one], other
                self.leaves[result] = self.leaves[other]

    # --- cells ------------------------------------------------------------------------------------------------------

    def cells(self, ends: Mapping[ir.Value, ir.Value]) -> Iterator[Cell]:
        """The recurrent operators that compute the same; `ends` are the states with their next values."""
        for h, end in ends.items():
            gate = self.gates.get(end)
            if gate is not None:
                yield Cell("RNN", [gate.linear], [gate.activation], [h])
            yield from self._gru(h, end)
            for c, other_end in ends.items():
                if c is not h:
                    yield from self._lstm(h, c, end, other_end)

    def _gru(self, h: ir.Value, end: ir.Value) -> Iterator[Cell]:
        """Add(Mul(z, h), Mul(Sub(1, z), n))."""
        for update, old, rest, candidate in _sums_of_products(end):
            z, node = self.gates.get(update), _call(rest, "Sub")
            if z is None or old is not h or node is None or not _is(node.inputs[0], 1) or node.inputs[1] is not update:
                continue
            for r, n, inner_bias in self._candidates(candidate, h):
                if r.activation == z.activation:
                    gates = [z.linear, r.linear, n.linear]
                    yield Cell("GRU", gates, [z.activation, n.activation], [h], inner_bias)

    def _candidates(self, value: ir.Value, h: ir.Value) -> Iterator[tuple[Gate, Gate, Matrix | None]]:
        """Reset gate and candidate: activation of x @ w + Mul(r, h) @ u, or of x @ w + Mul(r, h @ u + inner bias)."""
        gate, node = self.gates.get(value), _call(value, *_ACTIVATIONS)
        if gate is not None:
            linear = gate.linear
            for leaf in linear.weights:
                reset, of = self.resets.get(leaf, (None, None))
                if reset is not None and of is h and set(linear.weights) == {self.x, leaf}:
                    weights = {self.x: linear.weights[self.x], h: linear.weights[leaf]}
                    yield reset, Gate(gate.activation, Linear(weights, linear.bias)), None
        elif node is not None:
            for given, product in _operands(node.inputs[0], "Add"):
                for update, fed in _operands(product, "Mul"):
                    reset, outer, inner = self.gates.get(update), self.linear.get(given), self.linear.get(fed)
                    if reset is None or outer is None or inner is None or outer.bias.shape != inner.bias.shape:
                        continue
                    if set(outer.weights) == {self.x} and set(inner.weights) == {h}:
                        both = Linear({**outer.weights, **inner.weights}, outer.bias)
                        yield reset, Gate(node.op_type, both), inner.bias

    def _lstm(self, h: ir.Value, c: ir.Value, h_end: ir.Value, c_end: ir.Value) -> Iterator[Cell]:
        """C' = Add(Mul(f, c), Mul(i, g)) and h' = Mul(o, tanh(c'))."""
        for output, shown in _operands(h_end, "Mul"):
            node = _call(shown, *_ACTIVATIONS)
            if node is None or node.inputs[0] is not c_end:
                continue
            for forget, old, entrance, candidate in _sums_of_products(c_end):
                i, o, f, g = (self.gates.get(each) for each in (entrance, output, forget, candidate))
                if old is not c or i is None or o is None or f is None or g is None:
                    continue
                if i.activation == o.activation == f.activation:
                    gates = [each.linear for each in (i, o, f, g)]
                    yield Cell("LSTM", gates, [i.activation, g.activation, node.op_type], [h, c])


def _numbers(node: ir.Node, *names: str) -> tuple[float, ...]:
    return tuple(float(each) for name in names if isinstance(each := ir.attribute(node, name), float))


def _row(value: ir.Value, beside: Linear) -> Matrix | None:
    """A constant that broadcasts over rows: one element for each column, or one for all."""
    content = ir.constant(value)
    if content is None or content.size not in (1, beside.bias.size) or content.shape[:-1] not in ((), (1,)):
        return None
    return np.asarray(content, dtype=np.float64).reshape(-1)


def _is(value: ir.Value | None, number: float) -> bool:
    """Whether `value` is this constant, of a rank that does not broadcast a matrix."""
    content = ir.constant(value)
    return content is not None and content.ndim <= 2 and ir.scalar(value) == number


def _call(value: ir.Value | None, *operators: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.domain == "" and node.op_type in operators else None


def _operands(value: ir.Value | None, operator: str) -> Iterator[tuple[ir.Value, ...]]:
    """The operands of a binary operator, in both orders."""
    if (node := _call(value, operator)) is not None:
        yield from permutations([each for each in node.inputs if each is not None], 2)


def _sums_of_products(value: ir.Value) -> Iterator[tuple[ir.Value, ...]]:
    """a, b, c and d of Add(Mul(a, b), Mul(c, d)), in each order."""
    for one, other in _operands(value, "Add"):
        for left in _operands(one, "Mul"):
            yield from ((*left, *right) for right in _operands(other, "Mul"))
