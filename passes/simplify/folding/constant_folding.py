"""Constant folding by the evaluator of the pass context."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...registry import register

QUANTIZATION = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
"""Markers for the runtime rather than arithmetic: folding `DequantizeLinear(int8 weight)` undoes the quantization."""

GROWERS = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "Resize", "Upsample", "Pad", "EyeLike"})
"""Operators whose result may be arbitrarily larger than their inputs."""

_REGION_BYTES = 64 << 20  # results and constants that one evaluation may hold at once
_RESULT_BYTES = 1 << 30  # no single result above this is computed, whatever it frees
_NODE_BYTES = 64  # approximate size of a node with its names in the file
_FAILED = "optimize_graph.fold.failed"


@register
@dataclass(frozen=True)
class ConstantFolding(Pass):
    """Replace nodes that depend on constants alone, and integer results that shape inference knows, by constants.

    Never random, unknown or quantizing operators. A result may be at most `settings.growth_bytes` larger than the
    constants that it frees; a larger one (an Expand, a Cast of shared weights) stays an operator, and so does a
    ConstantOfShape that is larger than the node.

    before:  s = Mul(%two, %three); y = Add(x, s); n = Shape(x)      x: float[4]
    after:   y = Add(x, %six)                                        n = %four
    """

    name: ClassVar[str] = "constant-fold"

    def run(self, model: ir.Model, context: PassContext) -> None:
        shapes = context.analyses.get(Shapes)
        functions = context.functions()
        for graph in ir.graphs(model):
            _fold_known_values(graph, shapes, functions, context)
            if context.evaluator is not None:
                _Folder(graph, shapes, functions, context).run()


def _fold_known_values(
    graph: ir.Graph, shapes: Shapes, functions: frozenset[ir.OperatorIdentifier], context: PassContext
) -> None:
    """Integer tensors whose elements the shape analysis knows: Shape of static dims, and arithmetic on them."""
    for node in graph:
        if len(node.outputs) != 1 or node.op_type in ("Constant", "Identity") or not node.inputs:
            continue
        value = node.outputs[0]
        known = _known_integers(value, shapes)
        if known is None or not ir.is_read(value) or not ir.is_deterministic(node, functions):
            continue
        if context.log.try_rewrite(ConstantFolding.name, where(node), spell([node]), "a constant"):
            _put(node, [known], context)


def _known_integers(value: ir.Value, shapes: Shapes) -> ir.Array | None:
    """The content of a small integer tensor, when the shape analysis knows each element as a number."""
    elements, dims, dtype = shapes.shape_value(value), shapes.static(value), shapes.dtype(value)
    if elements is None or dims is None or dtype is None or not all(isinstance(each, int) for each in elements):
        return None
    return np.array(elements, dtype=dtype.numpy()).reshape(dims)


class _Folder:
    """Folds one graph."""

    def __init__(
        self, graph: ir.Graph, shapes: Shapes, functions: frozenset[ir.OperatorIdentifier], context: PassContext
    ) -> None:
        self.graph = graph
        self.shapes = shapes
        self.functions = functions
        self.context = context
        self.frees: dict[ir.Node, int] = {}

    def run(self) -> None:
        region = self._constant_nodes()
        while True:
            self._count_freed_bytes(region)
            kept = self._shrink(region)
            if len(kept) == len(region):
                break
            region = kept  # the operands of the others now stay
        for part in self._parts(region):
            self._fold(_computable(part))

    def _constant_nodes(self) -> list[ir.Node]:
        """The nodes of which every input is constant or computed from constants, in order."""
        computed: set[ir.Value] = set()
        found = []
        for node in self.graph:
            if not all(value is None or value in computed or ir.is_constant(value) for value in node.inputs):
                continue
            if _may_fold(node, self.functions) and self._result_bytes(node) is not None:
                found.append(node)
                computed.update(node.outputs)
        return found

    def _count_freed_bytes(self, region: Sequence[ir.Node]) -> None:
        """Divide the bytes of the constants that only `region` uses among their users, and propagate them down."""
        inside = set(region)
        for node in region:
            freed = _NODE_BYTES
            for value in dict.fromkeys(each for each in node.inputs if each is not None):
                users = {user for user, _ in value.uses()}
                if ir.is_public(value) or not users <= inside:
                    continue
                producer, tensor = value.producer(), ir.constant_tensor(value)
                if producer in inside:
                    freed += self.frees[producer] // len(producer.outputs) // len(users)
                elif tensor is not None:
                    freed += tensor.nbytes // len(users)
            self.frees[node] = freed

    def _slack(self, node: ir.Node) -> int:
        """The bytes by which the results of `node` may exceed those that they free."""
        if node.op_type == "ConstantOfShape":
            return 0  # the node is the smallest form
        return self.context.settings.growth_bytes

    def _result_bytes(self, node: ir.Node) -> int | None:
        """The bytes of the results; None where they are not known and not bounded."""
        total = 0
        for value in node.outputs:
            dims, dtype = self.shapes.static(value), self.shapes.dtype(value)
            if dims is None or dtype is None:
                return None if node.op_type in GROWERS else self._input_bytes(node)
            total += prod(dims) * (8 if dtype == ir.DataType.STRING else max(1, dtype.bitwidth // 8))
        return total

    def _input_bytes(self, node: ir.Node) -> int | None:
        """An estimate where the dims of the result are unknown: small inputs have small results, growers apart."""
        tensors = [ir.constant_tensor(value) for value in node.inputs if value is not None]
        if any(tensor is None or tensor.nbytes > 1 << 16 for tensor in tensors):
            return None
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)

    def _shrink(self, nodes: Sequence[ir.Node]) -> list[ir.Node]:
        """Remove nodes whose results are used outside and too large; their operands may be folded instead."""
        region = dict.fromkeys(nodes)
        for node in reversed(nodes):
            size = self._result_bytes(node) or 0
            growth = size - self.frees[node] if _is_needed_outside(node, region) else 0
            if size > _RESULT_BYTES or growth > self._slack(node):
                del region[node]
        return list(region)

    def _parts(self, region: Sequence[ir.Node]) -> Iterator[list[ir.Node]]:
        """The region in runs whose data fit in memory together."""
        part: list[ir.Node] = []
        held = 0
        for node in region:
            tensors = [ir.constant_tensor(value) for value in node.inputs]
            size = (self._result_bytes(node) or 0) + sum(tensor.nbytes for tensor in tensors if tensor is not None)
            if part and held + size > _REGION_BYTES:
                yield part
                part, held = [], 0
            part.append(node)
            held += size
        if part:
            yield part

    def _fold(self, part: list[ir.Node]) -> None:
        """Evaluate a run of nodes at once; node by node where that fails."""
        if not part:
            return
        inside = set(part)
        needed = [node for node in part if _is_needed_outside(node, inside)]
        wanted = [value for node in needed for value in node.outputs if ir.is_read(value)]
        if not wanted:
            return
        known = self._evaluate(part, wanted)
        if known is not None:
            self._commit(needed, known)
            return
        if len(part) == 1:
            part[0].meta[_FAILED] = True
            return
        for node in part:
            self._fold(_computable([node]))

    def _evaluate(self, part: Sequence[ir.Node], wanted: Sequence[ir.Value]) -> dict[ir.Value, ir.Array] | None:
        assert self.context.evaluator is not None
        made = {value for node in part for value in node.outputs}
        constants = {}
        for node in part:
            for value in node.inputs:
                if value is not None and value not in made and value not in constants:
                    content = ir.constant(value)
                    assert content is not None
                    constants[value] = content
        imports = self.context.rewriter.imports_of(self.graph)
        found = self.context.evaluator.evaluate(part, constants, wanted, imports)
        for value in constants:
            ir.release(ir.constant_tensor(value))
        if found is None or any(array.dtype.kind not in "biufcVOU" for array in found.values()):
            return None
        return dict(found)

    def _commit(self, nodes: Iterable[ir.Node], known: dict[ir.Value, ir.Array]) -> None:
        for node in nodes:
            size = sum(known[value].nbytes for value in node.outputs if value in known)
            if size - self.frees[node] > self._slack(node):
                node.meta[_FAILED] = True  # larger than inference said
            elif self.context.log.try_rewrite(ConstantFolding.name, where(node), spell([node]), "a constant"):
                _put(node, [known.get(value) for value in node.outputs], self.context)


def _is_needed_outside(node: ir.Node, region: Collection[ir.Node]) -> bool:
    """Whether a result of `node` has users outside of `region`."""
    return any(value.is_graph_output() or any(user not in region for user, _ in value.uses()) for value in node.outputs)


def _computable(part: Sequence[ir.Node]) -> list[ir.Node]:
    """The nodes of `part` with constant inputs: the producer of an input may not have been folded."""
    made: set[ir.Value] = set()
    found = []
    for node in part:
        if all(value is None or value in made or ir.is_constant(value) for value in node.inputs):
            found.append(node)
            made.update(node.outputs)
    return found


def _may_fold(node: ir.Node, functions: frozenset[ir.OperatorIdentifier]) -> bool:
    if node.op_type in QUANTIZATION or node.op_type == "Constant" or _FAILED in node.meta:
        return False
    if node.op_type == "Identity" and node.outputs[0].is_graph_output():
        return False  # an Identity of a constant that is a graph output
    if any(True for _ in ir.subgraphs_of(node)) or any(given.is_ref() for given in node.attributes.values()):
        return False
    return ir.is_deterministic(node, functions)


def _put(node: ir.Node, contents: Sequence[ir.Array | None], context: PassContext) -> None:
    """Replace the results of `node` by constants; None for those without users."""
    results: list[ir.Value | None] = []
    for value, content in zip(node.outputs, contents, strict=True):
        if content is None:
            results.append(None)
            continue
        made = context.rewriter.constant(np.asarray(content), near=node, name=value.name or "folded")
        results.append(made)
    context.rewriter.replace(node, results)
