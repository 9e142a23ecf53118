"""Merge linear layers of one value into one: the query, key and value projections of attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from .... import ir
from ...analyses import Shapes
from ...pipeline.exactness import Exactness
from ...pipeline.pass_ import Pass, PassContext, spell, where
from ...registry import register
from ...rewriting.constraints import FLOATS
from ..shape.slices_to_split import SPLITS, new_split

_LARGEST_WEIGHT = 1 << 28  # bytes of a merged weight, which is held in memory


@register
@dataclass(frozen=True)
class MergeMatmuls(Pass):
    """Merge the MatMuls of one value and constant matrices, and split the result; for target `onnx`.

    The biases merge with them, and so do the Reshapes into heads and the Transposes that follow in every branch. Where
    the branches transpose differently, those that differ from most are transposed once more. Nothing is rewritten
    where that saves no operator. ONNX Runtime's CPU kernels gain nothing from it at 128 rows and more
    (x0.94 to x0.98), so its targets keep the separate layers.

    before:  q = Add(MatMul(x, wq), bq); k = Add(MatMul(x, wk), bk); v = MatMul(x, wv)
    after:   q, k, v = Split(Add(MatMul(x, [wq wk wv]), [bq bk 0]))
    """

    name: ClassVar[str] = "merge-matmuls"
    is_heuristic: ClassVar[bool] = True
    exactness: ClassVar[Exactness] = Exactness.ROUNDING

    def run(self, model: ir.Model, context: PassContext) -> None:
        if context.settings.target.is_onnxruntime or context.hides_operators():
            return
        shapes = context.analyses.get(Shapes)
        for graph in ir.graphs(model):
            for products in _parallel_products(graph, shapes):
                group = _Group(products, shapes)
                group.extend()
                if group.saves() > 0 and context.log.try_rewrite(
                    self.name, where(products[0]), spell(group.nodes()), group.result(), self.exactness
                ):
                    group.rewrite(context)


def _parallel_products(graph: ir.Graph, shapes: Shapes) -> Iterator[list[ir.Node]]:
    """The MatMuls of one value and weights without other users, where there are several."""
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in graph:
        if node.op_type == "MatMul" and node.domain == "" and (x := node.inputs[0]) is not None:
            weight = node.inputs[1]
            tensor = ir.constant_tensor(weight)
            if weight is None or tensor is None or len(tensor.shape) != 2 or len(weight.uses()) != 1:
                continue
            if not ir.is_public(weight) and tensor.dtype in FLOATS & SPLITS and (shapes.rank(x) or 0) >= 2:
                found.setdefault(x, []).append(node)
    for products in found.values():
        size = sum(tensor.nbytes for node in products if (tensor := ir.constant_tensor(node.inputs[1])) is not None)
        if len(products) > 1 and size <= _LARGEST_WEIGHT:
            yield products


@dataclass
class _Group:
    """Parallel MatMuls and the layers of operators that follow in each branch.

    `sizes`: the sizes of the branches along `axis` of the merged result; `perms`: the Transpose that each branch still
    needs after the Split.
    """

    products: Sequence[ir.Node]
    shapes: Shapes
    ends: list[ir.Value] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    axis: int = 0
    biases: list[ir.Node | None] = field(default_factory=list)
    views: list[ir.Node] = field(default_factory=list)
    depth: int = 0
    transposes: list[ir.Node] = field(default_factory=list)
    perm: tuple[int, ...] = ()
    perms: list[tuple[int, ...] | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ends = [node.outputs[0] for node in self.products]
        self.sizes = [_content(node.inputs[1]).shape[1] for node in self.products]
        rank = self.shapes.rank(self.ends[0])
        assert rank is not None
        self.axis = rank - 1
        self.perms = [None] * len(self.products)

    # --- matching ---------------------------------------------------------------------------------------------------

    def extend(self) -> None:
        """Extend the group by the operators that follow in every branch."""
        self.biases = [self._bias(value, size) for value, size in zip(self.ends, self.sizes, strict=True)]
        self.ends = [
            value if bias is None else bias.outputs[0] for value, bias in zip(self.ends, self.biases, strict=True)
        ]
        if self._all("Reshape", self._is_split_into_heads):
            self.views = self._advance()
            self.sizes = [size // self.depth for size in self.sizes]
            if self._all("Transpose", lambda node: True):
                self.transposes = self._advance()
                self._agree()

    def _bias(self, value: ir.Value, size: int) -> ir.Node | None:
        node = self._only_user(value, "Add")
        if node is None:
            return None
        other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
        tensor = ir.constant_tensor(other)
        return node if tensor is not None and tuple(tensor.shape) == (size,) else None

    def _only_user(self, value: ir.Value, op_type: str) -> ir.Node | None:
        """The only user of `value`, when it is such an operator and uses it as data."""
        if not ir.is_private(value):
            return None
        node = value.consumers()[0]
        reads = op_type == "Add" or node.inputs[0] is value
        return node if reads and (node.domain, node.op_type) == ("", op_type) else None

    def _all(self, op_type: str, fits: Callable[[ir.Node], bool]) -> bool:
        users = [self._only_user(value, op_type) for value in self.ends]
        return all(node is not None and fits(node) for node in users)

    def _advance(self) -> list[ir.Node]:
        nodes = [value.consumers()[0] for value in self.ends]
        self.ends = [node.outputs[0] for node in nodes]
        return nodes

    def _is_split_into_heads(self, node: ir.Node) -> bool:
        """Whether `node` splits the last dim alone, into heads of the same size as those of the other branches."""
        source = node.inputs[0]
        before = None if source is None else self.shapes.dims(source)
        after = self.shapes.dims(node.outputs[0])
        if before is None or after is None or len(after) != len(before) + 1 or before[:-1] != after[:-2]:
            return False
        depth = after[-1]
        if not isinstance(depth, int) or depth < 1 or (self.depth and depth != self.depth):
            return False
        self.depth = depth
        return True

    def _agree(self) -> None:
        """Select the most common permutation for the merged result, and the remaining ones of the other branches."""
        own = [_permutation(node, rank=self.axis + 2) for node in self.transposes]
        self.perm = chosen = Counter(own).most_common(1)[0][0]
        self.perms = [None if perm == chosen else tuple(map(chosen.index, perm)) for perm in own]
        self.axis = chosen.index(self.axis)

    # --- profit -----------------------------------------------------------------------------------------------------

    def nodes(self) -> list[ir.Node]:
        """The nodes that are replaced."""
        return [*self.products, *(node for node in self.biases if node), *self.views, *self.transposes]

    def result(self) -> str:
        """The operators of the replacement."""
        layers = ["MatMul", "Add" * any(self.biases), "Reshape" * bool(self.views), "Transpose" * bool(self.perm)]
        return ", ".join([*filter(None, layers), "Split", *("Transpose" for perm in self.perms if perm)])

    def saves(self) -> int:
        """The number of operators that the rewrite saves."""
        return len(self.nodes()) - len(self.result().split(", "))

    # --- rewriting --------------------------------------------------------------------------------------------------

    def rewrite(self, context: PassContext) -> None:
        """Insert the merged layers before the first product, and replace the branches by outputs of the Split."""
        first, version = self.products[0], self.products[0].version

        def insert(op_type: str, *inputs: ir.Value | ir.Content | None, **attributes: ir.AttributeValue) -> ir.Value:
            node = ir.new_node(op_type, inputs, attributes, version=version, provenance=MergeMatmuls.name)
            context.rewriter.insert(node, before=first)
            return node.outputs[0]

        weight = np.concatenate([_content(node.inputs[1]) for node in self.products], axis=1)
        whole = insert("MatMul", first.inputs[0], ir.pending_constant(weight, name="merged_weight"))
        if any(self.biases):
            whole = insert("Add", whole, ir.pending_constant(self._merged_bias(weight), name="merged_bias"))
        if self.views:
            lead = self.shapes.rank(whole)
            assert lead is not None
            whole = insert("Reshape", whole, [*[0] * (lead - 1), sum(self.sizes), self.depth])
        if self.perm:
            whole = insert("Transpose", whole, perm=self.perm)
        split = context.rewriter.insert(new_split(whole, self.axis, self.sizes, version or 0), before=first)
        for end, part, perm in zip(self.ends, split.outputs, self.perms, strict=True):
            result = part if perm is None else insert("Transpose", part, perm=perm)
            node = end.producer()
            assert node is not None
            context.rewriter.replace(node, [result])

    def _merged_bias(self, weight: ir.Array) -> ir.Array:
        parts: list[ir.Array] = []
        for value, node, size in zip(self.products, self.biases, self._widths(), strict=True):
            if node is None:
                parts.append(np.zeros(size, dtype=weight.dtype))
            else:
                product = value.outputs[0]
                parts.append(_content(node.inputs[1] if node.inputs[0] is product else node.inputs[0]))
        return np.concatenate(parts)

    def _widths(self) -> list[int]:
        return [size * (self.depth if self.views else 1) for size in self.sizes]


def _permutation(node: ir.Node, rank: int) -> tuple[int, ...]:
    given = ir.attribute(node, "perm")
    return given if isinstance(given, tuple) else tuple(reversed(range(rank)))


def _content(value: ir.Value | None) -> ir.Array:
    content = ir.constant(value)
    assert content is not None
    return content
