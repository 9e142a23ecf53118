"""Recognize layer and RMS normalization by what the operators compute.

y = d * (mean(d * d) + epsilon) ** -0.5 * scale + bias, with means over the last axes, and d = x - mean(x) (layer
normalization) or x itself (RMS normalization). The factors may be multiplied in any order; the power may be roots,
reciprocals and quotients, a mean a sum times a number, and either may be reshaped. The mean of squares less the square
of the mean is left alone: it cancels where x hardly varies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ... import ir
from ...ir.shapes.facts import Dims
from ..analyses import Shapes
from ..pipeline.exactness import Exactness
from ..rewriting.builder import Builder
from ..rewriting.constraints import let, profitable, require, structural
from ..rewriting.match import Match
from ..rewriting.pattern import any_call
from ..rewriting.rule import rule

Axes = tuple[int, ...]


@dataclass(frozen=True)
class Normalization:
    """A normalization of `x`, computed by `nodes`, the last of them first.

    `axes`: of the mean of squares, and where there is one of the mean that is subtracted. `is_narrow`: x is cast from
    float16 before, and the result to it ahead of the scale, as the operator does itself.
    """

    x: ir.Value
    axes: tuple[Axes, ...]
    epsilon: ir.Value
    nodes: tuple[ir.Node, ...] = ()
    scale: ir.Value | None = None
    bias: ir.Value | None = None
    is_narrow: bool = False

    def dims(self, shapes: Shapes) -> Dims | None:
        """The dims that are normalized; None where these are not the last ones, or not the same for both means."""
        dims, first = shapes.dims(self.x) or (), self.axes[0]
        is_last = set(self.axes) == {tuple(range(len(dims) - len(first), len(dims)))}
        return dims[-len(first) :] if is_last else None

    def parameters(self, shapes: Shapes) -> list[ir.Value | ir.Content] | None:
        """The scale, ones where there is none, and the bias, of the dims that are normalized."""
        dims = self.dims(shapes) or ()
        found: list[ir.Value | ir.Content] = []
        sizes = [dim for dim in dims if isinstance(dim, int)]
        if self.scale is None and len(sizes) == len(dims):
            found.append(np.ones(sizes, dtype=np.float32))
        for value in (self.scale, self.bias):
            own, content = (None, None) if value is None else (shapes.dims(value), ir.constant(value))
            if value is not None and own == dims:
                found.append(value)
            elif content is not None and (*(1,) * (content.ndim - len(dims)), *dims) == content.shape:
                found.append(content.reshape(content.shape[-len(dims) :]))
        return found if dims and len(found) == 1 + (self.bias is not None) else None


# --- what the operators compute ---------------------------------------------------------------------------------------


def find(root: ir.Node, shapes: Shapes) -> Normalization | None:
    """The normalization whose last operator is `root`."""
    if root.op_type != "Add":
        return _Walk(root, shapes).product(root.outputs[0])
    for value, bias in _operands(root):
        found = _Walk(root, shapes, [root]).product(value)
        if found is not None and len(found.axes) == 2:
            return replace(found, bias=bias)
    return None


def is_part(root: ir.Node, shapes: Shapes) -> bool:
    """Whether the normalization that ends with `root` is part of a larger one."""
    user = _only_user(root)
    if user is not None and user.op_type == "Cast":
        user = _only_user(user)
    larger = None if user is None or user.op_type not in ("Mul", "Div", "Add") else find(user, shapes)
    return larger is not None and root in larger.nodes and larger.parameters(shapes) is not None


def _only_user(node: ir.Node) -> ir.Node | None:
    return node.outputs[0].consumers()[0] if ir.is_private(node.outputs[0]) else None


def _operands(node: ir.Node | None) -> Iterator[tuple[ir.Value, ir.Value]]:
    """The operands of a binary operator, in either order where it commutes."""
    first, second = (None, None) if node is None else (*node.inputs, None, None)[:2]
    if node is not None and first is not None and second is not None:
        yield first, second
        if node.op_type in ("Add", "Mul"):
            yield second, first


def _number(value: ir.Value) -> float:
    """The number of a constant of one element; 0 where it is none."""
    return float(ir.scalar(value) or 0)


@dataclass
class _Walk:
    """From the last operator to the first, through `nodes`."""

    root: ir.Node
    shapes: Shapes
    nodes: list[ir.Node] = field(default_factory=list)
    is_narrow: bool = False

    def product(self, value: ir.Value) -> Normalization | None:
        factors = list(self.factors(value, 1, self.shapes.dims(value)))
        outer = len(self.nodes)
        for index, (factor, sign) in enumerate(factors if len(factors) <= 3 else ()):
            others = factors[:index] + factors[index + 1 :]
            found = self.deviation(factor, sign) if all(power == 1 for _, power in others) else None
            scales = [other for other, _ in others]
            if found is not None and found[0] in scales:
                scales.remove(found[0])
                scale = scales[0] if scales else None
                return replace(found[1], nodes=tuple(self.nodes), scale=scale, is_narrow=self.is_narrow)
            del self.nodes[outer:]
        return None

    def factors(self, value: ir.Value, sign: int, dims: Dims | None) -> Iterator[tuple[ir.Value, int]]:
        """The factors of a product of these dims, those that divide it with -1."""
        node = value.producer()
        is_inner = node is self.root or (ir.is_private(value) and self.shapes.dims(value) == dims)
        is_cast = node is not None and node.op_type == "Cast" and self.shapes.dtype(value) == ir.DataType.FLOAT16
        if node is None or node.domain or not is_inner or (node.op_type not in ("Mul", "Div") and not is_cast):
            yield value, sign
            return
        self.nodes.append(node)
        self.is_narrow |= is_cast
        for index, operand in enumerate(node.inputs):
            if operand is not None:
                yield from self.factors(operand, -sign if node.op_type == "Div" and index else sign, dims)

    def deviation(self, factor: ir.Value, power: float) -> tuple[ir.Value, Normalization] | None:
        """The value by whose root mean square `factor` ** `power` divides, and its normalization."""
        node = self.step(factor)
        while node is not None and (value := node.inputs[0]) is not None:
            match node.op_type:
                case "Add" if power == -0.5:
                    mean, epsilon = next((pair for pair in _operands(node) if ir.is_constant(pair[1])), (value, value))
                    found = self.mean_of_squares(mean, epsilon)
                    return found if found and self.is_statistic(factor, found[0], found[1].axes[0]) else None
                case "Sqrt":
                    power /= 2
                case "Reciprocal":
                    power = -power
                case "Pow":
                    power *= sum(_number(exponent) for _, exponent in _operands(node))
                case "Div" if _number(value) == 1 and node.inputs[1] is not None:
                    power, value = -power, node.inputs[1]
                case _:
                    return None
            node = self.step(value)
        return None

    def mean_of_squares(self, value: ir.Value, epsilon: ir.Value) -> tuple[ir.Value, Normalization] | None:
        """The value whose mean of squares `value` is, and its normalization."""
        if (found := self.mean(value)) is None:
            return None
        d, axes = found
        if self.nodes[-1].op_type != "ReduceSumSquare":
            square = self.step(d)
            d, other = next(_operands(square), (d, d))
            if square is None or not (
                (square.op_type == "Mul" and other is d) or (square.op_type == "Pow" and _number(other) == 2)
            ):
                return None
        inner, difference = len(self.nodes), d.producer()
        if difference is not None and difference.op_type == "Sub" and not difference.domain:
            self.nodes.append(difference)
            x, subtrahend = next(_operands(difference))
            mean = self.mean(subtrahend)
            is_plain = self.nodes[-1].op_type != "ReduceSumSquare"
            if mean is not None and is_plain and mean[0] is x and self.is_statistic(subtrahend, x, mean[1]):
                return d, Normalization(x, (axes, mean[1]), epsilon)
        del self.nodes[inner:]
        return d, Normalization(d, (axes,), epsilon)

    def mean(self, value: ir.Value) -> tuple[ir.Value, Axes] | None:
        """The value whose mean `value` is (of its squares, if the last node is ReduceSumSquare), and the axes."""
        node, share = self.step(value), 1.0
        if node is not None and node.op_type in ("Mul", "Div"):
            summed, share = next(((each, _number(by)) for each, by in _operands(node) if _number(by)), (value, 0.0))
            share = 1 / share if share and node.op_type == "Div" else share
            node = self.step(summed) if share else None
        data = node.inputs[0] if node is not None else None
        dims = self.shapes.dims(data) if data is not None else None
        if node is None or data is None or not dims:
            return None
        axes: Axes = ()
        match node.op_type:
            case "ReduceMean" | "ReduceSum" | "ReduceSumSquare":
                given = ir.parameter(node, "axes")
                axes = (
                    tuple(sorted(int(axis) % len(dims) for axis in given.flat)) if isinstance(given, np.ndarray) else ()
                )
            case "GlobalAveragePool":
                axes = tuple(range(2, len(dims)))
            case "MatMul" if node.inputs[1] is not None and (weights := ir.constant(node.inputs[1])) is not None:
                is_even = weights.shape == (dims[-1], 1) and np.all(weights == weights[:1])
                axes, share = (len(dims) - 1,), share * float(weights.flat[0]) if is_even else 0.0
        if node.op_type not in ("ReduceMean", "GlobalAveragePool"):
            sizes = [dim for axis in axes if isinstance(dim := dims[axis], int)]
            share *= float(np.prod(sizes)) if len(sizes) == len(axes) else 0.0
        return (data, axes) if axes and abs(share - 1) < 1e-6 else None

    def step(self, value: ir.Value) -> ir.Node | None:
        """The producer of `value`, behind those that reshape it."""
        while (node := value.producer()) is not None and not node.domain and node.graph is self.root.graph:
            self.nodes.append(node)
            if node.op_type not in (*ir.VIEWS, "Identity") or node.inputs[0] is None:
                return node
            value = node.inputs[0]
        return None

    def is_statistic(self, value: ir.Value, data: ir.Value, axes: Axes) -> bool:
        """Whether the mean of `data` over `axes`, however it was reshaped, has ones in their place."""
        dims = self.shapes.dims(data) or ()
        return self.shapes.dims(value) == tuple(1 if axis in axes else dim for axis, dim in enumerate(dims))


# --- the rules --------------------------------------------------------------------------------------------------------


def _find(m: Match) -> Normalization | None:
    found = find(m.root, m.shapes)
    if found is None or is_part(m.root, m.shapes):
        return None
    m.found.extend(found.nodes)
    return found


NORMALIZATION = let("a normalization, and no larger one", _find, is_structural=True)
AXIS = let(
    "means over the same last axes",
    lambda m: -len(m[NORMALIZATION].dims(m.shapes) or ()) or m.shapes.show(m[NORMALIZATION].x),
)
PARAMETERS = let(
    "a scale and a bias of the dims that are normalized",
    lambda m: m[NORMALIZATION].parameters(m.shapes) or m.shapes.show(m[NORMALIZATION].x),
)
EPSILON = let(
    "a small positive epsilon",
    lambda m: e if 0 < (e := _number(m[NORMALIZATION].epsilon)) < 1 else f"epsilon = {e}",
)


def _source(m: Match) -> ir.Value | str:
    """The operand of the operator: x, before it is cast."""
    found, types = m[NORMALIZATION], (ir.DataType.FLOAT, ir.DataType.FLOAT16)
    cast = found.x.producer() if found.is_narrow else None
    source = found.x if cast is None or cast.op_type != "Cast" or cast.inputs[0] is None else cast.inputs[0]
    outer = [m.shapes.dtype(value) for value in (source, found.scale, found.bias) if value is not None]
    is_right = m.shapes.dtype(found.x) == ir.DataType.FLOAT and set(outer) == {types[found.is_narrow]}
    return source if is_right else ", ".join(map(str, outer))


def _escapes(m: Match) -> str:
    """The users of inner values that are not part of the match."""
    nodes = m[NORMALIZATION].nodes
    inner = [value for node in nodes[1:] for value in node.outputs]
    return ", ".join(str(value.name) for value in inner if value.is_graph_output() or set(value.consumers()) - {*nodes})


SOURCE = let("float32, or float16 between casts", _source)
REQUIRES = (
    require("inner values without other users", lambda m: not _escapes(m), _escapes),
    SOURCE,
    AXIS,
    PARAMETERS,
    EPSILON,
    profitable(  # the kernel takes 3 to 6 times as long for each element as the arithmetic does for all
        "more than one element in each mean",
        lambda m: any(dim != 1 for dim in m[NORMALIZATION].dims(m.shapes) or ()),
        lambda m: m.shapes.show(m[NORMALIZATION].x),
    ),
)


@rule(
    any_call("Add") | any_call("Mul") | any_call("Div"),
    requires=[NORMALIZATION, structural("a mean subtracted", lambda m: len(m[NORMALIZATION].axes) == 2), *REQUIRES],
    exactness=Exactness.SPECIAL_VALUES,
    source="Ba et al. 2016 (arXiv:1607.06450), in the form of ONNX LayerNormalization-17",
    benefit=1,
)
def recognize_layer_normalization(m: Match, op: Builder) -> ir.Value:
    """Recognize LayerNormalization.

    before:  d = Sub(x, ReduceMean(x)); y = Add(Mul(Div(d, Sqrt(Add(ReduceMean(Mul(d, d)), epsilon))), scale), bias)
    after:   y = LayerNormalization(x, scale, bias)
    """
    return op.LayerNormalization(m[SOURCE], *m[PARAMETERS], axis=m[AXIS], epsilon=m[EPSILON])


@rule(
    any_call("Mul") | any_call("Div"),
    requires=[NORMALIZATION, structural("no mean subtracted", lambda m: len(m[NORMALIZATION].axes) == 1), *REQUIRES],
    exactness=Exactness.SPECIAL_VALUES,  # in another order, squares and products overflow elsewhere
    source="Zhang and Sennrich 2019 (arXiv:1910.07467), in the form of ONNX RMSNormalization-23",
)
def recognize_rms_normalization(m: Match, op: Builder) -> ir.Value:
    """Recognize RMSNormalization, in float32 or, as the operator computes it, in float32 between casts of float16.

    before:  y = Mul(Mul(x, Reciprocal(Sqrt(Add(ReduceMean(Mul(x, x)), epsilon)))), scale)
    after:   y = RMSNormalization(x, scale)
    """
    return op.RMSNormalization(m[SOURCE], *m[PARAMETERS], axis=m[AXIS], epsilon=m[EPSILON])
