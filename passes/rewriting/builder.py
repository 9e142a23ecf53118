"""The builder of a replacement: calls of operators, not yet in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ... import ir
from ..pipeline.pass_ import where
from .match import Match
from .operand import Operand


class Builder:
    """Creates the nodes of a replacement; they are inserted once the rewrite is allowed.

    `op.Conv(m.x, weight, strides=[1, 1])`, `op.Mul(m.x, 2.0)`, `op.ReduceSum(m.x, axes=[1])`: `axes` is an attribute or
    an input as the opset has it, a list or number as an operand is a constant.
    """

    def __init__(self, match: Match, rule: str) -> None:
        self._match = match
        self._rule = rule
        self._constant_name = f"{where(match.root)}_constant"
        self.nodes: list[ir.Node] = []
        self.replaced: list[tuple[ir.Value, ir.Value]] = []

    @property
    def opset(self) -> int:
        """The standard's opset at the root."""
        graph = self._match.root.graph
        assert graph is not None
        return self._match.context.rewriter.imports_of(graph).get("", 0)

    def replace(self, old: Operand | ir.Value, new: ir.Value) -> None:
        """Let `new` replace an inner value, besides what the body returns for the root.

        Only for a value without users outside the match, the outputs of the graph apart: `new` is inserted before the
        root.
        """
        self.replaced.append((old.value if isinstance(old, Operand) else old, new))

    def constant(self, content: ir.Content) -> ir.Value:
        """A constant that several operators share."""
        return ir.pending_constant(np.asarray(content), name=self._constant_name)

    def node(
        self,
        op_type: str,
        inputs: Sequence[Operand | ir.Value | ir.Content | None],
        outputs: int = 1,
        *,
        domain: str = "",
        version: int | None = None,
        attributes: Mapping[str, ir.AttributeValue | ir.Attr | ir.Value | None] | None = None,
        unwanted: Sequence[int] = (),
    ) -> Sequence[ir.Value]:
        """A node with several outputs. `version` says the opset of a domain that the model does not import yet.

        Attributes and constant operands are spelled as the opset has them: see `ir.new_node`.
        `unwanted`: the indices of optional outputs that are left out.
        """
        rewriter = self._match.context.rewriter
        graph = self._match.root.graph
        assert graph is not None
        made = ir.new_node(
            op_type,
            [(each.value if each.present else None) if isinstance(each, Operand) else each for each in inputs],
            attributes,
            domain=domain,
            version=rewriter.imports_of(graph).get(domain, version),
            outputs=outputs,
            provenance=self._rule,
            constant_name=self._constant_name,
            dtype_of=self._dtype_of,
        )
        for index in unwanted:
            made.outputs[index].name = ""
        self.nodes.append(made)
        return made.outputs

    def _dtype_of(self, value: ir.Value) -> ir.DataType | None:
        shapes = self._match.shapes
        if value.producer() in self.nodes and shapes.dtype(value) is None:
            shapes.learn_all(self.nodes)
        return shapes.dtype(value)

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if op_type.startswith("__"):
            raise AttributeError(op_type)

        def call(
            *inputs: Operand | ir.Value | ir.Content | None,
            domain: str = "",
            version: int | None = None,
            **attributes: ir.AttributeValue | ir.Attr | ir.Value | None,
        ) -> ir.Value:
            return self.node(op_type, inputs, 1, domain=domain, version=version, attributes=attributes)[0]

        return call
