"""Shape inference over the symbols of the inputs' dims, collecting the constraints that operators put on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from .... import ir
from ....ir.shapes.evaluate import likely
from ....ir.shapes.facts import Dims, Fact
from ....ir.shapes.inference import BROKEN, Inference, tensor_fact
from ....ir.shapes.symbolic import Dim, fresh_dim
from ..dim_solver import Equations, size_of
from .constrained_call import RULES, ConstrainedCall

MAX_NODES = 200_000
_SAME_ELEMENTS = ir.MOVEMENT | {"Cast"}


class Collector(Inference):
    """Facts about what a model is likely to compute in runs that succeed; `equations` holds what those require.

    `declared_symbols`: the symbols that inner values may declare.
    """

    def __init__(self, model: ir.Model, equations: Equations, declared_symbols: Collection[str]) -> None:
        super().__init__(model)
        self.equations = equations
        self._declared = declared_symbols
        self._below: dict[ir.Value, Dim] = {}
        self._typical: dict[Dims, Dims] = {}
        self._budget = MAX_NODES
        for value in model.graph.inputs:
            if value.const_value is not None:  # feeds leave an overridable initializer as it is
                self._facts[value] = tensor_fact(value.const_value)

    def run(self, graph: ir.Graph) -> None:
        """Collect the constraints of the main graph, whose inputs have facts."""
        for node in graph:
            self.learn(node)
            self._constrain(node)

    # --- facts --------------------------------------------------------------------------------------------------------

    def learn(self, node: ir.Node) -> None:
        """Infer the facts about the outputs of `node`, until the node budget is spent."""
        self._budget -= 1
        if self._budget >= 0 and node.op_type != "Constant":  # whose facts need no inference
            super().learn(node)

    def infer_node(self, node: ir.Node) -> list[Fact]:
        """The facts about each output of `node`: what is proven, likely, or else declared."""
        function = self._functions.get(node.op_identifier()) if self._functions else None
        if function is None:
            facts = super().infer_node(node)
        else:
            for value, operand in zip(function.inputs, node.inputs, strict=False):
                self.assume(value, Fact(None) if operand is None else self.fact(operand))
            self.learn_all(function.graph)
            facts = [self.fact(value) for value in function.outputs]
        return [self._completed(value, fact) for value, fact in zip(node.outputs, facts, strict=False)]

    def assume(self, value: ir.Value, fact: Fact) -> None:
        """Take `fact` as true of `value`."""
        super().assume(value, self._likely(fact))

    def _completed(self, value: ir.Value, fact: Fact) -> Fact:
        if fact.dtype is not None and fact.dims is not None:
            return self._likely(fact)
        dims = fact.dims
        if dims is None and value.shape is not None and not value.is_graph_output():
            dims = self._declared_dims(value.shape.dims)
        return self._likely(Fact(fact.dtype or value.dtype, dims, fact.elements))

    def _likely(self, fact: Fact) -> Fact:
        """The fact with dims as they are in most runs, without the cases that proofs need."""
        if fact.dims is None:
            return fact
        if fact.dims not in self._typical:
            self._typical[fact.dims] = tuple(map(likely, fact.dims))
        dims = self._typical[fact.dims]
        return fact if dims == fact.dims else Fact(fact.dtype, dims, fact.elements)

    def _declared_dims(self, dims: Sequence[int | ir.SymbolicDim]) -> Dims:
        """Declared dims of inner values: numbers hold, and so do symbols that the inputs have."""
        return tuple(
            size_of(dim) if dim in self._declared or (isinstance(dim, int) and dim >= 0) else fresh_dim()
            for dim in (each if isinstance(each, int) else str(each.value) for each in dims)
        )

    # --- constraints --------------------------------------------------------------------------------------------------

    def _constrain(self, node: ir.Node) -> None:
        """Collect the constraints of a node and of the bodies that it runs."""
        if node.op_type in _SAME_ELEMENTS and node.inputs[0] in self._below:
            self._below[node.outputs[0]] = self._below[node.inputs[0]]
        rule = RULES.get((node.domain, node.op_type))
        if rule is not None:
            inputs = [None if value is None else self.fact(value) for value in node.inputs]
            results = [self.fact(value) for value in node.outputs]
            with suppress(*BROKEN):  # facts are missing, or the node breaks its operator's rules at any size
                rule(ConstrainedCall(node, inputs, results, self.equations, self._below, self.fact))
        function = self._functions.get(node.op_identifier()) if self._functions else None
        if function is not None:
            self.learn(node)  # its body has the facts of another call, perhaps
        for body in [function.graph] if function is not None else self._bodies(node):
            for inner in body if self._budget >= 0 else ():
                self._constrain(inner)

    def _bodies(self, node: ir.Node) -> Sequence[ir.Graph]:
        bodies = list(ir.subgraphs_of(node))
        if node.op_type == "If" and node.inputs[0] is not None:
            condition = self.fact(node.inputs[0]).elements
            if condition is not None and isinstance(condition[0], int):  # a test of ranks, as exporters write it
                wanted = node.attributes["then_branch" if condition[0] else "else_branch"].as_graph()
                bodies = [body for body in bodies if body is wanted]  # the other branch does not accept this rank
        return bodies


def collect(
    model: ir.Model, inputs: Mapping[ir.Value, Dims], symbols: Collection[str], equations: Equations
) -> Equations:
    """Add the constraints of `model` on the dims of its `inputs` to `equations`.

    `symbols`: those of the inputs, which inner values may declare, too.
    """
    collector = Collector(model, equations, symbols)
    for value, dims in inputs.items():
        is_tensor = isinstance(value.type, ir.TensorType) or value.type is None
        collector.assume(value, Fact(value.dtype, dims if is_tensor else None))
    collector.run(model.graph)
    return equations
