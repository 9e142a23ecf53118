"""Products of the pieces of one tensor and one matrix as pieces of one product."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from math import prod
from typing import ClassVar, Final

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...analyses.manager import Analysis
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...pipeline.registry import register
from ..shape.slice_ranges import axis_of, window

_FEWEST: Final = 3  # pieces


@register
@dataclass(frozen=True)
class MergeSliceMatmuls(Pass):
    """Multiply a tensor by a matrix once, where each of its pieces along an axis is multiplied by that matrix.

    Recurrent cells that an exporter has unrolled project each time step by itself; one product reads the matrix once.
    The pieces are those of Gather, Slice or Split along any axis but the last, and cover the axis once, so that nothing
    is computed that was not before.

    Only pieces of one row, and matrices of `least_elements`: x1.1 with 32,768 elements to x2.3 with 262,144 (12
    pieces). With smaller matrices or 4 to 64 rows it is x0.66 to x1.1: ONNX Runtime makes one Gemm of a MatMul and the
    Add behind it.

    before:  a, b, c = Split<axis = 0>(x); p = MatMul(a, w); q = MatMul(b, w); r = MatMul(c, w)
    after:   y = MatMul(x, w); p, q, r = Split<axis = 0>(y)
    """

    name: ClassVar[str] = "merge-slice-matmuls"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    least_elements: int = 1 << 15

    def run(self, model: ir.Model, context: PassContext) -> None:
        """Apply the pass to every graph of the model."""
        if context.hides_operators():
            return
        shapes = context.analyses.get(Shapes)
        shapes.refresh(model)
        for graph in ir.graphs(model):
            groups: dict[Hashable, list[_Product]] = {}
            for node in graph:
                if (product := _product(node, shapes)) is not None:
                    groups.setdefault(product.key(), []).append(product)
            for group in groups.values():
                products = [each.node for each in group]
                if not _tiles(group, shapes) or not self._pays(group, shapes):
                    continue
                if context.log.try_rewrite(self.name, where(products[0]), spell(products), "MatMul", self.exactness):
                    _merge(group, shapes, context)

    def _pays(self, group: list[_Product], shapes: Shapes) -> bool:
        rows = [shapes.dims(value) for each in group if (value := each.node.inputs[0]) is not None]
        size = shapes.static(group[0].weight)
        is_large = size is not None and prod(size) >= self.least_elements
        return is_large and all(dims is not None and all(dim == 1 for dim in dims[:-1]) for dims in rows)


@dataclass(frozen=True)
class _Product:
    """A product of elements `start` to `stop` of `source` along `axis`, through the nodes `views`, and a matrix."""

    node: ir.Node
    weight: ir.Value
    bias: ir.Value | None
    source: ir.Value
    axis: int
    start: int
    stop: int
    views: tuple[ir.Node, ...]

    @property
    def is_transposed(self) -> bool:
        """Whether the matrix is."""
        return self.node.op_type == "Gemm" and ir.attribute(self.node, "transB") == 1

    def key(self) -> Hashable:
        return (self.weight, self.is_transposed, self.bias, self.source, self.axis)


def _product(node: ir.Node, shapes: Shapes) -> _Product | None:
    if node.domain != "" or node.op_type not in ("MatMul", "Gemm"):
        return None
    x, weight, bias = [*node.inputs, None][:3]
    if x is None or weight is None or shapes.rank(weight) != 2 or weight.graph is not node.graph:
        return None
    if not weight.is_initializer() or not ir.is_constant(weight):
        return None
    if node.op_type == "Gemm":
        plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
        if any(ir.attribute(node, name) != number for name, number in plain.items()):
            return None
        if bias is not None and (not ir.is_constant(bias) or not bias.is_initializer() or shapes.rank(bias) != 1):
            return None
    for source, axis, start, stop, views in _pieces(x, shapes):
        rank = shapes.rank(source)
        if rank is not None and axis < rank - 1 and source.graph is node.graph:
            return _Product(node, weight, bias, source, axis, start, stop, views)
    return None


def _pieces(x: ir.Value, shapes: Shapes) -> Iterator[tuple[ir.Value, int, int, int, tuple[ir.Node, ...]]]:
    """The tensor that `x` is a piece of, the axis, where the piece starts and stops, and the nodes that take it."""
    node = x.producer()
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return
    source, squeezes = node.inputs[0], tuple[ir.Node, ...]()
    if node.op_type == "Squeeze":
        squeezed, inner = ir.parameter(node, "axes"), source.producer()
        if inner is None or inner.domain != "" or inner.op_type not in ("Slice", "Split") or inner.inputs[0] is None:
            return
        if not isinstance(squeezed, np.ndarray) or squeezed.size != 1:
            return
        rank = shapes.rank(source)
        if rank is None:
            return
        wanted, squeezes, x, node, source = int(squeezed.reshape(-1)[0]) % rank, (node,), source, inner, inner.inputs[0]
    else:
        wanted = None
    size_of = shapes.dims(source)
    match node.op_type:
        case "Gather" if (taken_at := node.inputs[1]) is not None and shapes.rank(taken_at) == 0:
            axis, index = axis_of(node, shapes), ir.scalar(taken_at)
            size = None if size_of is None or axis is None else size_of[axis]
            if axis is None or not isinstance(size, int) or index is None or not -size <= index < size:
                return
            yield source, axis, int(index) % size, int(index) % size + 1, (node,)
        case "Slice" if (taken := window(node, shapes)) is not None and wanted in (None, taken[0]):
            yield source, *taken[:3], (node, *squeezes)
        case "Split" if (axis := axis_of(node, shapes)) is not None and wanted in (None, axis):
            start = 0
            for value in node.outputs:
                dims = shapes.dims(value)
                length = None if dims is None else dims[axis]
                if not isinstance(length, int):
                    return
                if value is x:
                    yield source, axis, start, start + length, (node, *squeezes)
                start += length


def _tiles(group: list[_Product], shapes: Shapes) -> bool:
    """Whether the pieces cover the axis, each element once; those of the same range count once."""
    dims = shapes.dims(group[0].source)
    size = None if dims is None else dims[group[0].axis]
    ranges = sorted({(each.start, each.stop) for each in group})
    if len(ranges) < _FEWEST or not isinstance(size, int):
        return False
    ends = [0, *(stop for _, stop in ranges)]
    return all(start == end for (start, _), end in zip(ranges, ends, strict=False)) and ends[-1] == size


def _merge(group: list[_Product], shapes: Shapes, context: PassContext) -> None:
    first = group[0]
    version = first.node.version

    def insert(node: ir.Node, *, before: ir.Node) -> ir.Node:
        context.rewriter.insert(node, before=before)
        shapes.learn(node)
        return node

    def made(operator: str, *inputs: ir.Value, **attributes: ir.AttributeValue) -> ir.Value:
        new = ir.new_node(operator, inputs, attributes, version=version, provenance=MergeSliceMatmuls.name)
        return insert(new, before=first.node).outputs[0]

    def again(view: ir.Node, source: ir.Value, *, before: ir.Node) -> ir.Node:
        """The same view of another tensor."""
        new = ir.new_node(
            view.op_type,
            [source, *view.inputs[1:]],
            dict(view.attributes),
            version=version,
            outputs=len(view.outputs),
            provenance=MergeSliceMatmuls.name,
        )
        return insert(new, before=before)

    weight = made("Transpose", first.weight, perm=[1, 0]) if first.is_transposed else first.weight
    whole = made("MatMul", first.source, weight)
    if first.bias is not None:
        whole = made("Add", whole, first.bias)
    splits = dict.fromkeys(each.views[0] for each in group if each.views[0].op_type == "Split")
    split_again = {split: again(split, whole, before=first.node) for split in splits}
    for each in group:
        taking, *squeezes = each.views
        if taking in split_again:
            part = squeezes[0].inputs[0] if squeezes else each.node.inputs[0]
            assert part is not None
            result = split_again[taking].outputs[list(taking.outputs).index(part)]
        else:
            result = again(taking, whole, before=each.node).outputs[0]
        for squeeze in squeezes:
            result = again(squeeze, result, before=each.node).outputs[0]
        shapes.adopt(each.node.outputs[0], result)
        context.rewriter.replace(each.node, [result])
