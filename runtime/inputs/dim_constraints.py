"""Collect what the sizes of a model's inputs must satisfy: the weights and constants that they meet, forward.

Operators whose inference loses sums and products of symbols have a rule here; all others go through onnx's own
inference, where every expression stands for one name, so that what is equal stays equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ... import ir
from ...ir.standard.schema_inference import TensorFacts, infer_results, result_type
from .dim_solver import Equations, Size, product

MOST_ELEMENTS = 64  # of an integer tensor whose elements are followed
MOST_NODES = 200_000
_WHOLE = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


@dataclass(frozen=True)
class Known:
    """What is known of a tensor: element type, dims (None: not even the rank), elements of small integer tensors."""

    dtype: ir.DataType | None = None
    dims: tuple[Size, ...] | None = None
    elements: tuple[Size | None, ...] | None = None

    @property
    def rank(self) -> int | None:
        return None if self.dims is None else len(self.dims)


Dims: TypeAlias = tuple[Size, ...]
Rule: TypeAlias = Callable[["Collector", ir.Node, Sequence["Known | None"]], "Sequence[Known | None] | None"]
_RULES: dict[tuple[str, str], Rule] = {}
_MICROSOFT, _ML = "com.microsoft", "ai.onnx.ml"


def _rule(names: str, domain: str = "") -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        for name in names.split():
            _RULES[domain, name] = function
        return function

    return register


class Collector:
    """Walks a model forward from its inputs with symbolic dims; `equations` holds what it meets."""

    def __init__(self, model: ir.Model, equations: Equations) -> None:
        self.model = model
        self.equations = equations
        self.known: dict[ir.Value, Known] = {}
        self.named: dict[str, Size] = {}
        self.names: dict[Size, str] = {}
        self.budget = MOST_NODES

    def run(self, inputs: Mapping[ir.Value, Known]) -> Equations:
        self.known.update(inputs)
        self._walk(self.model.graph)
        return self.equations

    def _walk(self, graph: ir.Graph) -> None:
        for node in graph:
            self.budget -= 1
            if self.budget < 0:
                return
            inputs = [None if value is None else self.of(value) for value in node.inputs]
            results = self._results(node, inputs)
            for index, value in enumerate(node.outputs):
                result = results[index] if index < len(results) else None
                self.known[value] = self._completed(node, index, value, inputs, result)

    def _results(self, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None]:
        function = self.model.functions.get(node.op_identifier())
        if function is not None:
            for value, known in zip(function.inputs, inputs, strict=False):
                self.known[value] = known or Known()
            self._walk(function.graph)
            return [self.known.get(value) for value in function.outputs]
        rule = _RULES.get((node.domain, node.op_type))
        results = None
        if rule is not None:
            try:
                results = rule(self, node, inputs)
            except (IndexError, ValueError, TypeError, ZeroDivisionError, AssertionError, OverflowError):
                results = None  # the node breaks the rules of its operator: sizes are not what is wrong with it
        return self._inferred(node, inputs) if results is None else results

    def _completed(
        self, node: ir.Node, index: int, value: ir.Value, inputs: Sequence[Known | None], result: Known | None
    ) -> Known:
        result = result or Known()
        dtype, dims = result.dtype, result.dims
        if dtype is None:
            dtype = value.dtype or self._result_type(node, index, inputs)
        if dims is None and value.shape is not None and not value.is_graph_output():
            dims = self.declared(value.shape.dims)
        if dims is not None:
            dims = tuple(map(self.equations.bounded, dims))
        return Known(dtype, dims, result.elements)

    def _result_type(self, node: ir.Node, index: int, inputs: Sequence[Known | None]) -> ir.DataType | None:
        source = result_type(node, index)
        if source.fixed is not None:
            return source.fixed
        given = (inputs[i] for i in source.inputs if i < len(inputs))
        return next((each.dtype for each in given if each is not None and each.dtype is not None), None)

    def declared(self, dims: Sequence[int | ir.SymbolicDim]) -> Dims:
        """Declared dims of inner values: numbers are believed, and so are names that the inputs have."""
        found = []
        for dim in dims:
            if isinstance(dim, int):
                found.append(Size.number(dim) if dim >= 0 else self.equations.unknown())
            else:
                found.append(self.named.get(str(dim.value)) or self.equations.unknown())
        return tuple(found)

    def of(self, value: ir.Value) -> Known:
        if value not in self.known:
            self.known[value] = self._constant(value)
        return self.known[value]

    def _constant(self, value: ir.Value) -> Known:
        tensor = ir.constant_tensor(value)
        if tensor is None and value.is_initializer():
            tensor = value.const_value  # a weight that is also an input: given as it is
        if tensor is None:
            dims = None if value.shape is None else self.declared(value.shape.dims)
            return Known(value.dtype, dims)
        dims = tuple(Size.number(int(dim)) for dim in tensor.shape.numpy())
        elements = None
        if tensor.size <= MOST_ELEMENTS and tensor.dtype in _WHOLE:
            elements = tuple(Size.number(int(each)) for each in np.asarray(tensor.numpy()).reshape(-1))
        return Known(tensor.dtype, dims, elements)

    # --- onnx's own inference -----------------------------------------------------------------------------------------

    def _inferred(self, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None]:
        if any(each is not None and each.dtype is None for each in inputs):
            return []
        facts = [
            None
            if each is None or each.dtype is None
            else TensorFacts(each.dtype, None if each.dims is None else tuple(map(self._name, each.dims)))
            for each in inputs
        ]
        contents = {index: array for index, each in enumerate(inputs) if (array := self._content(each)) is not None}
        return [
            None
            if each is None
            else Known(each.dtype, None if each.dims is None else tuple(map(self._named, each.dims)))
            for each in infer_results(node, facts, contents)
        ]

    def _content(self, known: Known | None) -> ir.Array | None:
        if known is None or known.elements is None or known.dims is None or known.dtype is None:
            return None
        numbers = [None if each is None else each.constant for each in known.elements]
        dims = [dim.constant for dim in known.dims]
        if None in numbers or None in dims:
            return None
        return np.array(numbers, dtype=known.dtype.numpy()).reshape([dim or 0 for dim in dims])

    def _name(self, size: Size) -> int | str | None:
        number = size.constant
        if number is not None:
            return number if number >= 0 else None
        if size not in self.names:
            self.names[size] = f"s{len(self.names)}"
            self.named[f"\0{self.names[size]}"] = size
        return self.names[size]

    def _named(self, dim: int | str | None) -> Size:
        if isinstance(dim, int):
            return Size.number(dim)
        return self.named.get(f"\0{dim}") or self.equations.unknown()

    # --- what rules use -----------------------------------------------------------------------------------------------

    def equal(self, one: Size, two: Size | int) -> None:
        self.equations.require_equal(one, Size.number(two) if isinstance(two, int) else two)

    def broadcast(self, *shapes: Dims | None) -> Dims | None:
        """The dims of what is broadcast together; dims that meet must be alike."""
        known = [dims for dims in shapes if dims is not None]
        if len(known) < len(shapes) or not known:
            return None
        rank = max(map(len, known))
        result = []
        for axis in range(-rank, 0):
            met = [dims[axis] for dims in known if len(dims) >= -axis]
            best = met[0]
            for each in met[1:]:
                self.equations.require_alike(best, each)
                if best.constant == 1 or (each.constant not in (None, 1) and best.constant is None):
                    best = each
            result.append(best)
        return tuple(result)

    def fits_into(self, small: Known | None, dims: Dims | None) -> None:
        """`small` is broadcast to `dims` and must not make them larger."""
        if small is None or small.dims is None or dims is None:
            return
        for one, two in zip(reversed(small.dims), reversed(dims), strict=False):
            if one.constant in (None, 1):
                self.equations.require_alike(one, two)
            else:
                self.equal(one, two)


def _ints(node: ir.Node, name: str, default: Sequence[int] = ()) -> list[int]:
    value = ir.attribute(node, name)
    return [int(each) for each in value] if isinstance(value, (tuple, list)) else list(default)


def _int(node: ir.Node, name: str, default: int = 0) -> int:
    value = ir.attribute(node, name)
    return value if isinstance(value, int) else default


def _text(node: ir.Node, name: str, default: str = "") -> str:
    value = ir.attribute(node, name)
    return value if isinstance(value, str) else default


def _floats(node: ir.Node, name: str) -> int:
    """How many numbers an attribute has."""
    value = ir.attribute(node, name)
    return len(value) if isinstance(value, (tuple, list)) else 0


def _numbers(known: Known | None) -> list[int] | None:
    """The elements of a constant integer tensor."""
    if known is None or known.elements is None:
        return None
    numbers = [each.constant for each in known.elements if each is not None]
    return None if len(numbers) < len(known.elements) or None in numbers else [int(each or 0) for each in numbers]


def _dims(known: Known | None) -> Dims | None:
    return None if known is None else known.dims


def _input(inputs: Sequence[Known | None], index: int) -> Known | None:
    return inputs[index] if index < len(inputs) else None


# --- elements of small integer tensors --------------------------------------------------------------------------------


@_rule("Shape")
def _shape(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None:
        return [Known(ir.DataType.INT64, (c.equations.unknown(),))]
    end = ir.attribute(node, "end")
    part = dims[_int(node, "start") : end if isinstance(end, int) else None]
    return [Known(ir.DataType.INT64, (Size.number(len(part)),), part)]


@_rule("Size")
def _size(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    return [Known(ir.DataType.INT64, (), None if dims is None else (c.equations.bounded(product(dims)),))]


@_rule("Identity Cast CastLike")
def _same(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    dtype = x.dtype
    if node.op_type == "Cast":
        dtype = ir.DataType(_int(node, "to"))
    elif node.op_type == "CastLike":
        dtype = None if inputs[1] is None else inputs[1].dtype
    return [Known(dtype, x.dims, x.elements)]


@_rule("Constant")
def _constant(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    return [c._constant(node.outputs[0])]


@_rule("ConstantOfShape")
def _constant_of_shape(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    elements = None if inputs[0] is None else inputs[0].elements
    return None if elements is None else [Known(None, _sizes(c, elements))]


def _sizes(c: Collector, elements: Sequence[Size | None]) -> Dims:
    return tuple(c.equations.unknown() if each is None else each for each in elements)


_ARITHMETIC: Mapping[str, Callable[[Equations, Size, Size], Size | None]] = {
    "Add": lambda e, a, b: a + b,
    "Sub": lambda e, a, b: a - b,
    "Mul": lambda e, a, b: a * b,
    "Div": lambda e, a, b: _quotient(e, a, b),
    "Equal": lambda e, a, b: _compared(a, b, lambda one, two: one == two),
    "Less": lambda e, a, b: _compared(a, b, lambda one, two: one < two),
    "LessOrEqual": lambda e, a, b: _compared(a, b, lambda one, two: one <= two),
    "Greater": lambda e, a, b: _compared(a, b, lambda one, two: one > two),
    "GreaterOrEqual": lambda e, a, b: _compared(a, b, lambda one, two: one >= two),
    "And": lambda e, a, b: _compared(a, b, lambda one, two: bool(one and two)),
    "Or": lambda e, a, b: _compared(a, b, lambda one, two: bool(one or two)),
}


def _compared(one: Size, two: Size, holds: Callable[[int, int], bool]) -> Size | None:
    left, right = one.constant, two.constant
    return None if left is None or right is None else Size.number(int(holds(left, right)))


def _quotient(e: Equations, one: Size, two: Size) -> Size | None:
    number = two.constant
    return one.divided(two) if number is None else e.floor_div(one, number) if number > 0 else None


@_rule(
    "Add Sub Mul Div Pow Mod And Or Xor Equal Less Greater LessOrEqual GreaterOrEqual Where Min Max Sum Mean BitShift "
    "BitwiseAnd BitwiseOr BitwiseXor"
)
def _elementwise(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    given = [each for each in inputs if each is not None]
    dims = c.broadcast(*(each.dims for each in given))
    elements = None
    if node.op_type in _ARITHMETIC and len(given) == 2 and dims is not None and len(dims) <= 1:
        elements = _computed(c.equations, node.op_type, given[0].elements, given[1].elements)
    return [Known(None, dims, elements)]


def _computed(
    e: Equations, op: str, one: Sequence[Size | None] | None, two: Sequence[Size | None] | None
) -> tuple[Size | None, ...] | None:
    if one is None or two is None or (len(one) != len(two) and 1 not in (len(one), len(two))):
        return None
    count = max(len(one), len(two))
    pairs = zip(list(one) * (count // len(one)), list(two) * (count // len(two)), strict=True)
    return tuple(
        None if a is None or b is None or (found := _ARITHMETIC[op](e, a, b)) is None else e.bounded(found)
        for a, b in pairs
    )


@_rule("Not")
def _not(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    numbers = _numbers(inputs[0])
    elements = None if numbers is None else tuple(Size.number(int(not each)) for each in numbers)
    return [Known(ir.DataType.BOOL, _dims(inputs[0]), elements)]


@_rule("PRelu")
def _prelu(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    c.fits_into(inputs[1], _dims(inputs[0]))
    return [inputs[0]]


# --- layout -----------------------------------------------------------------------------------------------------------


@_rule("Transpose")
def _transpose(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None:
        return None
    return [Known(None, tuple(dims[axis] for axis in _ints(node, "perm", range(len(dims))[::-1])))]


@_rule("Reshape")
def _reshape(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    wanted: Sequence[Size | None] | None
    if len(inputs) > 1 and inputs[1] is not None:
        wanted = inputs[1].elements
    else:
        wanted = [Size.number(each) for each in _ints(node, "shape")] or None
    if wanted is None:
        return None
    keeps_zero = not _int(node, "allowzero")
    target: list[Size] = []
    open_axis: int | None = None
    for axis, each in enumerate(wanted):
        number = None if each is None else each.constant
        if number == 0 and keeps_zero:
            target.append(c.equations.unknown() if x.dims is None else x.dims[axis])
        elif number == -1:
            open_axis = axis
            target.append(Size.number(1))
        else:
            target.append(c.equations.unknown() if each is None else each)
    elements = x.elements if len(target) == 1 else None
    if x.dims is not None:
        total, rest = c.equations.bounded(product(x.dims)), c.equations.bounded(product(target))
        if open_axis is None:
            c.equal(*_reduced_fraction(total, rest))
        else:
            target[open_axis] = _share(c, *_reduced_fraction(total, rest))
    elif open_axis is not None:
        target[open_axis] = c.equations.unknown()
    return [Known(x.dtype, tuple(target), elements)]


def _reduced_fraction(one: Size, two: Size) -> tuple[Size, Size]:
    """The two without the symbols that are factors of both."""
    for name in two.symbols:
        symbol = Size.symbol(name)
        while (left := one.divided(symbol)) is not None and (right := two.divided(symbol)) is not None:
            if not left.terms or not right.terms:
                break
            one, two = left, right
    return one, two


def _share(c: Collector, total: Size, rest: Size) -> Size:
    whole = total.divided(rest)
    if whole is not None:
        return whole
    number = rest.constant
    if number is None:
        return c.equations.unknown()
    c.equations.require_multiple(total, number)
    return c.equations.floor_div(total, number)


@_rule("Flatten")
def _flatten(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None:
        return [Known(None, (c.equations.unknown(), c.equations.unknown()))]
    axis = _int(node, "axis", 1)
    axis += len(dims) if axis < 0 else 0
    return [Known(None, (product(dims[:axis]), product(dims[axis:])))]


@_rule("Unsqueeze Squeeze")
def _squeeze(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    axes = _numbers(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else _ints(node, "axes") or None
    if x.dims is None or (axes is None and node.op_type == "Unsqueeze"):
        return None
    if node.op_type == "Squeeze":
        if axes is None:
            return [Known(x.dtype, tuple(dim for dim in x.dims if dim.constant != 1), x.elements)]
        dropped = {axis % len(x.dims) for axis in axes}
        for axis in dropped:
            c.equal(x.dims[axis], 1)
        return [Known(x.dtype, tuple(dim for axis, dim in enumerate(x.dims) if axis not in dropped), x.elements)]
    assert axes is not None
    rank = len(x.dims) + len(axes)
    added = {axis % rank for axis in axes}
    rest = iter(x.dims)
    dims = tuple(Size.number(1) if axis in added else next(rest) for axis in range(rank))
    return [Known(x.dtype, dims, x.elements if rank == 1 else None)]


@_rule("Concat")
def _concat(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    shapes = [_dims(each) for each in inputs]
    known = [dims for dims in shapes if dims is not None]
    if not known:
        return None
    axis = _int(node, "axis", 1) % len(known[0])
    for dims in known[1:]:
        for index, (one, two) in enumerate(zip(known[0], dims, strict=True)):
            if index != axis:
                c.equal(one, two)
    along = c.equations.unknown()
    if len(known) == len(shapes):
        along = Size(())
        for dims in known:
            along = along + dims[axis]
    result = list(known[0])
    for index, dim in enumerate(result):
        result[index] = next((d[index] for d in known if d[index].constant is not None), dim)
    result[axis] = along
    elements = None
    parts = [None if each is None else each.elements for each in inputs]
    if len(result) == 1 and all(part is not None for part in parts):
        elements = tuple(each for part in parts for each in part or ())
    elif len(result) == 1:  # what is known stays known beside what is not
        lengths = [None if dims is None else dims[0].constant for dims in shapes]
        if None not in lengths and sum(length or 0 for length in lengths) <= MOST_ELEMENTS:
            elements = tuple(
                each
                for part, length in zip(parts, lengths, strict=True)
                for each in (part if part is not None else [None] * (length or 0))
            )
    return [Known(None, tuple(result), elements)]


@_rule("Split")
def _split(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None:
        return None
    axis = _int(node, "axis") % len(dims)
    given = len(inputs) > 1 and inputs[1] is not None
    sizes = _numbers(inputs[1]) if given else _ints(node, "split") or None
    count = len(node.outputs)
    if sizes is not None:
        c.equal(dims[axis], sum(sizes))
        parts = [Size.number(size) for size in sizes]
    elif given:
        parts = [c.equations.unknown() for _ in node.outputs]
    else:
        c.equations.require_multiple(dims[axis], count)
        parts = [c.equations.floor_div(dims[axis], count)] * count
    return [Known(None, (*dims[:axis], part, *dims[axis + 1 :])) for part in parts]


@_rule("Slice")
def _slice(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    if x.dims is None:
        return None
    if len(inputs) > 1:
        starts, ends = _numbers(inputs[1]), _numbers(inputs[2])
        axes = _numbers(_input(inputs, 3)) if _input(inputs, 3) is not None else list(range(len(starts or ())))
        steps = _numbers(_input(inputs, 4)) if _input(inputs, 4) is not None else [1] * len(starts or ())
    else:
        starts, ends = _ints(node, "starts"), _ints(node, "ends")
        axes, steps = _ints(node, "axes", range(len(starts))), [1] * len(starts)
    if axes is None or starts is None or ends is None or steps is None:
        touched = {axis % len(x.dims) for axis in axes} if axes is not None else set(range(len(x.dims)))
        return [Known(None, tuple(c.equations.unknown() if i in touched else dim for i, dim in enumerate(x.dims)))]
    dims = list(x.dims)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        dims[axis] = _sliced(c, dims[axis], start, end, step)
    elements = None
    if x.elements is not None and len(dims) == 1:
        elements = tuple(x.elements[slice(starts[0], None if abs(ends[0]) > 1 << 30 else ends[0], steps[0])])
    return [Known(None, tuple(dims), elements)]


def _sliced(c: Collector, dim: Size, start: int, end: int, step: int) -> Size:
    number = dim.constant
    if number is not None:
        return Size.number(len(range(*slice(start, None if abs(end) > 1 << 30 else end, step).indices(number))))
    if step < 0:
        return dim if step == -1 and start == -1 and end < -(1 << 30) else c.equations.unknown()
    c.equations.require_least(dim, start + 1 if start >= 0 else -start)
    first = Size.number(start) if start >= 0 else dim + start
    if end > 1 << 30:
        last = dim
    elif end < 0:
        last = dim + end
    else:
        c.equations.require_least(dim, end)  # a slice that ends before its end is legal, and no typical use
        last = Size.number(end)
    return c.equations.floor_div(last - first + (step - 1), step)


@_rule("Gather")
def _gather(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, indices = inputs[0], inputs[1]
    assert x is not None and indices is not None
    if x.dims is None or indices.dims is None:
        return None
    axis = _int(node, "axis") % len(x.dims)
    numbers = _numbers(indices)
    elements = None
    if numbers:
        c.equations.require_least(x.dims[axis], max(max(numbers) + 1, -min(numbers)))
        if x.elements is not None and len(x.dims) == 1 and len(indices.dims) <= 1:
            elements = tuple(x.elements[number] for number in numbers)
    return [Known(x.dtype, (*x.dims[:axis], *indices.dims, *x.dims[axis + 1 :]), elements)]


@_rule("Expand")
def _expand(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    elements = None if inputs[1] is None else inputs[1].elements
    if elements is None:
        return None
    return [Known(None, c.broadcast(_dims(inputs[0]), _sizes(c, elements)))]


@_rule("Tile")
def _tile(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    repeats = None if inputs[1] is None else inputs[1].elements
    if dims is None or repeats is None:
        return None
    return [Known(None, tuple(dim * each for dim, each in zip(dims, _sizes(c, repeats), strict=True)))]


@_rule("Pad")
def _pad(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    pads = _numbers(inputs[1]) if len(inputs) > 1 else _ints(node, "pads")
    if dims is None or pads is None:
        return None
    axes = _numbers(_input(inputs, 3)) if _input(inputs, 3) is not None else list(range(len(dims)))
    if axes is None:
        return None
    result = list(dims)
    for index, axis in enumerate(axes):
        before, after = pads[index], pads[index + len(axes)]
        if _text(node, "mode", "constant") == "reflect":
            c.equations.require_least(dims[axis], max(before, after) + 1)
        c.equations.require_least(dims[axis] + (before + after), 2)
        result[axis] = dims[axis] + (before + after)
    return [Known(None, tuple(result))]


@_rule("Resize Upsample")
def _resize(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None or ir.attribute(node, "axes") is not None:
        return None
    sizes = inputs[3] if len(inputs) > 3 else None
    if sizes is not None:
        return None if sizes.elements is None else [Known(None, _sizes(c, sizes.elements))]
    index = 2 if len(inputs) > 2 else 1
    scales = ir.constant(node.inputs[index]) if len(node.inputs) > index else None
    if scales is None:
        given = ir.attribute(node, "scales")
        scales = np.asarray(given) if isinstance(given, tuple) else None
    if scales is None or len(scales) != len(dims):
        return [Known(None, tuple(c.equations.unknown() for _ in dims))]
    result = []
    for dim, scale in zip(dims, np.asarray(scales, dtype=np.float64), strict=True):
        if scale == round(scale):
            result.append(dim * int(scale))
        elif (1 / scale) == round(1 / scale):
            result.append(c.equations.floor_div(dim, round(1 / scale)))
        else:
            result.append(c.equations.unknown())
    return [Known(None, tuple(result))]


@_rule("DepthToSpace SpaceToDepth")
def _blocks(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None:
        return None
    block = _int(node, "blocksize", 1)
    n, ch, h, w = dims
    if node.op_type == "DepthToSpace":
        c.equations.require_multiple(ch, block * block)
        return [Known(None, (n, c.equations.floor_div(ch, block * block), h * block, w * block))]
    c.equations.require_multiple(h, block)
    c.equations.require_multiple(w, block)
    return [Known(None, (n, ch * block * block, *(c.equations.floor_div(each, block) for each in (h, w))))]


# --- products and convolutions ----------------------------------------------------------------------------------------


@_rule("MatMul MatMulInteger QLinearMatMul")
def _matmul(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    other = inputs[3] if node.op_type == "QLinearMatMul" else inputs[1]
    return [Known(None, _product(c, _dims(inputs[0]), _dims(other)))]


@_rule("MatMulIntegerToFloat DynamicQuantizeMatMul TransposeMatMul FusedMatMul", _MICROSOFT)
def _fused_matmul(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    one, two = _dims(inputs[0]), _dims(inputs[1])
    if one is not None and _int(node, "transA"):
        one = (*one[:-2], one[-1], one[-2])
    if two is not None and _int(node, "transB"):
        two = (*two[:-2], two[-1], two[-2])
    return [Known(None if inputs[0] is None else inputs[0].dtype, _product(c, one, two))]


def _product(c: Collector, one: Dims | None, two: Dims | None) -> Dims | None:
    if one is None or two is None:
        return None
    c.equal(one[-1], two[-2] if len(two) > 1 else two[0])
    batch = c.broadcast(one[:-2], two[:-2]) or ()
    return (*batch, *(one[-2:-1]), *(two[-1:] if len(two) > 1 else ()))


@_rule("Gemm")
def _gemm(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    a, b = _dims(inputs[0]), _dims(inputs[1])
    if a is None or b is None:
        return None
    rows, inner = (a[1], a[0]) if _int(node, "transA") else (a[0], a[1])
    depth, columns = (b[1], b[0]) if _int(node, "transB") else (b[0], b[1])
    c.equal(inner, depth)
    c.fits_into(_input(inputs, 2), (rows, columns))
    return [Known(None, (rows, columns))]


@_rule("FusedGemm", _MICROSOFT)
def _fused_gemm(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    return _gemm(c, node, inputs)


@_rule("MatMulNBits MatMulBnb4 MatMulFpQ4", _MICROSOFT)
def _matmul_bits(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    if x is None or x.dims is None:
        return None
    c.equal(x.dims[-1], _int(node, "K"))
    return [Known(x.dtype, (*x.dims[:-1], Size.number(_int(node, "N"))))]


@_rule("Einsum")
def _einsum(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    left, arrow, right = _text(node, "equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if "." in left or len(terms) != len(inputs):
        return None
    labels: dict[str, Size] = {}
    for term, known in zip(terms, inputs, strict=True):
        dims = _dims(known)
        if dims is None:
            continue
        for label, dim in zip(term, dims, strict=True):
            c.equal(labels.setdefault(label, dim), dim)
            labels[label] = dim if labels[label].constant is None else labels[label]
    if not arrow:
        right = "".join(sorted(label for label in set(left) - {","} if left.count(label) == 1))
    return [Known(None, tuple(labels.get(label) or c.equations.unknown() for label in right))]


def _window(c: Collector, node: ir.Node, dims: Dims, kernel: Sequence[int], *, ceil: bool) -> Dims:
    """The spatial dims after a window has gone over them."""
    strides = _ints(node, "strides", [1] * len(dims))
    dilations = _ints(node, "dilations", [1] * len(dims))
    pads = _ints(node, "pads", [0] * 2 * len(dims))
    auto = _text(node, "auto_pad", "NOTSET")
    result = []
    for axis, dim in enumerate(dims):
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        if auto.startswith("SAME"):
            result.append(c.equations.floor_div(dim + (strides[axis] - 1), strides[axis]))
            continue
        padded = dim if auto == "VALID" else dim + (pads[axis] + pads[axis + len(dims)])
        c.equations.require_least(padded - (extent - 1), 1)
        reach = padded - extent + (strides[axis] - 1 if ceil else 0)
        c.equations.require_least(padded, extent)
        result.append(c.equations.floor_div(reach, strides[axis]) + 1)
    return tuple(result)


@_rule("Conv ConvInteger QLinearConv")
def _conv(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, w = _dims(inputs[0]), _dims(inputs[3] if node.op_type == "QLinearConv" else inputs[1])
    if x is None or w is None:
        return None
    c.equal(x[1], w[1] * _int(node, "group", 1))
    kernel = [dim.constant for dim in w[2:]]
    if None in kernel:
        return [Known(None, (x[0], w[0], *(c.equations.unknown() for _ in x[2:])))]
    return [Known(None, (x[0], w[0], *_window(c, node, x[2:], [each or 1 for each in kernel], ceil=False)))]


@_rule("FusedConv QLinearConv NhwcFusedConv", _MICROSOFT)
def _fused_conv(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    if node.op_type == "NhwcFusedConv" or _int(node, "channels_last"):
        return None
    w = inputs[3] if node.op_type == "QLinearConv" else inputs[1]
    x = inputs[0]
    if x is None or x.dims is None or w is None or w.dims is None:
        return None
    c.equal(x.dims[1], w.dims[1] * _int(node, "group", 1))
    kernel = [dim.constant or 1 for dim in w.dims[2:]]
    return [Known(x.dtype, (x.dims[0], w.dims[0], *_window(c, node, x.dims[2:], kernel, ceil=False)))]


@_rule("MaxPool AveragePool LpPool")
def _pool(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    if dims is None:
        return None
    spatial = _window(c, node, dims[2:], _ints(node, "kernel_shape"), ceil=bool(_int(node, "ceil_mode")))
    dtype = None if inputs[0] is None else inputs[0].dtype
    return [Known(dtype, (*dims[:2], *spatial)), Known(ir.DataType.INT64, (*dims[:2], *spatial))]


@_rule("ConvTranspose")
def _conv_transpose(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, w = _dims(inputs[0]), _dims(inputs[1])
    if x is None or w is None:
        return None
    c.equal(x[1], w[0])
    channels = w[1] * _int(node, "group", 1)
    count = len(x) - 2
    kernel = [dim.constant for dim in w[2:]]
    auto = _text(node, "auto_pad", "NOTSET")
    if None in kernel or ir.attribute(node, "output_shape") is not None or auto not in ("NOTSET", "VALID"):
        return [Known(None, (x[0], channels, *(c.equations.unknown() for _ in range(count))))]
    strides, dilations = _ints(node, "strides", [1] * count), _ints(node, "dilations", [1] * count)
    pads = _ints(node, "pads", [0] * 2 * count)
    extra = _ints(node, "output_padding", [0] * count)
    spatial = tuple(
        (x[2 + i] - 1) * strides[i] + (extra[i] + ((kernel[i] or 1) - 1) * dilations[i] + 1 - pads[i] - pads[i + count])
        for i in range(count)
    )
    return [Known(None, (x[0], channels, *spatial))]


# --- normalization ----------------------------------------------------------------------------------------------------


@_rule("BatchNormalization InstanceNormalization")
def _channel_norm(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    if x.dims is not None:
        for scale in inputs[1:]:
            if (dims := _dims(scale)) is not None and len(x.dims) > 1:
                c.equal(x.dims[1], dims[0])
    return [x]


@_rule("GroupNormalization")
def _group_norm(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, scale = inputs[0], _dims(inputs[1])
    assert x is not None
    groups = _int(node, "num_groups", 1)
    if x.dims is not None:
        c.equations.require_multiple(x.dims[1], groups)
        if scale is not None and (node.version or 21) >= 21:
            c.equal(x.dims[1], scale[0])
    return [x]


@_rule("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
def _layer_norm(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    for each in inputs[1:]:
        c.fits_into(each, x.dims)
    return [Known(x.dtype, x.dims)]


@_rule("SkipLayerNormalization SkipSimplifiedLayerNormalization", _MICROSOFT)
def _skip_norm(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    for each in inputs[1:]:
        c.fits_into(each, x.dims)
    return [x, None, None, x]


@_rule(
    "FastGelu BiasGelu Gelu QuickGelu BiasSplitGelu Add QLinearAdd QLinearMul SimplifiedLayerNormalization "
    "LayerNormalization QLinearSigmoid QLinearLeakyRelu Inverse",
    _MICROSOFT,
)
def _microsoft_elementwise(
    c: Collector, node: ir.Node, inputs: Sequence[Known | None]
) -> Sequence[Known | None] | None:
    x = inputs[0]
    assert x is not None
    other = inputs[3] if node.op_type in ("QLinearAdd", "QLinearMul") else _input(inputs, 1)
    dims = x.dims
    if other is not None and not node.op_type.startswith(("QLinearS", "QLinearL")):
        dims = c.broadcast(x.dims, other.dims)
    return [Known(x.dtype, dims)]


# --- attention, recurrence --------------------------------------------------------------------------------------------


@_rule("Attention QAttention DecoderMaskedSelfAttention", _MICROSOFT)
def _fused_attention(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, w = inputs[0], _dims(inputs[1])
    assert x is not None
    if x.dims is None or w is None:
        return None
    c.equal(x.dims[2], w[0])
    sizes = _ints(node, "qkv_hidden_sizes")
    hidden = Size.number(sizes[2]) if sizes else c.equations.floor_div(w[1], 3)
    return [Known(x.dtype if node.op_type != "QAttention" else ir.DataType.FLOAT, (*x.dims[:2], hidden))]


@_rule("MultiHeadAttention GroupQueryAttention", _MICROSOFT)
def _query_attention(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    q, k, v = (_input(inputs, index) for index in range(3))
    assert q is not None
    if q.dims is None or len(q.dims) != 3:
        return None
    c.equations.require_multiple(q.dims[2], _int(node, "num_heads", 1))
    grouped = node.op_type == "GroupQueryAttention"
    for each in (k, v):
        if each is not None and each.dims is not None and len(each.dims) == 3:
            c.equal(q.dims[0], each.dims[0])
            if grouped:
                c.equal(q.dims[1], each.dims[1])
                c.equations.require_multiple(each.dims[2], _int(node, "kv_num_heads", 1))
    if (
        k is not None
        and v is not None
        and k.dims is not None
        and v.dims is not None
        and len(k.dims) == len(v.dims) == 3
    ):
        c.equal(k.dims[1], v.dims[1])
        if not grouped:
            c.equal(q.dims[2], k.dims[2])
        hidden = q.dims[2] if grouped else v.dims[2]
    else:
        hidden = q.dims[2] if k is not None else c.equations.unknown()
    return [Known(q.dtype, (*q.dims[:2], hidden))]


@_rule("Attention")
def _attention(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    q, k, v = (_dims(inputs[index]) for index in range(3))
    if q is None or k is None or v is None or not len(q) == len(k) == len(v):
        return None
    past = _dims(_input(inputs, 4))
    c.equal(q[0], k[0])
    c.equal(k[0], v[0])
    c.equal(k[-2], v[-2])
    total = k[-2] if past is None else k[-2] + past[2]
    mask = _dims(_input(inputs, 3))
    if mask is not None:
        c.equations.require_alike(mask[-1], total)
        c.equations.require_alike(mask[-2], q[-2])
        if len(mask) == 4:
            c.equations.require_alike(mask[0], q[0])
    heads, kv_heads = _int(node, "q_num_heads", 1), _int(node, "kv_num_heads", 1)
    if len(q) == 4:
        c.equal(q[3], k[3])
        return [Known(None, (*q[:3], v[3]))]
    c.equations.require_multiple(q[2], heads)
    c.equal(q[2] * kv_heads, k[2] * heads)
    c.equations.require_multiple(v[2], kv_heads)
    return [Known(None, (*q[:2], c.equations.floor_div(v[2] * heads, kv_heads)))]


@_rule("LSTM GRU RNN")
def _recurrent(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, w, r = (_dims(inputs[index]) for index in range(3))
    if x is None:
        return None
    batch_first = bool(_int(node, "layout"))
    length, batch = (x[1], x[0]) if batch_first else (x[0], x[1])
    if w is not None:
        c.equal(x[2], w[2])
    size = _int(node, "hidden_size")
    hidden = Size.number(size) if size else r[2] if r is not None else c.equations.unknown()
    directions = Size.number(2 if _text(node, "direction", "forward") == "bidirectional" else 1)
    lengths = _dims(_input(inputs, 4))
    if lengths is not None:
        c.equal(lengths[0], batch)
    state = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
    for index in (5, 6):
        if (dims := _dims(_input(inputs, index))) is not None:
            for one, two in zip(dims, state, strict=True):
                c.equal(one, two)
    y = (batch, length, directions, hidden) if batch_first else (length, directions, batch, hidden)
    return [Known(None, y), Known(None, state), Known(None, state)]


# --- detection and images ---------------------------------------------------------------------------------------------


@_rule("RoiAlign MaxRoiPool")
def _rois(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    rois, batch = _dims(inputs[1]), _dims(_input(inputs, 2))
    if rois is not None:
        c.equal(rois[1], 4 if node.op_type == "RoiAlign" else 5)
        if batch is not None:
            c.equal(rois[0], batch[0])
    return None


@_rule("NonMaxSuppression")
def _nms(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    boxes, scores = _dims(inputs[0]), _dims(inputs[1])
    if boxes is not None:
        c.equal(boxes[2], 4)
        if scores is not None:
            c.equal(boxes[0], scores[0])
            c.equal(boxes[1], scores[2])
    return None


@_rule("GridSample")
def _grid_sample(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, grid = _dims(inputs[0]), _dims(inputs[1])
    if x is None or grid is None:
        return None
    c.equal(x[0], grid[0])
    c.equal(grid[-1], len(x) - 2)
    return [Known(None, (*x[:2], *grid[1:-1]))]


@_rule("TopK")
def _top_k(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    dims = _dims(inputs[0])
    numbers = _numbers(inputs[1]) if len(inputs) > 1 else [_int(node, "k", 1)]
    if dims is not None and numbers:
        c.equations.require_least(dims[_int(node, "axis", -1)], numbers[0])
    return None


@_rule("GatherElements ScatterElements Scatter")
def _gather_elements(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, indices, updates = _dims(inputs[0]), _dims(inputs[1]), _dims(_input(inputs, 2))
    if updates is not None and indices is not None:
        for one, two in zip(indices, updates, strict=True):
            c.equal(one, two)
    if x is not None and indices is not None:
        axis = _int(node, "axis") % len(x)
        for index, (one, two) in enumerate(zip(x, indices, strict=True)):
            if index != axis and one.constant is None and two.constant is not None:
                c.equations.require_least(one, two.constant)
            elif index != axis:
                c.equal(one, two) if two.constant is None else None
    return None


@_rule("Det Inverse")
def _square(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    if (dims := _dims(inputs[0])) is not None:
        c.equal(dims[-1], dims[-2])
    return None


@_rule("QuantizeLinear DequantizeLinear")
def _scaled_axis(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    x, scale = _dims(inputs[0]), _dims(inputs[1])
    if x and scale is not None and len(scale) == 1 and scale[0].constant != 1 and len(x) > 0:
        c.equal(x[_int(node, "axis", 1)], scale[0])
    return None


@_rule("DFT")
def _dft(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    if (dims := _dims(inputs[0])) is not None and dims[-1].constant is None:
        c.equal(dims[-1], 1)
    return None


# --- bodies -----------------------------------------------------------------------------------------------------------


@_rule("If")
def _if(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    taken = _numbers(inputs[0])
    branches = dict(zip(node.attributes, ir.subgraphs_of(node), strict=False))
    if taken:  # a test of ranks, as exporters write it: the other branch does not fit what is here
        branches = {name: body for name, body in branches.items() if (name == "then_branch") == bool(taken[0])}
    results: list[Known] = []
    for body in branches.values():
        c._walk(body)
        ends = [c.of(value) for value in body.outputs]
        results = [_either(c, one, two) for one, two in zip(results, ends, strict=True)] if results else ends
    return results


def _either(c: Collector, one: Known, two: Known) -> Known:
    """What is known of one of two tensors."""
    dtype = one.dtype if one.dtype == two.dtype else None
    if one.dims is None or two.dims is None or len(one.dims) != len(two.dims):
        return Known(dtype)
    pairs = zip(one.dims, two.dims, strict=True)
    return Known(dtype, tuple(left if left == right else c.equations.unknown() for left, right in pairs))


@_rule("Loop")
def _loop(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    (body,) = ir.subgraphs_of(node)
    states = inputs[2:]
    c.known[body.inputs[0]], c.known[body.inputs[1]] = Known(ir.DataType.INT64, ()), Known(ir.DataType.BOOL, ())
    for value, state in zip(body.inputs[2:], states, strict=True):
        c.known[value] = Known(state.dtype, state.dims) if state is not None else Known()
    c._walk(body)
    results: list[Known | None] = [Known(c.of(value).dtype) for value in body.outputs[1 : 1 + len(states)]]
    for index, (value, state) in enumerate(zip(body.outputs[1:], states, strict=False)):
        after = c.of(value)
        if state is not None and after.dims is not None and after.dims == state.dims:
            results[index] = Known(after.dtype, after.dims)
    for value in body.outputs[1 + len(states) :]:
        each = c.of(value)
        results.append(Known(each.dtype, None if each.dims is None else (c.equations.unknown(), *each.dims)))
    return results


@_rule("Scan")
def _scan(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    if (node.version or 9) < 9:
        return []
    (body,) = ir.subgraphs_of(node)
    count = _int(node, "num_scan_inputs")
    split = len(inputs) - count
    axes = _ints(node, "scan_input_axes", [0] * count)
    length: Size | None = None
    for value, state in zip(body.inputs[:split], inputs[:split], strict=True):
        c.known[value] = Known() if state is None else Known(state.dtype, state.dims)
    for value, each, axis in zip(body.inputs[split:], inputs[split:], axes, strict=True):
        if each is None or each.dims is None:
            c.known[value] = Known() if each is None else Known(each.dtype)
            continue
        axis %= len(each.dims)
        if length is not None:
            c.equal(length, each.dims[axis])
        length = length or each.dims[axis]
        c.known[value] = Known(each.dtype, each.dims[:axis] + each.dims[axis + 1 :])
    c._walk(body)
    results: list[Known | None] = []
    for index, value in enumerate(body.outputs):
        after = c.of(value)
        if index < split:
            before = inputs[index]
            if before is not None and before.dims is not None and after.dims is not None:
                for one, two in zip(before.dims, after.dims, strict=False):
                    c.equal(one, two)
            results.append(after)
        else:
            along = length or c.equations.unknown()
            results.append(Known(after.dtype, None if after.dims is None else (along, *after.dims)))
    return results


# --- ai.onnx.ml -------------------------------------------------------------------------------------------------------


def _features(c: Collector, known: Known | None, count: int, *, exact: bool = True) -> None:
    """The last dim of what a model of features takes."""
    dims = _dims(known)
    if not dims or count < 1:
        return
    if exact:
        c.equal(dims[-1], count)
    elif dims[-1].constant is None:
        c.equations.require_least(dims[-1], count)


@_rule("Scaler Imputer", _ML)
def _scaler(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    names = ("offset", "scale", "imputed_value_floats", "imputed_value_int64s")
    counts = [count for name in names if (count := _floats(node, name)) > 1]
    if counts:
        _features(c, inputs[0], counts[0])
    return [Known(ir.DataType.FLOAT if node.op_type == "Scaler" else None, _dims(inputs[0]))]


@_rule("Normalizer Binarizer", _ML)
def _same_features(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    return [Known(ir.DataType.FLOAT if node.op_type == "Normalizer" else None, _dims(inputs[0]))]


def _classes(node: ir.Node) -> int:
    return max(_floats(node, name) for name in ("classlabels_ints", "classlabels_strings", "classlabels_int64s"))


def _scores(c: Collector, known: Known | None, classes: int) -> Sequence[Known | None]:
    rows = _dims(known)
    first = rows[0] if rows is not None and len(rows) > 1 else Size.number(1)
    return [Known(None, (first,)), Known(ir.DataType.FLOAT, (first, Size.number(max(classes, 1))))]


@_rule("LinearClassifier", _ML)
def _linear_classifier(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    rows = _floats(node, "intercepts") or _classes(node)
    _features(c, inputs[0], _floats(node, "coefficients") // max(rows, 1))
    return _scores(c, inputs[0], _classes(node))


@_rule("LinearRegressor", _ML)
def _linear_regressor(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    targets = _int(node, "targets", 1)
    _features(c, inputs[0], _floats(node, "coefficients") // max(targets, 1))
    return _scores(c, inputs[0], targets)[1:]


@_rule("SVMClassifier", _ML)
def _svm_classifier(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    vectors = sum(_ints(node, "vectors_per_class"))
    if vectors:
        _features(c, inputs[0], _floats(node, "support_vectors") // vectors)
    else:
        _features(c, inputs[0], _floats(node, "coefficients") // max(_classes(node), 1))
    return _scores(c, inputs[0], _classes(node))


@_rule("SVMRegressor", _ML)
def _svm_regressor(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    vectors = _int(node, "n_supports")
    count = _floats(node, "support_vectors") // vectors if vectors else _floats(node, "coefficients")
    _features(c, inputs[0], count)
    return _scores(c, inputs[0], 1)[1:]


@_rule("TreeEnsembleClassifier TreeEnsembleRegressor TreeEnsemble", _ML)
def _trees(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    _features(c, inputs[0], max(_ints(node, "nodes_featureids"), default=-1) + 1, exact=False)
    if node.op_type == "TreeEnsembleClassifier":
        return _scores(c, inputs[0], _classes(node))
    return _scores(c, inputs[0], _int(node, "n_targets", 1))[1:]


@_rule("FeatureVectorizer", _ML)
def _vectorizer(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    sizes = _ints(node, "inputdimensions")
    for known, size in zip(inputs, sizes, strict=False):
        _features(c, known, size)
    rows = _dims(inputs[0])
    return None if rows is None else [Known(ir.DataType.FLOAT, (rows[0], Size.number(sum(sizes))))]


@_rule("ArrayFeatureExtractor", _ML)
def _extractor(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    numbers = _numbers(inputs[1])
    if numbers:
        _features(c, inputs[0], max(numbers) + 1, exact=False)
    return None


@_rule("ZipMap", _ML)
def _zip_map(c: Collector, node: ir.Node, inputs: Sequence[Known | None]) -> Sequence[Known | None] | None:
    _features(c, inputs[0], _classes(node))
    return []


# --- ranks ------------------------------------------------------------------------------------------------------------

_RANKS: Mapping[tuple[str, int], int] = {
    **{(op, index): 2 for op in ("Gemm",) for index in (0, 1)},
    **{(op, 0): 3 for op in ("LSTM", "GRU", "RNN")},
    **{(op, 4): 1 for op in ("LSTM", "GRU", "RNN")},
    **{(op, index): 3 for op in ("LSTM", "GRU", "RNN") for index in (5, 6)},
    **{(op, 0): 4 for op in ("DepthToSpace", "SpaceToDepth", "RoiAlign", "GlobalAveragePool", "GlobalMaxPool")},
    ("RoiAlign", 1): 2,
    ("RoiAlign", 2): 1,
    ("NonMaxSuppression", 0): 3,
    ("NonMaxSuppression", 1): 3,
    ("EyeLike", 0): 2,
    ("Reshape", 1): 1,
    ("Expand", 1): 1,
    ("Tile", 1): 1,
}
_KEEPS_RANK = frozenset(
    "Identity Cast CastLike Relu LeakyRelu Sigmoid Tanh Softmax LogSoftmax Dropout Clip Neg Abs Exp Log Sqrt Erf Floor "
    "Ceil Round Sin Cos Pad Resize Elu Selu Not HardSigmoid HardSwish Gelu Softplus Softsign Reciprocal CumSum "
    "LayerNormalization BatchNormalization InstanceNormalization LpNormalization QuantizeLinear "
    "DequantizeLinear".split()
)
_COMPARES = frozenset("Add Sub Mul Div Pow Min Max Where Equal Less Greater And Or Sum Mod PRelu".split())


def rank_of(value: ir.Value) -> int | None:
    """The rank that the operators which take an input without a declared shape ask for; None where they do not say."""
    pending, seen, likely = [value], {value}, None
    while pending:
        for node, index in pending.pop().uses():
            rank = _asked_rank(node, index)
            if rank is not None:
                return rank
            if node.op_type in ("MatMul", *_COMPARES):
                others = [ir.constant_tensor(other) for other in node.inputs if other is not None]
                likely = max([likely or 0, *(len(other.shape) for other in others if other is not None)])
                likely = max(likely, 2) if node.op_type == "MatMul" else likely
            if (node.op_type in _KEEPS_RANK and index == 0) or node.op_type in _COMPARES:
                heirs = [output for output in node.outputs[:1] if output not in seen]
                seen.update(heirs)
                pending += heirs
    return likely


def _asked_rank(node: ir.Node, index: int) -> int | None:
    if node.domain == _ML:
        return 2
    if node.domain not in ("", _MICROSOFT):
        return None
    if (node.op_type, index) in _RANKS:
        return _RANKS[node.op_type, index]
    if index == 0 and node.op_type in ("Conv", "ConvTranspose", "ConvInteger", "FusedConv"):
        tensor = ir.constant_tensor(node.inputs[1])
        return None if tensor is None else len(tensor.shape)
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        return len(_ints(node, "kernel_shape")) + 2
    if node.op_type == "Transpose":
        return len(_ints(node, "perm")) or None
    if node.op_type == "Einsum":
        terms = _text(node, "equation").replace(" ", "").split("->")[0].split(",")
        return len(terms[index]) if index < len(terms) and "." not in terms[index] else None
    if node.domain == _MICROSOFT and index == 0 and "Attention" in node.op_type:
        return 3
    return None


def collect(
    model: ir.Model, inputs: Mapping[ir.Value, Sequence[Size]], named: Mapping[str, Size], equations: Equations
) -> Equations:
    """Add to `equations` what the dims of `inputs` must satisfy in `model`.

    `named` has the symbols that inner values may declare.
    """
    collector = Collector(model, equations)
    collector.named.update(named)
    known = {
        value: Known(value.dtype, tuple(dims) if isinstance(value.type, ir.TensorType) or value.type is None else None)
        for value, dims in inputs.items()
    }
    return collector.run(known)
