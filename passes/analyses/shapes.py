"""The facts of shape inference about every value in every scope, in step with rewrites."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from copy import copy

from ... import ir
from ...ir.shapes.facts import Fact
from ...ir.shapes.inference import Inference, declared_fact, merge
from ...ir.shapes.symbolic import Dim, differ
from .manager import Analysis, AnalysisManager


class Shapes(Inference, Analysis):
    """Facts about values. They hold of the value itself and survive rewrites, which add to them."""

    follows = True

    def __init__(self, model: ir.Model) -> None:
        super().__init__(model)
        self._improved: set[ir.Value] = set()

    @classmethod
    def compute(cls, model: ir.Model, analyses: AnalysisManager) -> Shapes:  # noqa: ARG003
        """Infer the facts about all values of `model`."""
        shapes = cls(model)
        for value in model.graph.inputs:
            shapes._facts[value] = declared_fact(value)
        shapes.learn_all(model.graph)
        return shapes

    # --- asking -----------------------------------------------------------------------------------------------------

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """The element type, or None."""
        return self.fact(value).dtype

    def dims(self, value: ir.Value) -> tuple[Dim, ...] | None:
        """The dims (numbers or symbolic), or None when not even the rank is known."""
        return self.fact(value).dims

    def rank(self, value: ir.Value) -> int | None:
        """The number of dims, or None."""
        dims = self.fact(value).dims
        return None if dims is None else len(dims)

    def static(self, value: ir.Value) -> tuple[int, ...] | None:
        """The dims, when all of them are numbers."""
        return self.fact(value).static

    def shape_value(self, value: ir.Value) -> tuple[Dim, ...] | None:
        """The elements of a small integer or boolean (0, 1) tensor, row by row, or None.

        A symbol that stands for no size may be negative.
        """
        return self.fact(value).elements

    def is_tensor(self, value: ir.Value) -> bool:
        """Whether `value` is known to be a tensor."""
        return self.fact(value).dtype is not None

    def same_dims(self, a: Sequence[Dim] | None, b: Sequence[Dim] | None) -> bool:
        """Whether two lists of dims are equal in every run."""
        return a is not None and b is not None and tuple(a) == tuple(b)

    def same_type_and_shape(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether two values have, proven, the same element type and the same dims."""
        one, other = self.fact(a), self.fact(b)
        return one.dtype is not None and one.dtype == other.dtype and self.same_dims(one.dims, other.dims)

    def may_be_same(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether nothing that is known says that the types or the dims of two values differ."""
        one, other = self.fact(a), self.fact(b)
        if one.dtype is not None and other.dtype is not None and one.dtype != other.dtype:
            return False
        if one.dims is None or other.dims is None:
            return True
        return len(one.dims) == len(other.dims) and not any(map(differ, one.dims, other.dims))

    def show(self, value: ir.Value) -> str:
        """Type and dims of `value` for people: `FLOAT[batch, 12]`, `?[?]`."""
        fact = self.fact(value)
        dims = "?" if fact.dims is None else ", ".join(map(str, fact.dims))
        return f"{'?' if fact.dtype is None else fact.dtype.name}[{dims}]"

    # --- following rewrites -----------------------------------------------------------------------------------------

    def inserted(self, node: ir.Node) -> None:
        """Infer the facts about the outputs of a new node."""
        if not all(value in self._facts for value in node.outputs):
            self.learn(node)

    def replaced(self, old: ir.Value, new: ir.Value) -> None:
        """Transfer the facts about `old` to `new`."""
        before, found = self.fact(old), self.fact(new)
        merged = merge(found, before)
        self._facts[new] = merged
        if merged != before:
            self._improved.add(new)

    def supposing(self, facts: Mapping[ir.Value, Fact]) -> Shapes:
        """A copy with these facts added; the copy's later facts are not added here."""
        other = copy(self)
        other._facts = ChainMap(dict(facts), self._facts)
        other._improved = set()
        return other

    def refresh(self, model: ir.Model) -> Sequence[ir.Node]:
        """Propagate the facts that values took over from those that they replaced."""
        improved, self._improved = self._improved, set()
        users = []
        for node in _reachable_nodes(model) if improved else ():
            known = [self._facts.get(value) for value in node.outputs]
            if None not in known and improved.isdisjoint(node.inputs):
                continue
            users.append(node)
            for value, old, new in zip(node.outputs, known, self.infer_node(node), strict=True):
                better = new if old is None else merge(new, old)
                if better != old:
                    self._facts[value] = better
                    improved.add(value)
        return users


def _reachable_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """The nodes of the main graph and, after each node, of the graphs that it holds."""
    pending = [iter(model.graph)]
    while pending:
        node = next(pending[-1], None)
        if node is None:
            pending.pop()
            continue
        yield node
        pending.extend(iter(body) for body in ir.subgraphs_of(node))
