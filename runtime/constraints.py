"""Sizes of open dims that the weights and constants of a model demand: equations collected forward, then solved.

Dims are polynomials of the inputs' symbols. Every operator adds equations between dims (ONNX operator specifications,
onnxruntime's ContribOperators.md). Results come from the operators' own shape inference. What cannot be
expressed is unknown and demands nothing; a wrong guess costs a trial in ONNX Runtime, never a wrong result.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from .. import ir
from ..ir.infer import TensorFacts, infer_results

Term = tuple[tuple["str | Quotient", ...], int]
LARGEST: Final = 1 << 16
"""The largest size that an equation in one symbol is solved for."""
CONTENTS: Final = 64  # elements of an integer tensor that are followed; shapes and sizes are shorter
DEPTH: Final = 8  # of nested bodies and functions


@dataclass(frozen=True)
class Polynomial:
    """A sum of products of symbols and quotients with whole coefficients."""

    terms: tuple[Term, ...]

    @classmethod
    def of(cls, terms: Mapping[tuple[str | Quotient, ...], int]) -> Polynomial:
        return cls(tuple(sorted(((m, c) for m, c in terms.items() if c), key=str)))

    @classmethod
    def number(cls, value: int) -> Polynomial:
        return cls.of({(): value})

    @classmethod
    def symbol(cls, name: str) -> Polynomial:
        return cls.of({(name,): 1})

    @property
    def constant(self) -> int | None:
        """The number that this is, or None."""
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and not self.terms[0][0] else None

    @cached_property
    def symbols(self) -> frozenset[str]:
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                found |= {atom} if isinstance(atom, str) else atom.numerator.symbols | atom.divisor.symbols
        return frozenset(found)

    def __add__(self, other: Polynomial) -> Polynomial:
        total: defaultdict[tuple[str | Quotient, ...], int] = defaultdict(int)
        for monomial, coefficient in (*self.terms, *other.terms):
            total[monomial] += coefficient
        return Polynomial.of(total)

    def __mul__(self, other: Polynomial) -> Polynomial:
        total: defaultdict[tuple[str | Quotient, ...], int] = defaultdict(int)
        for one, a in self.terms:
            for two, b in other.terms:
                total[tuple(sorted((*one, *two), key=str))] += a * b
        return Polynomial.of(total)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other * Polynomial.number(-1)

    def over(self, other: Polynomial) -> Polynomial:
        """The quotient rounded down: exact where `other` is one term that divides every term."""
        if len(other.terms) == 1:
            ((divisor, number),) = other.terms
            quotients: dict[tuple[str | Quotient, ...], int] = {}
            for monomial, coefficient in self.terms:
                rest = list(monomial)
                if coefficient % number or any(rest.count(atom) < divisor.count(atom) for atom in divisor):
                    break
                for atom in divisor:
                    rest.remove(atom)
                quotients[tuple(rest)] = coefficient // number
            else:
                return Polynomial.of(quotients)
        return Polynomial.of({(Quotient(self, other),): 1})

    def value(self, sizes: Mapping[str, int]) -> int:
        """Raises KeyError for a symbol without a size."""
        total = 0
        for monomial, coefficient in self.terms:
            product = coefficient
            for atom in monomial:
                product *= sizes[atom] if isinstance(atom, str) else atom.value(sizes)
            total += product
        return total


@dataclass(frozen=True)
class Quotient:
    """A division that is rounded down."""

    numerator: Polynomial
    divisor: Polynomial

    def value(self, sizes: Mapping[str, int]) -> int:
        return self.numerator.value(sizes) // (self.divisor.value(sizes) or 1)


Dim = Polynomial | None
Dims = tuple[Dim, ...] | None
ONE: Final = Polynomial.number(1)


def product(dims: Sequence[Dim]) -> Dim:
    """None where a factor is unknown."""
    total: Dim = ONE
    for dim in dims:
        total = None if dim is None or total is None else total * dim
    return total


@dataclass
class Demands:
    """Equations `polynomial = 0`, divisors and least sizes of polynomials; `preferred` equations may be broken."""

    equations: dict[Polynomial, None] = field(default_factory=dict)
    preferred: dict[Polynomial, None] = field(default_factory=dict)
    divisors: dict[tuple[Polynomial, int], None] = field(default_factory=dict)
    least: dict[tuple[Polynomial, int], None] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)
    """The ranks of inputs that are declared without dims, where an operator demands one."""

    def equal(self, one: Dim, two: Dim, *, preferred: bool = False) -> None:
        if one is not None and two is not None and (difference := one - two).symbols:
            (self.preferred if preferred else self.equations).setdefault(difference)

    def divisible(self, dim: Dim, by: int) -> None:
        if dim is not None and dim.symbols and by > 1:
            self.divisors.setdefault((dim, by))

    def at_least(self, dim: Dim, size: int) -> None:
        if dim is not None and dim.symbols and size > 1:
            self.least.setdefault((dim, size))

    @cached_property
    def by_symbol(self) -> dict[str, list[Polynomial]]:
        found: defaultdict[str, list[Polynomial]] = defaultdict(list)
        for equation in self.equations:
            for symbol in sorted(equation.symbols):
                found[symbol].append(equation)
        return dict(found)

    def solve(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """A size for each symbol of `wanted`: what the equations leave open is as wanted, or the next that divides."""
        sizes: dict[str, int] = {}
        self._propagate(sizes, self.equations)
        for equation in self.preferred:
            unknown = equation.symbols - sizes.keys()
            if len(unknown) == 1 and equation.symbols == unknown:
                self._take(sizes, equation)
        for symbol in wanted:
            if symbol not in sizes:
                self._square(sizes, symbol, wanted)
            if symbol not in sizes:
                sizes[symbol] = self._fitting(symbol, wanted[symbol], sizes)
                self._propagate(sizes, self.by_symbol.get(symbol, []))
                for equation in self.preferred:
                    if symbol in equation.symbols and len(equation.symbols - sizes.keys()) == 1:
                        self._take(sizes, equation)
        return {symbol: sizes[symbol] for symbol in wanted}

    def _propagate(self, sizes: dict[str, int], first: Iterable[Polynomial]) -> None:
        pending = deque(first)
        while pending:
            self._take(sizes, pending.popleft(), pending)

    def _take(self, sizes: dict[str, int], equation: Polynomial, pending: deque[Polynomial] | None = None) -> None:
        unknown = sorted(equation.symbols - sizes.keys())
        if len(unknown) != 1:
            return
        root = _root(lambda size: equation.value({**sizes, unknown[0]: size}))
        if root is None:
            return
        sizes[unknown[0]] = root
        further = self.by_symbol.get(unknown[0], [])
        if pending is None:
            self._propagate(sizes, further)
        else:
            pending += further

    def _square(self, sizes: dict[str, int], symbol: str, wanted: Mapping[str, int]) -> None:
        """Solve an equation in two symbols (rows and columns behind a flattening) with one size for both."""
        for equation in self.by_symbol.get(symbol, []):
            unknown = sorted(equation.symbols - sizes.keys())
            if len(unknown) != 2 or any(each not in wanted for each in unknown) or _is_linear(equation, unknown):
                continue
            root = _root(lambda size, e=equation, u=unknown: e.value({**sizes, **dict.fromkeys(u, size)}))  # type: ignore[misc]
            if root is not None:
                sizes.update(dict.fromkeys(unknown, root))
                self._propagate(sizes, self.by_symbol.get(symbol, []))
                return

    def _fitting(self, symbol: str, wanted: int, sizes: Mapping[str, int]) -> int:
        """The first size from `wanted` on that the divisors and least sizes of this symbol accept."""
        ready = sizes.keys() | {symbol}
        divisors = [(p, k) for p, k in self.divisors if symbol in p.symbols and p.symbols <= ready]
        least = [(p, k) for p, k in self.least if symbol in p.symbols and p.symbols <= ready]
        if not divisors and not least:
            return wanted
        for size in range(max(wanted, 1), max(wanted, 1) + 4096):
            trial = {**sizes, symbol: size}
            if all(p.value(trial) % k == 0 for p, k in divisors) and all(p.value(trial) >= k for p, k in least):
                return size
        return wanted


def _is_linear(equation: Polynomial, unknown: Sequence[str]) -> bool:
    """Whether the unknowns stand in terms of their own: `a = b` is for any two sizes, not for one in particular."""
    return all(len(set(unknown) & Polynomial(((m, 1),)).symbols) < 2 for m, _ in equation.terms)


def _root(function: Callable[[int], int]) -> int | None:
    """The smallest size from 1 on with `function(size) == 0`, where it is monotone; None: there is none."""
    low, high = 1, LARGEST
    first, last = function(low), function(high)
    if first == 0:
        return low
    if (first > 0) == (last > 0) and last != 0:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if function(middle) * (1 if first > 0 else -1) > 0:
            low = middle
        else:
            high = middle
    return high if function(high) == 0 else None


# --- collection ---------------------------------------------------------------------------------------------------


def demands_of(model: ir.Model, inputs: Mapping[str, Sequence[Polynomial] | None]) -> Demands:
    """What `model` demands of the dims of its inputs; an input with None for dims has no declared rank."""
    ranks: dict[str, int] = {}
    for _ in range(len(inputs) + 1):  # a rank lets more be inferred, and so may bring another
        known = {
            name: [Polynomial.symbol(f"{name}@{axis}") for axis in range(ranks[name])] if name in ranks else dims
            for name, dims in inputs.items()
        }
        collector = _Collector(model)
        collector.enter(known)
        if collector.demands.ranks.keys() <= ranks.keys():
            break
        ranks = {**collector.demands.ranks, **ranks}
    collector.demands.ranks = ranks
    return collector.demands


_BROADCASTING: Final = frozenset(
    "Add Sub Mul Div Pow Mod And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual Where Min Max Sum Mean PRelu "
    "BitwiseAnd BitwiseOr BitwiseXor BiasGelu FastGelu".split()
)
_SAME_RANK: Final = frozenset(
    "Cast CastLike Identity Relu Sigmoid Tanh Exp Log Sqrt Neg Abs Erf Gelu LeakyRelu Elu Clip Softmax LogSoftmax "
    "Floor Ceil Round Not Dropout QuantizeLinear DynamicQuantizeLinear Pad HardSwish HardSigmoid Mish Softplus "
    "Sin Cos".split()
)


class _Collector:
    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.demands = Demands()
        self.dims: dict[ir.Value, Dims] = {}
        self.types: dict[ir.Value, ir.DataType] = {}
        self.contents: dict[ir.Value, tuple[Dim, ...]] = {}
        self.unranked: dict[ir.Value, str] = {}
        self.names: dict[str, Polynomial] = {}
        self.codes: dict[Polynomial, str] = {}

    def enter(self, inputs: Mapping[str, Sequence[Polynomial] | None]) -> None:
        for value in self.model.graph.inputs:
            name = value.name or ""
            if name not in inputs:
                continue
            dims = inputs[name]
            self.dims[value] = None if dims is None else tuple(dims)
            if dims is None and isinstance(value.type, ir.TensorType):
                self.unranked[value] = name
        self.walk(self.model.graph, 0)

    def walk(self, graph: ir.Graph | ir.Function, depth: int) -> None:
        for node in graph:
            self.visit(node, depth)

    # --- facts ---

    def of(self, value: ir.Value | None) -> Dims:
        if value is None:
            return None
        if value not in self.dims:
            tensor = value.const_value if value.is_initializer() else ir.constant_tensor(value)
            self.dims[value] = None if tensor is None else tuple(map(Polynomial.number, tensor.shape.numpy()))
        return self.dims[value]

    def operand(self, node: ir.Node, index: int) -> Dims:
        return self.of(node.inputs[index]) if index < len(node.inputs) else None

    def at(self, node: ir.Node, index: int, axis: int) -> Dim:
        dims = self.operand(node, index)
        return dims[axis] if dims is not None and -len(dims) <= axis < len(dims) else None

    def content(self, value: ir.Value | None) -> tuple[Dim, ...] | None:
        """The elements of an integer tensor, flat, as far as they are known."""
        if value is None:
            return None
        if value in self.contents:
            return self.contents[value]
        tensor = ir.constant_tensor(value)
        if tensor is None or tensor.size > CONTENTS or not tensor.dtype.is_integer():
            return None
        return tuple(Polynomial.number(int(each)) for each in np.asarray(tensor.numpy()).reshape(-1).tolist())

    def constants(self, node: ir.Node, index: int, name: str = "") -> list[int] | None:
        """The constant integers of an input, or of the attribute `name` that older opsets have in its place."""
        if name and isinstance(found := ir.attribute(node, name), (list, tuple)):
            return [int(each) for each in found]
        content = self.content(node.inputs[index]) if index < len(node.inputs) else None
        if content is None or any(each is None or each.constant is None for each in content):
            return None
        return [each.constant or 0 for each in content if each is not None]

    def type_of(self, value: ir.Value) -> ir.DataType:
        if value not in self.types:
            tensor = value.const_value if value.is_initializer() else ir.constant_tensor(value)
            self.types[value] = (value.dtype if tensor is None else tensor.dtype) or ir.DataType.FLOAT
        return self.types[value]

    def rank(self, node: ir.Node, index: int, rank: int) -> None:
        """The operator demands this rank of an input that is declared without one."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value in self.unranked:
            self.demands.ranks.setdefault(self.unranked[value], rank)

    # --- one node ---

    def visit(self, node: ir.Node, depth: int) -> None:
        if node.op_type == "Constant" and node.domain == "":
            return
        function = self.model.functions.get(node.op_identifier())
        if function is not None:
            self.call(node, function, depth)
            return
        self.demand(node)
        if any(ir.subgraphs_of(node)):
            self.bodies(node, depth)
            return
        self.results(node)
        self.follow(node)

    def pass_on(self, source: ir.Value | None, target: ir.Value, dims: Dims) -> None:
        self.dims[target] = dims
        if source is None:
            return
        self.types[target] = self.type_of(source)
        if (content := self.content(source)) is not None:
            self.contents[target] = content
        if source in self.unranked:
            self.unranked[target] = self.unranked[source]

    def call(self, node: ir.Node, function: ir.Function, depth: int) -> None:
        if depth >= DEPTH:
            return
        for actual, formal in zip(node.inputs, function.inputs, strict=False):
            self.pass_on(actual, formal, self.of(actual))
        self.walk(function, depth + 1)
        for formal, actual in zip(function.outputs, node.outputs, strict=False):
            self.pass_on(formal, actual, self.of(formal))

    def bodies(self, node: ir.Node, depth: int) -> None:
        if depth >= DEPTH:
            return
        scanned = ir.attribute(node, "num_scan_inputs") if node.op_type == "Scan" else 0
        for body in ir.subgraphs_of(node):
            for index, (actual, formal) in enumerate(zip(node.inputs, body.inputs, strict=False)):
                dims = self.of(actual)
                first = len(body.inputs) - (scanned if isinstance(scanned, int) else 0)
                if node.op_type == "Scan" and index >= first and dims:
                    axes = ir.attribute(node, "scan_input_axes")
                    axis = axes[index - first] if isinstance(axes, (list, tuple)) and axes else 0
                    dims = tuple(dim for at, dim in enumerate(dims) if at != int(axis) % len(dims))
                if node.op_type == "Scan":
                    self.pass_on(actual, formal, dims)
                    if index >= first:
                        self.contents.pop(formal, None)
                elif node.op_type == "Loop" and index >= 2:
                    self.pass_on(actual, formal, dims)
                    self.contents.pop(formal, None)
            self.walk(body, depth + 1)
        first_body = next(ir.subgraphs_of(node))
        if node.op_type == "If":
            for formal, actual in zip(first_body.outputs, node.outputs, strict=False):
                self.pass_on(formal, actual, self.of(formal))

    def results(self, node: ir.Node) -> None:
        facts: list[TensorFacts | None] = []
        contents = {}
        unknown = False
        for index, value in enumerate(node.inputs):
            if value is None:
                facts.append(None)
                continue
            dims = self.of(value)
            unknown |= dims is None and index == 0
            facts.append(TensorFacts(self.type_of(value), None if dims is None else tuple(map(self.encode, dims))))
            tensor = ir.constant_tensor(value)
            if tensor is not None and 0 < tensor.size <= CONTENTS and tensor.dtype != ir.DataType.STRING:
                contents[index] = np.asarray(tensor.numpy())
        found = infer_results(node, facts, contents)
        for index, value in enumerate(node.outputs):
            each = found[index] if index < len(found) else None
            if each is not None:
                self.types[value] = each.dtype
                self.dims[value] = None if each.dims is None else tuple(map(self.decode, each.dims))
        if node.outputs and (dims := self.own_result(node)) is not None:
            self.dims[node.outputs[0]] = dims
        source = node.inputs[0] if node.inputs else None
        if unknown and node.op_type in _SAME_RANK and source in self.unranked:
            self.unranked[node.outputs[0]] = self.unranked[source]

    def encode(self, dim: Dim) -> int | str | None:
        if dim is None or dim.constant is not None:
            return None if dim is None else dim.constant
        if dim not in self.codes:
            self.codes[dim] = f"d{len(self.codes)}"
            self.names[self.codes[dim]] = dim
        return self.codes[dim]

    def decode(self, size: int | str | None) -> Dim:
        return Polynomial.number(size) if isinstance(size, int) else self.names.get(size or "")

    def own_result(self, node: ir.Node) -> Dims:
        """The dims of the first result where the standard inference gives up on symbols."""
        dims = self.operand(node, 0)
        match node.op_type:
            case "Reshape":
                return self.reshaped(node, dims)
            case "Conv" | "MaxPool" | "AveragePool" | "LpPool" | "FusedConv":
                return self.window(node, dims)
            case "Concat" if node.inputs:
                return self.concatenated(node)
            case "Flatten" if dims is not None:
                axis = ir.attribute(node, "axis")
                at = axis if isinstance(axis, int) else 1
                at += len(dims) if at < 0 else 0
                return product(dims[:at]), product(dims[at:])
            case (
                "FusedMatMul"
                | "MatMulNBits"
                | "SkipLayerNormalization"
                | "BiasGelu"
                | "FastGelu"
                | "Gelu"
                | "QuickGelu"
            ):
                return dims if node.op_type != "MatMulNBits" or dims is None else (*dims[:-1], None)
            case "Split" if dims is not None and len(node.outputs) > 1:
                return self.split(node, dims)
            case _:
                return None

    def split(self, node: ir.Node, dims: tuple[Dim, ...]) -> Dims:
        axis = ir.attribute(node, "axis")
        at = (axis if isinstance(axis, int) else 0) % len(dims)
        sizes = self.constants(node, 1, "split")
        for index, value in enumerate(node.outputs):
            piece: Dim = dims[at].over(Polynomial.number(len(node.outputs))) if dims[at] is not None else None  # type: ignore[union-attr]
            if sizes is not None and index < len(sizes):
                piece = Polynomial.number(sizes[index])
            self.dims[value] = (*dims[:at], piece, *dims[at + 1 :])
        return self.dims[node.outputs[0]]

    def reshaped(self, node: ir.Node, dims: Dims) -> Dims:
        target = self.content(node.inputs[1]) if len(node.inputs) > 1 else None
        if target is None:
            return None
        keep = not ir.attribute(node, "allowzero")
        found: list[Dim] = []
        free: int | None = None
        for axis, dim in enumerate(target):
            number = None if dim is None else dim.constant
            if number == 0 and keep:
                found.append(dims[axis] if dims is not None and axis < len(dims) else None)
            elif number == -1:
                free = axis
                found.append(ONE)
            else:
                found.append(dim)
        total, rest = None if dims is None else product(dims), product(found)
        if free is not None:
            found[free] = None if total is None or rest is None else total.over(rest)
            if rest is not None and rest.constant:
                self.demands.divisible(total, rest.constant)
            elif found[free] is not None and rest is not None:
                self.demands.equal(found[free] * rest, total)  # type: ignore[operator]
        else:
            self.demands.equal(total, rest)
        return tuple(found)

    def window(self, node: ir.Node, dims: Dims) -> Dims:
        """The spatial dims of a convolution or pooling: (size + pads - span) // stride + 1."""
        declared = ir.attribute(node, "kernel_shape")
        weight = self.operand(node, 1) if "Conv" in node.op_type else None
        if isinstance(declared, (list, tuple)):
            kernel = [int(each) for each in declared]
        else:
            sizes = [None if dim is None else dim.constant for dim in (weight or ())[2:]]
            kernel = [size for size in sizes if size is not None]
            if not kernel or len(kernel) < len(sizes):
                return None
        if dims is None or len(dims) != len(kernel) + 2 or ir.attribute(node, "ceil_mode"):
            return None
        count = len(kernel)
        strides, dilations, pads = (
            list(found) if isinstance(found := ir.attribute(node, name), (list, tuple)) and found else [default] * width
            for name, default, width in (("strides", 1, count), ("dilations", 1, count), ("pads", 0, 2 * count))
        )
        padding = ir.attribute(node, "auto_pad")
        same = isinstance(padding, str) and padding.startswith("SAME")
        found_dims: list[Dim] = [dims[0], weight[0] if weight is not None else dims[1]]
        for axis, size in enumerate(dims[2:]):
            stride, span = int(strides[axis]), int(dilations[axis]) * (int(kernel[axis]) - 1) + 1
            if size is None:
                found_dims.append(None)
            elif same:
                found_dims.append((size + Polynomial.number(stride - 1)).over(Polynomial.number(stride)))
            else:
                slack = int(pads[axis]) + int(pads[axis + count]) - span
                self.demands.at_least(size, -slack)
                found_dims.append((size + Polynomial.number(slack)).over(Polynomial.number(stride)) + ONE)
        return tuple(found_dims)

    def concatenated(self, node: ir.Node) -> Dims:
        every = [self.of(value) for value in node.inputs]
        known = [dims for dims in every if dims is not None]
        axis = ir.attribute(node, "axis")
        if not known or not isinstance(axis, int):
            return None
        rank = len(known[0])
        if any(len(dims) != rank for dims in known) or not -rank <= axis < rank:
            return None
        at = axis % rank
        for index in range(len(every)):
            self.rank(node, index, rank)
        joined: Dim = Polynomial.number(0)
        for dims in every:
            joined = None if joined is None or dims is None or dims[at] is None else joined + dims[at]  # type: ignore[operator]
        return tuple(joined if i == at else next((d[i] for d in known if d[i]), None) for i in range(rank))

    # --- contents of shape tensors ---

    def follow(self, node: ir.Node) -> None:
        """Symbolic contents of integer tensors: the sizes that a graph computes from shapes."""
        if node.domain != "" or not node.outputs:
            return
        found: Sequence[Dim] | None = None
        first = self.content(node.inputs[0]) if node.inputs else None
        match node.op_type:
            case "Shape":
                dims = self.operand(node, 0)
                start, end = ir.attribute(node, "start"), ir.attribute(node, "end")
                found = None if dims is None else dims[start if isinstance(start, int) else 0 :]
                if dims is not None and isinstance(end, int):
                    found = dims[start if isinstance(start, int) else 0 : end]
            case "Size":
                dims = self.operand(node, 0)
                found = None if dims is None else [product(dims)]
            case "Cast" | "Identity" | "Unsqueeze" | "Squeeze" | "Reshape":
                found = first if self.type_of(node.outputs[0]).is_integer() else None
            case "Gather" if first is not None:
                at = self.constants(node, 1)
                if at is not None and all(-len(first) <= each < len(first) for each in at):
                    found = [first[each] for each in at]
            case "Concat":
                parts = [self.content(value) for value in node.inputs]
                if all(part is not None for part in parts):
                    found = [each for part in parts for each in part or ()]
            case "Slice" if first is not None:
                bounds = [self.constants(node, 1, "starts"), self.constants(node, 2, "ends"), self.constants(node, 4)]
                if bounds[0] and bounds[1] and (len(node.inputs) < 5 or bounds[2]):
                    found = first[slice(bounds[0][0], bounds[1][0], bounds[2][0] if bounds[2] else None)]
            case "Add" | "Sub" | "Mul" | "Div":
                second = self.content(node.inputs[1])
                if first and second and (len(first) == len(second) or 1 in (len(first), len(second))):
                    size = max(len(first), len(second))
                    pairs = zip(first * (size // len(first)), second * (size // len(second)), strict=True)
                    found = [None if a is None or b is None else _compute(node.op_type, a, b) for a, b in pairs]
        if found is not None and len(found) <= CONTENTS:
            self.contents[node.outputs[0]] = tuple(found)

    # --- equations ---

    def demand(self, node: ir.Node) -> None:
        if node.domain == "ai.onnx.ml":
            self.features(node)
            return
        op = node.op_type
        if op in _BROADCASTING:
            self.broadcast(node)
        elif (rule := _RULES.get(op)) is not None:
            rule(self, node)

    def broadcast(self, node: ir.Node) -> None:
        every = [self.of(value) for value in node.inputs]
        rank = max((len(each) for each in every if each is not None), default=0)
        for index in range(len(every) if rank else 0):
            self.rank(node, index, rank)
        for axis in range(1, rank + 1):
            dims = [each[-axis] for each in every if each is not None and len(each) >= axis]
            known = [dim.constant for dim in dims if dim is not None]
            wide = max((size for size in known if size is not None), default=1)
            open_dims = [dim for dim in dims if dim is not None and dim.constant is None]
            for dim in open_dims:
                if wide > 1:
                    self.demands.equal(dim, Polynomial.number(wide))
                elif dim is not open_dims[0]:
                    self.demands.equal(dim, open_dims[0], preferred=True)

    def matmul(self, node: ir.Node) -> None:
        right = 3 if node.op_type == "QLinearMatMul" else 1
        one, two = self.operand(node, 0), self.operand(node, right)
        for index, other in ((0, two), (right, one)):
            if other is not None:
                self.rank(node, index, max(len(other), 2))
        if not one or not two:
            return
        flips = [bool(ir.attribute(node, name)) and len(d) > 1 for name, d in (("transA", one), ("transB", two))]
        self.demands.equal(one[-2 if flips[0] else -1], two[0] if len(two) == 1 else two[-1 if flips[1] else -2])
        for a, b in zip(one[-3::-1], two[-3::-1], strict=False):
            if a is not None and b is not None and a != ONE and b != ONE:
                self.demands.equal(a, b, preferred=a.constant is None and b.constant is None)

    def gemm(self, node: ir.Node) -> None:
        self.rank(node, 0, 2)
        self.rank(node, 1, 2)
        left, right = (int(bool(ir.attribute(node, name))) for name in ("transA", "transB"))
        self.demands.equal(self.at(node, 0, 1 - left), self.at(node, 1, right))

    def nbits(self, node: ir.Node) -> None:
        width = ir.attribute(node, "K")
        self.rank(node, 0, 2)
        if isinstance(width, int):
            self.demands.equal(self.at(node, 0, -1), Polynomial.number(width))

    def conv(self, node: ir.Node) -> None:
        at = 3 if node.op_type == "QLinearConv" else 1
        weight = self.operand(node, at)
        if weight is None or len(weight) < 3 or weight[1] is None:
            return
        self.rank(node, 0, len(weight))
        group = ir.attribute(node, "group")
        groups = Polynomial.number(group if isinstance(group, int) else 1)
        transposed = node.op_type == "ConvTranspose"
        self.demands.equal(self.at(node, 0, 1), weight[0] if transposed else weight[1] * groups)

    def channels(self, node: ir.Node) -> None:
        self.rank(node, 0, 4)
        size = self.at(node, 1, 0)
        self.demands.equal(self.at(node, 0, 1), size)
        for index in range(2, len(node.inputs)):
            self.demands.equal(self.at(node, index, 0), size)

    def grouped(self, node: ir.Node) -> None:
        self.channels(node)
        groups = ir.attribute(node, "num_groups")
        if isinstance(groups, int):
            self.demands.divisible(self.at(node, 0, 1), groups)

    def normalized(self, node: ir.Node) -> None:
        skip = node.op_type.startswith("Skip")
        scale = self.operand(node, 2 if skip else 1)
        self.rank(node, 0, 3 if skip else max(len(scale or ()) + 1, 2))
        for axis in range(1, len(scale or ()) + 1):
            size = self.at(node, 2 if skip else 1, -axis)
            if size != ONE:
                self.demands.equal(self.at(node, 0, -axis), size)
            if skip:
                self.demands.equal(self.at(node, 1, -axis), size)

    def recurrent(self, node: ir.Node) -> None:
        self.rank(node, 0, 3)
        self.demands.equal(self.at(node, 0, 2), self.at(node, 1, 2))
        batch_first = bool(ir.attribute(node, "layout"))
        batch = self.at(node, 0, 0 if batch_first else 1)
        if node.op_type == "LSTM":
            states: tuple[int, ...] = (5, 6)
        else:
            states = (5,)
        self.rank(node, 4, 1)
        self.demands.equal(self.at(node, 4, 0), batch)
        for index in states:
            self.rank(node, index, 3)
            self.demands.equal(self.at(node, index, 2), self.at(node, 2, 2))
            self.demands.equal(self.at(node, index, 0 if batch_first else 1), batch)
            self.demands.equal(self.at(node, index, 1 if batch_first else 0), self.at(node, 1, 0))

    def concat(self, node: ir.Node) -> None:
        every = [dims for value in node.inputs if (dims := self.of(value)) is not None]
        axis = ir.attribute(node, "axis")
        if not every or not isinstance(axis, int) or any(len(dims) != len(every[0]) for dims in every):
            return
        for index in range(len(every[0])):
            if index != axis % len(every[0]):
                sizes = [dims[index] for dims in every]
                known = next((size for size in sizes if size is not None and size.constant is not None), sizes[0])
                for size in sizes:
                    self.demands.equal(size, known)

    def split_sizes(self, node: ir.Node) -> None:
        axis = ir.attribute(node, "axis")
        dim = self.at(node, 0, axis if isinstance(axis, int) else 0)
        sizes = self.constants(node, 1, "split")
        if sizes is not None:
            self.demands.equal(dim, Polynomial.number(sum(sizes)))
        else:
            self.demands.divisible(dim, len(node.outputs))

    def expand(self, node: ir.Node) -> None:
        target = self.content(node.inputs[1])
        dims = self.operand(node, 0)
        if target is None or dims is None:
            return
        for dim, size in zip(dims[::-1], target[::-1], strict=False):
            if size is not None and (size.constant or 2) > 1:
                self.demands.equal(dim, size, preferred=True)

    def einsum(self, node: ir.Node) -> None:
        equation = ir.attribute(node, "equation")
        if not isinstance(equation, str) or "..." in equation:
            return
        sizes: dict[str, Dim] = {}
        for index, labels in enumerate(equation.replace(" ", "").split("->")[0].split(",")):
            self.rank(node, index, len(labels))
            for axis, label in enumerate(labels):
                size = self.at(node, index, axis)
                known = sizes.setdefault(label, size)
                self.demands.equal(size, known)
                if known is None:
                    sizes[label] = size

    def attention(self, node: ir.Node) -> None:
        """com.microsoft Attention and QAttention: [batch, sequence, width] times [width, 3 * hidden]."""
        self.rank(node, 0, 3)
        self.demands.equal(self.at(node, 0, 2), self.at(node, 1, 0))

    def heads(self, node: ir.Node) -> None:
        """Attention of projected inputs: equal widths of query and key, equal lengths of key and value."""
        query, key = self.operand(node, 0), self.operand(node, 1)
        heads = ir.attribute(node, "num_heads")
        names = ("num_heads", "q_num_heads")
        count = next((n for name in names if isinstance(n := ir.attribute(node, name), int)), heads)
        for index in range(3):
            dims = self.operand(node, index)
            if dims is not None and len(dims) == 3 and isinstance(count, int) and node.op_type != "GroupQueryAttention":
                self.demands.divisible(dims[2], count)
        if query is not None and key is not None and len(query) == len(key):
            self.demands.equal(query[0], key[0])
            if ir.attribute(node, "kv_num_heads") in (None, count):
                self.demands.equal(query[-1], key[-1])
            self.demands.equal(self.at(node, 1, -2), self.at(node, 2, -2))

    def depth(self, node: ir.Node) -> None:
        block = ir.attribute(node, "blocksize")
        self.rank(node, 0, 4)
        if not isinstance(block, int):
            return
        if node.op_type == "DepthToSpace":
            self.demands.divisible(self.at(node, 0, 1), block * block)
        else:
            self.demands.divisible(self.at(node, 0, 2), block)
            self.demands.divisible(self.at(node, 0, 3), block)

    def regions(self, node: ir.Node) -> None:
        self.rank(node, 0, 4)
        self.rank(node, 1, 2)
        self.rank(node, 2, 1)
        self.demands.equal(self.at(node, 1, 1), Polynomial.number(4))
        self.demands.equal(self.at(node, 2, 0), self.at(node, 1, 0))

    def boxes(self, node: ir.Node) -> None:
        self.rank(node, 0, 3)
        self.rank(node, 1, 3)
        self.demands.equal(self.at(node, 0, 2), Polynomial.number(4))
        self.demands.equal(self.at(node, 0, 0), self.at(node, 1, 0))
        self.demands.equal(self.at(node, 0, 1), self.at(node, 1, 2))

    def window_rank(self, node: ir.Node) -> None:
        kernel = ir.attribute(node, "kernel_shape")
        self.rank(node, 0, len(kernel) + 2 if isinstance(kernel, (list, tuple)) else 4)

    def permuted(self, node: ir.Node) -> None:
        order = ir.attribute(node, "perm")
        if isinstance(order, (list, tuple)):
            self.rank(node, 0, len(order))

    def sliced(self, node: ir.Node) -> None:
        indices = self.constants(node, 1)
        axis = ir.attribute(node, "axis")
        if indices:
            self.demands.at_least(self.at(node, 0, axis if isinstance(axis, int) else 0), max(indices) + 1)

    def features(self, node: ir.Node) -> None:
        """ai.onnx.ml: the number of features that the attributes speak of."""
        size = feature_count(node)
        index = 0
        if node.op_type == "ArrayFeatureExtractor":
            at = self.constants(node, 1)
            if at:
                self.rank(node, 0, 2)
                self.demands.at_least(self.at(node, 0, -1), max(at) + 1)
            return
        if node.op_type == "FeatureVectorizer":
            widths = ir.attribute(node, "inputdimensions")
            for index, width in enumerate(widths if isinstance(widths, (list, tuple)) else ()):
                self.rank(node, index, 2)
                self.demands.equal(self.at(node, index, -1), Polynomial.number(int(width)))
            return
        self.rank(node, index, 2)
        if size:
            self.demands.equal(self.at(node, index, -1), Polynomial.number(size))
        if node.outputs and node.op_type in ("Scaler", "Imputer", "Normalizer", "Binarizer"):
            self.dims[node.outputs[0]] = self.operand(node, 0)


def feature_count(node: ir.Node) -> int:
    """The features of a sample by the lengths of the attributes of an ai.onnx.ml operator; 0: they tell nothing."""

    def length(name: str) -> int:
        found = ir.attribute(node, name)
        return len(found) if isinstance(found, (list, tuple)) else 0

    def largest(name: str) -> int:
        found = ir.attribute(node, name)
        return max(map(int, found)) + 1 if isinstance(found, (list, tuple)) and found else 0

    def number(name: str) -> int:
        found = ir.attribute(node, name)
        return found if isinstance(found, int) else 0

    match node.op_type:
        case "Scaler":
            size = max(length("offset"), length("scale"))
            return size if size > 1 else 0
        case "Imputer":
            size = max(length("imputed_value_floats"), length("imputed_value_int64s"))
            return size if size > 1 else 0
        case "LinearRegressor":
            return length("coefficients") // max(number("targets"), 1)
        case "LinearClassifier":
            return length("coefficients") // max(length("intercepts"), 1)
        case "SVMClassifier":
            per_class = ir.attribute(node, "vectors_per_class")
            vectors = sum(map(int, per_class)) if isinstance(per_class, (list, tuple)) else 0
            classes = max(length("classlabels_ints"), length("classlabels_strings"), 1)
            return length("support_vectors") // vectors if vectors else length("coefficients") // classes
        case "SVMRegressor":
            vectors = number("n_supports")
            return length("support_vectors") // vectors if vectors else length("coefficients")
        case "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble":
            return largest("nodes_featureids")
        case _:
            return 0


def _compute(op: str, one: Polynomial, two: Polynomial) -> Polynomial | None:
    match op:
        case "Add":
            return one + two
        case "Sub":
            return one - two
        case "Mul":
            return one * two
        case _:
            return one.over(two) if two.terms else None


_RULES: Final[Mapping[str, Callable[[_Collector, ir.Node], None]]] = {
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"), _Collector.matmul),
    **dict.fromkeys(("DynamicQuantizeMatMul", "MatMulIntegerToFloat"), _Collector.matmul),
    **dict.fromkeys(("Gemm", "FusedGemm"), _Collector.gemm),
    "MatMulNBits": _Collector.nbits,
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "FusedConv"), _Collector.conv),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _Collector.channels),
    "GroupNormalization": _Collector.grouped,
    **dict.fromkeys(("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"), _Collector.normalized),
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _Collector.normalized),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _Collector.recurrent),
    "Concat": _Collector.concat,
    "Split": _Collector.split_sizes,
    "Expand": _Collector.expand,
    "Einsum": _Collector.einsum,
    **dict.fromkeys(("QAttention", "DecoderMaskedSelfAttention"), _Collector.attention),
    **dict.fromkeys(("MultiHeadAttention", "GroupQueryAttention"), _Collector.heads),
    "Attention": lambda collector, node: collector.heads(node) if node.domain == "" else collector.attention(node),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _Collector.depth),
    "RoiAlign": _Collector.regions,
    "NonMaxSuppression": _Collector.boxes,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _Collector.window_rank),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "Resize", "LRN"), _Collector.window_rank),
    "Transpose": _Collector.permuted,
    "Gather": _Collector.sliced,
}
