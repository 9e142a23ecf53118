"""Initializers that hold the same bits are stored once."""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ... import ir
from ..analyses import Shapes
from ..engine.analysis import Analysis
from ..engine.pass_ import Pass, PassContext
from ..engine.registry import register

_BLOCK_ROWS_BYTES = 1 << 22


@register
@dataclass(frozen=True)
class InitializerDeduplication(Pass):
    """Store equal initializers once, in the outermost scope that has one; a transposed twin becomes a Transpose.

    Equal means type, dims and bits. Sizes are compared first: only those that meet an equal size are hashed. A twin
    must be at least `transposed_bytes` large to be worth an operator (ONNX Runtime folds it when it loads the model).

    before:  %a: float[8] {…}; %b: float[8] {the same}; y = Add(x, %a); z = Mul(y, %b)
    after:   %a: float[8] {…}; y = Add(x, %a); z = Mul(y, %a)
    """

    name: ClassVar[str] = "dedup"
    preserves: ClassVar[frozenset[type[Analysis]]] = frozenset({Shapes})

    transposed_bytes: int = 1 << 17

    def run(self, model: ir.Model, context: PassContext) -> None:
        everywhere = [value for graph in ir.graphs(model) for value in graph.initializers.values()]
        sizes: defaultdict[Hashable, int] = defaultdict(int)
        for value in filter(_may_share, everywhere):
            sizes[_bucket(value)] += 1
        for value, outer in _in_scope_order(model):
            if not _may_share(value) or sizes[_bucket(value)] < 2:
                continue
            tensor = ir.constant_tensor(value)
            assert tensor is not None
            first = outer.setdefault((_bucket(value), ir.digest(tensor)), value)
            if first is not value and context.journal.permit(
                self.name, value.name or "", "initializer", f"that of {first.name}"
            ):
                _share(value, first, context)
        self._transposed_twins(model, context)

    def _transposed_twins(self, model: ir.Model, context: PassContext) -> None:
        matrices: defaultdict[Hashable, list[ir.Value]] = defaultdict(list)
        for value in model.graph.initializers.values():
            tensor = ir.constant_tensor(value)
            if tensor is None or not _may_share(value) or len(tensor.shape) != 2:
                continue
            if tensor.nbytes >= self.transposed_bytes and tensor.dtype.bitwidth >= 8:
                matrices[tensor.dtype, frozenset(tensor.shape.numpy()), tensor.nbytes].append(value)
        for group in matrices.values():
            kept: list[ir.Value] = []
            for value in group:
                twin = next((each for each in kept if _is_transposed(each, value)), None)
                if twin is None:
                    kept.append(value)
                elif context.journal.permit(self.name, value.name or "", "initializer", f"Transpose of {twin.name}"):
                    _derive(value, twin, context)


def _in_scope_order(model: ir.Model) -> Iterator[tuple[ir.Value, ChainMap[Hashable, ir.Value]]]:
    """Every initializer with the table of those that its scope sees, outer scopes first."""
    pending: list[tuple[ir.Graph, ChainMap[Hashable, ir.Value]]] = [(model.graph, ChainMap())]
    pending += [(function.graph, ChainMap()) for function in model.functions.values()]
    while pending:
        graph, table = pending.pop()
        for value in list(graph.initializers.values()):
            yield value, table
        pending += [(body, table.new_child()) for node in graph for body in ir.subgraphs_of(node)]


def _may_share(value: ir.Value) -> bool:
    return not ir.is_public(value) and ir.constant_tensor(value) is not None and ir.is_read(value)


def _bucket(value: ir.Value) -> Hashable:
    tensor = ir.constant_tensor(value)
    assert tensor is not None
    return (tensor.dtype, tuple(tensor.shape.numpy()))


def _share(value: ir.Value, first: ir.Value, context: PassContext) -> None:
    for user, index in value.uses():
        context.rewriter.set_input(user, index, first)
    context.rewriter.erase_initializer(value)


def _derive(value: ir.Value, twin: ir.Value, context: PassContext) -> None:
    graph = value.graph
    assert graph is not None
    version = context.rewriter.imports_of(graph).get("")
    node = ir.new_node("Transpose", [twin], {"perm": [1, 0]}, version=version, provenance=InitializerDeduplication.name)
    context.rewriter.insert(node, before=graph[0])
    _share(value, node.outputs[0], context)


def _is_transposed(left: ir.Value, right: ir.Value) -> bool:
    """Whether two matrices on disk or in memory are each other's transpose, looked at in blocks of rows."""
    a, b = ir.constant(left), ir.constant(right)
    if a is None or b is None or a.shape != b.shape[::-1] or a.dtype != b.dtype:
        return False
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    rows = max(1, _BLOCK_ROWS_BYTES // max(1, a.shape[1] * a.dtype.itemsize))
    return all(
        np.array_equal(
            np.ascontiguousarray(a[start : start + rows]).view(unsigned),
            np.ascontiguousarray(b[:, start : start + rows].T).view(unsigned),
        )
        for start in range(0, a.shape[0], rows)
    )
