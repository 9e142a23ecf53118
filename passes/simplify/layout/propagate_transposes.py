"""Propagate Transposes and Squeezes through operators that have a transposed form (NHWC islands, gated activations)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Dim, Shapes
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext
from ...registry import register
from .layout_region import PASS_NAME, LayoutRegion
from .transpose_semantics import Layout, is_positional

Permutation = tuple[int, ...]


@register
@dataclass(frozen=True)
class PropagateTransposes(Pass):
    """Compute a region of operators on untransposed data where that saves more Transposes than it costs.

    Likewise, and before that, on data with axes of size 1 that a Squeeze or Reshape drops and others insert again: what
    remains between convolutions is then either an activation or a Transpose.

    A region is a connected set of operators that have a transposed form. It starts as large as possible, shrinks while
    that costs nothing, and is rewritten when fewer Transposes remain. Those that follow each other then merge.
    `rounding`: also operators that round differently in another order of elements.

    before:  a = Transpose<perm = [0, 2, 3, 1]>(x); b = Relu(a); y = Transpose<perm = [0, 3, 1, 2]>(b)
    after:   y = Relu(x)
    """

    name: ClassVar[str] = PASS_NAME
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    rounding: bool = False

    def run(self, model: ir.Model, context: PassContext) -> None:
        for graph in ir.graphs(model):
            positions = {node: position for position, node in enumerate(graph)}
            for kind in (SqueezedRegion, TransposedRegion):
                self._propagate(graph, kind, positions, context)

    def _propagate(
        self, graph: ir.Graph, kind: type[LayoutRegion], positions: dict[ir.Node, int], context: PassContext
    ) -> None:
        shapes = context.analyses.get(Shapes)
        visited: set[tuple[Layout, ir.Node]] = set()
        for node in list(positions):
            layout = kind.layout_of(node, shapes) if node.graph is graph else None
            if layout is None or any((layout, each) in visited for each in (node, *node.outputs[0].consumers())):
                continue
            region = kind(graph, layout, self.rounding, shapes, context)
            region.grow(node)
            visited.update((layout, each) for each in (*region.sources, *region.nodes))
            region.shrink()
            if region.saves() > 0:
                region.rewrite(positions)


def _is_view(node: ir.Node | None) -> bool:
    """Whether `node` only changes the dims of a value, not the order of its elements."""
    return node is not None and node.op_type in ir.VIEWS and node.domain == ""


def _permutation(node: ir.Node, shapes: Shapes) -> Permutation | None:
    if node.op_type != "Transpose" or node.domain != "" or node.inputs[0] is None:
        return None
    perm = ir.attribute(node, "perm")
    if isinstance(perm, tuple):
        return perm
    rank = shapes.rank(node.inputs[0])
    return None if perm is not None or rank is None else tuple(reversed(range(rank)))


class TransposedRegion(LayoutRegion):
    """A region between Transposes; those that follow each other merge."""

    @staticmethod
    def layout_of(node: ir.Node, shapes: Shapes) -> Layout | None:
        perm = _permutation(node, shapes)
        return None if perm is None else Layout(perm, len(perm))

    def _rounds(self, node: ir.Node) -> bool:
        return is_positional(node.op_type, self.shapes.dtype(node.outputs[0]))

    def _undoes(self, node: ir.Node) -> bool:
        perm = _permutation(node, self.shapes) if self._merges(node) else None
        return perm is not None and all(self.layout.axes[axis] == index for index, axis in enumerate(perm))

    def _merges(self, node: ir.Node) -> bool:
        # Not a source of the region, which will use the input of the Transpose.
        if node.graph is not self.graph or _permutation(node, self.shapes) is None:
            return False
        return node not in self.sources or not self._is_data(node.outputs[0])

    def _transposed(self, value: ir.Value, perm: Permutation, before: ir.Node) -> ir.Value:
        if perm == tuple(sorted(perm)):
            return value
        transpose = ir.new_node("Transpose", [value], {"perm": perm}, version=before.version, provenance=PASS_NAME)
        return self._insert(transpose, before)

    def _entered(self, value: ir.Value, before: ir.Node) -> ir.Value:
        """The value transposed back; merged with the Transpose that produces it, if one does."""
        inverse = tuple(int(axis) for axis in np.argsort(self.layout.axes))
        producer = value.producer()
        perm = _permutation(producer, self.shapes) if producer is not None else None
        if producer is None or perm is None or not self._merges(producer) or (source := producer.inputs[0]) is None:
            return self._transposed(value, inverse, before)
        self.entries[producer] = None
        return self._transposed(source, tuple(perm[axis] for axis in inverse), before)

    def _exited(self, new: ir.Value, before: ir.Node) -> ir.Value:
        return self._transposed(new, self.layout.axes, before)

    def _merge(self, user: ir.Node, new: ir.Value) -> ir.Value | None:
        perm = _permutation(user, self.shapes)
        return None if perm is None else self._transposed(new, tuple(self.layout.axes[axis] for axis in perm), user)


class SqueezedRegion(LayoutRegion):
    """A region between a view that drops axes of size 1 and those that insert them again. No element moves."""

    @staticmethod
    def layout_of(node: ir.Node, shapes: Shapes) -> Layout | None:
        source = node.inputs[0] if _is_view(node) else None
        before = shapes.dims(source) if source is not None else None
        after = shapes.dims(node.outputs[0])
        if before is None or after is None or len(after) >= len(before):
            return None
        axes = ir.parameter(node, "axes") if node.op_type == "Squeeze" else None
        if isinstance(axes, np.ndarray):
            dropped = {int(axis) % len(before) for axis in axes.reshape(-1)}
            kept = [axis for axis in range(len(before)) if axis not in dropped]
        else:
            kept = _kept_axes(before, after)
        return Layout(tuple(kept), len(before)) if len(kept) == len(after) else None

    def _rounds(self, node: ir.Node) -> bool:
        return node.op_type in ir.REDUCTIONS and is_positional(node.op_type, self.shapes.dtype(node.outputs[0]))

    def _undoes(self, node: ir.Node) -> bool:
        source = node.inputs[0] if node.graph is self.graph and _is_view(node) else None
        if source is None or self.shapes.rank(source) != len(self.layout.axes):
            return False
        axes = ir.parameter(node, "axes") if node.op_type == "Unsqueeze" else None
        if isinstance(axes, np.ndarray):
            return {int(axis) % self.layout.rank for axis in axes.reshape(-1)} == {*self.layout.dropped}
        dims = self.shapes.dims(source)
        whole: list[Dim] = [1] * self.layout.rank
        for axis, dim in zip(self.layout.axes, dims or (), strict=False):
            whole[axis] = dim
        return self.shapes.same_dims(self.shapes.dims(node.outputs[0]), whole)

    def _merges(self, node: ir.Node) -> bool:
        return self._undoes(node)

    def _view(self, op_type: str, value: ir.Value, before: ir.Node) -> ir.Value:
        version = self.context.rewriter.imports_of(self.graph).get("", 0)
        view = ir.new_node(op_type, [value], {"axes": list(self.layout.dropped)}, version=version, provenance=PASS_NAME)
        return self._insert(view, before)

    def _entered(self, value: ir.Value, before: ir.Node) -> ir.Value:
        return self._view("Unsqueeze", value, before)

    def _exited(self, new: ir.Value, before: ir.Node) -> ir.Value:
        return self._view("Squeeze", new, before)

    def _merge(self, user: ir.Node, new: ir.Value) -> ir.Value | None:  # noqa: ARG002
        return new


def _kept_axes(before: Sequence[Dim], after: Sequence[Dim]) -> list[int]:
    """The axes of `before` whose dims are `after`, the others being of size 1; too few where there are none such."""
    kept: list[int] = []
    for axis, dim in enumerate(before):
        if len(kept) < len(after) and dim == after[len(kept)]:
            kept.append(axis)
        elif dim != 1:
            return []
    return kept
