"""Deduplicate initializers with the same content."""

from __future__ import annotations

import hashlib
from collections import ChainMap, Counter, defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from ... import ir
from ..pipeline.pass_ import Pass, PassContext
from ..registry import register

_BLOCK_BYTES = 1 << 22


@register
@dataclass(frozen=True)
class InitializerDeduplication(Pass):
    """Store equal initializers once, in the outermost scope that has one; compute a transposed copy by a Transpose.

    Equal means type, dims and bits. Only initializers that share type and dims with another are hashed. A transposed
    copy must have at least `transposed_bytes` to be worth an operator (ONNX Runtime folds it when it loads the model).

    before:  %a: float[8] {…}; %b: float[8] {the same}; y = Add(x, %a); z = Mul(y, %b)
    after:   %a: float[8] {…}; y = Add(x, %a); z = Mul(y, %a)
    """

    name: ClassVar[str] = "dedup-initializers"

    transposed_bytes: int = 1 << 17

    def run(self, model: ir.Model, context: PassContext) -> None:
        initializers = [value for graph in ir.graphs(model) for value in graph.initializers.values()]
        buckets = {value: _bucket(tensor) for value in initializers if (tensor := _shareable_tensor(value)) is not None}
        sizes = Counter(buckets.values())
        for value, outer in _in_scope_order(model):
            tensor = ir.constant_tensor(value)
            if tensor is None or value not in buckets or sizes[buckets[value]] < 2:
                continue
            first = outer.setdefault((buckets[value], ir.digest(tensor)), value)
            if first is not value and context.log.try_rewrite(
                self.name, value.name or "", "initializer", f"that of {first.name}"
            ):
                _share(value, first, context)
        self._share_transposed_copies(model, context)

    def _share_transposed_copies(self, model: ir.Model, context: PassContext) -> None:
        candidates: defaultdict[Hashable, list[ir.Value]] = defaultdict(list)
        for value in model.graph.initializers.values():
            tensor = _shareable_tensor(value)
            if tensor is None or len(tensor.shape) != 2:
                continue
            if tensor.nbytes >= max(1, self.transposed_bytes) and tensor.dtype.bitwidth >= 8:
                candidates[_corners(value)].append(value)
        for group in candidates.values():
            if len(group) > 1:
                self._share_transposed(group, context)

    def _share_transposed(self, group: list[ir.Value], context: PassContext) -> None:
        kept: dict[bytes, ir.Value] = {}
        for value in group:
            source = kept.get(_digest(value, transposed=True))
            if source is None:
                kept[_digest(value, transposed=False)] = value
            elif context.log.try_rewrite(self.name, value.name or "", "initializer", f"Transpose of {source.name}"):
                _derive(value, source, context)


def _in_scope_order(model: ir.Model) -> Iterator[tuple[ir.Value, ChainMap[Hashable, ir.Value]]]:
    """Every initializer with the table of those that are visible in its scope, outer scopes first."""
    pending: list[tuple[ir.Graph, ChainMap[Hashable, ir.Value]]] = [(model.graph, ChainMap())]
    pending += [(function.graph, ChainMap()) for function in model.functions.values()]
    while pending:
        graph, table = pending.pop()
        for value in list(graph.initializers.values()):
            yield value, table
        pending += [(body, table.new_child()) for node in graph for body in ir.subgraphs_of(node)]


def _shareable_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer that may be replaced by an equal one; None where it may not."""
    if ir.is_public(value) or not ir.is_read(value):
        return None
    return None if any(ir.updates_statistics(user) for user, _ in value.uses()) else ir.constant_tensor(value)


def _bucket(tensor: ir.TensorProtocol) -> Hashable:
    return (tensor.dtype, tuple(tensor.shape.numpy()))


def _share(value: ir.Value, first: ir.Value, context: PassContext) -> None:
    for user, index in value.uses():
        context.rewriter.set_input(user, index, first)
    context.rewriter.erase_initializer(value)


def _derive(value: ir.Value, source: ir.Value, context: PassContext) -> None:
    graph = value.graph
    assert graph is not None
    version = context.rewriter.imports_of(graph).get("", 13)  # a graph of custom operators alone may not import it
    node = ir.new_node(
        "Transpose", [source], {"perm": [1, 0]}, version=version, provenance=InitializerDeduplication.name
    )
    context.rewriter.insert(node, before=graph[0])
    _share(value, node.outputs[0], context)


def _corners(value: ir.Value) -> Hashable:
    """A key that a matrix shares with its transpose, which reads two pages of a file at most."""
    content = _matrix(value)
    rows, columns = content.shape
    first, right, left, last = (content[i, j].tobytes() for i in (0, rows - 1) for j in (0, columns - 1))
    ir.release(ir.constant_tensor(value))
    return (content.dtype.str, frozenset((rows, columns)), first, frozenset((right, left)), last)


def _digest(value: ir.Value, *, transposed: bool) -> bytes:
    """A digest of the dims and bits of a matrix or of its transpose, read in blocks of rows."""
    content = _matrix(value)
    content = content.T if transposed else content
    hasher = hashlib.blake2b(repr((content.dtype.str, content.shape)).encode(), digest_size=32)
    rows = max(1, _BLOCK_BYTES // (content.shape[1] * content.itemsize))
    for start in range(0, content.shape[0], rows):
        hasher.update(content[start : start + rows].tobytes())
    ir.release(ir.constant_tensor(value))
    return hasher.digest()


def _matrix(value: ir.Value) -> ir.Array:
    content = ir.constant(value)
    assert content is not None
    return content
