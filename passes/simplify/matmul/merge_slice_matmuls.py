"""Merge products of slices of one tensor and one matrix into one product, which is sliced."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Final

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...registry import register
from ...views.slice_ranges import axis_of, split_window, window

_FEWEST: Final = 3  # slices


@register
@dataclass(frozen=True)
class MergeSliceMatmuls(Pass):
    """Multiply a tensor by a matrix once, where each of its slices along an axis is multiplied by that matrix.

    Recurrent cells that an exporter has unrolled project each time step separately; one product reads the matrix once.
    The slices are those of Gather, Slice or Split along any axis but the last, and tile the axis, so that nothing is
    computed that was not before.

    Only slices of one row, and matrices of `least_elements`: x1.1 with 32,768 elements to x2.3 with 262,144 (12
    pieces). With smaller matrices or 4 to 64 rows it is x0.66 to x1.1: ONNX Runtime fuses a MatMul and the Add after
    it into one Gemm.

    before:  a, b, c = Split<axis = 0>(x); p = MatMul(a, w); q = MatMul(b, w); r = MatMul(c, w)
    after:   y = MatMul(x, w); p, q, r = Split<axis = 0>(y)
    """

    name: ClassVar[str] = "merge-slice-matmuls"
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    least_elements: int = 1 << 15

    def run(self, model: ir.Model, context: PassContext) -> None:
        if context.hides_operators():
            return
        shapes = context.analyses.get(Shapes)
        for graph in ir.graphs(model):
            groups: dict[Hashable, list[_Product]] = {}
            for node in graph:
                if (product := _product(node, shapes)) is not None:
                    groups.setdefault(product.key(), []).append(product)
            for group in groups.values():
                products = [each.node for each in group]
                if not _tiles(group, shapes) or not self._is_profitable(group, shapes):
                    continue
                if context.log.try_rewrite(self.name, where(products[0]), spell(products), "MatMul", self.exactness):
                    _merge(group, context)

    def _is_profitable(self, group: list[_Product], shapes: Shapes) -> bool:
        rows = [shapes.dims(value) for each in group if (value := each.node.inputs[0]) is not None]
        size = shapes.static(group[0].weight)
        is_large = size is not None and prod(size) >= self.least_elements
        return is_large and all(dims is not None and all(dim == 1 for dim in dims[:-1]) for dims in rows)


@dataclass(frozen=True)
class _Sliced:
    """Elements `start` to `stop` of `source` along `axis`, and the nodes that take them: the slice and a Squeeze."""

    source: ir.Value
    axis: int
    start: int
    stop: int
    views: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Product:
    """A product of a slice and a matrix."""

    node: ir.Node
    weight: ir.Value
    bias: ir.Value | None
    sliced: _Sliced

    @property
    def is_transposed(self) -> bool:
        """Whether the product is one by the transposed matrix."""
        return self.node.op_type == "Gemm" and ir.attribute(self.node, "transB") == 1

    def key(self) -> Hashable:
        """Equal for products that may merge."""
        return (self.weight, self.is_transposed, self.bias, self.sliced.source, self.sliced.axis)


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
    sliced = _slice_of(x, shapes)
    rank = shapes.rank(sliced.source) if sliced is not None else None
    if sliced is None or rank is None or sliced.axis >= rank - 1 or sliced.source.graph is not node.graph:
        return None
    return _Product(node, weight, bias, sliced)


def _slice_of(x: ir.Value, shapes: Shapes) -> _Sliced | None:
    """The slice that `x` is, directly or through a Squeeze of the sliced axis."""
    node = x.producer()
    if node is None or node.domain != "" or not node.inputs or node.inputs[0] is None:
        return None
    if node.op_type != "Squeeze":
        return _gathered(node, shapes) if node.op_type == "Gather" else _sliced(node, x, shapes)
    part, axes = node.inputs[0], ir.parameter(node, "axes")
    slicer, rank = part.producer(), shapes.rank(part)
    if slicer is None or slicer.domain != "" or slicer.op_type not in ("Slice", "Split") or rank is None:
        return None
    if not isinstance(axes, np.ndarray) or axes.size != 1:
        return None
    sliced = _sliced(slicer, part, shapes)
    if sliced is None or sliced.axis != int(axes.reshape(-1)[0]) % rank:
        return None
    return replace(sliced, views=(*sliced.views, node))


def _gathered(node: ir.Node, shapes: Shapes) -> _Sliced | None:
    source, indices = node.inputs[0], node.inputs[1]
    dims = None if source is None else shapes.dims(source)
    axis, index = axis_of(node, shapes), ir.scalar(indices)
    if source is None or indices is None or shapes.rank(indices) != 0 or axis is None or dims is None:
        return None
    size = dims[axis]
    if not isinstance(size, int) or index is None or not -size <= index < size:
        return None
    return _Sliced(source, axis, int(index) % size, int(index) % size + 1, (node,))


def _sliced(node: ir.Node, result: ir.Value, shapes: Shapes) -> _Sliced | None:
    """What a Slice, or the output `result` of a Split, takes of its source."""
    source = node.inputs[0]
    if source is None:
        return None
    if node.op_type == "Slice":
        taken = window(node, shapes)
        return None if taken is None else _Sliced(source, *taken[:3], (node,))
    part = split_window(node, result, shapes) if node.op_type == "Split" else None
    if part is None:
        return None
    axis, start, length = part
    return _Sliced(source, axis, start, start + length, (node,)) if isinstance(length, int) else None


def _tiles(group: list[_Product], shapes: Shapes) -> bool:
    """Whether the slices tile the axis; those of the same range count once."""
    sliced = group[0].sliced
    dims = shapes.dims(sliced.source)
    size = None if dims is None else dims[sliced.axis]
    ranges = sorted({(each.sliced.start, each.sliced.stop) for each in group})
    if len(ranges) < _FEWEST or not isinstance(size, int):
        return False
    ends = [0, *(stop for _, stop in ranges)]
    return all(start == end for (start, _), end in zip(ranges, ends, strict=False)) and ends[-1] == size


def _merge(group: list[_Product], context: PassContext) -> None:
    first = group[0]
    version = first.node.version

    def emit(operator: str, *inputs: ir.Value, **attributes: ir.AttributeValue) -> ir.Value:
        new = ir.new_node(operator, inputs, attributes, version=version, provenance=MergeSliceMatmuls.name)
        return context.rewriter.insert(new, before=first.node).outputs[0]

    def clone(view: ir.Node, source: ir.Value, *, before: ir.Node) -> ir.Node:
        """The same slice or Squeeze of another tensor."""
        new = ir.similar_node(view, [source, *view.inputs[1:]], provenance=MergeSliceMatmuls.name)
        return context.rewriter.insert(new, before=before)

    weight = emit("Transpose", first.weight, perm=[1, 0]) if first.is_transposed else first.weight
    product = emit("MatMul", first.sliced.source, weight)
    if first.bias is not None:
        product = emit("Add", product, first.bias)
    slicers = [each.sliced.views[0] for each in group]
    splits = {
        node: clone(node, product, before=first.node) for node in dict.fromkeys(slicers) if node.op_type == "Split"
    }
    for each in group:
        slicer, *squeezes = each.sliced.views
        if slicer in splits:
            part = squeezes[0].inputs[0] if squeezes else each.node.inputs[0]
            result = next(new for old, new in zip(slicer.outputs, splits[slicer].outputs, strict=True) if old is part)
        else:
            result = clone(slicer, product, before=each.node).outputs[0]
        for squeeze in squeezes:
            result = clone(squeeze, result, before=each.node).outputs[0]
        context.rewriter.replace(each.node, [result])
