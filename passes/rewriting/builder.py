"""The builder of a replacement: calls of operators, not yet in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ... import ir
from ..pipeline.pass_ import where
from .match import Match
from .operand import Operand


class Builder:
    """Creates the nodes of a replacement, `op.Conv(m.x, weight, strides=[1, 1])`; they are inserted once the rewrite is
    allowed.
    """

    def __init__(self, match: Match, rule: str) -> None:
        self._match = match
        self._rule = rule
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

    def constant(self, content: ir.Array | float | int | bool, *, like: Operand | None = None) -> ir.Value:
        """A constant; in the element type of `like`, when that is given."""
        array = np.asarray(content)
        if like is not None:
            dtype = like.dtype
            if dtype is None:
                raise LookupError(f"the type of {like.name!r} is not known")
            array = array.astype(dtype.numpy())
        return ir.pending_constant(array, name=f"{where(self._match.root)}_constant")

    def node(
        self,
        op_type: str,
        inputs: Sequence[Operand | ir.Value | None],
        outputs: int = 1,
        *,
        domain: str = "",
        version: int | None = None,
        attributes: Mapping[str, ir.AttributeValue | ir.Attr | None] | None = None,
        unwanted: Sequence[int] = (),
    ) -> Sequence[ir.Value]:
        """A node with several outputs. `version` says the opset of a domain that the model does not import yet.

        `unwanted`: the indices of optional outputs that are left out.
        """
        rewriter = self._match.context.rewriter
        graph = self._match.root.graph
        assert graph is not None
        made = ir.new_node(
            op_type,
            [each.value if isinstance(each, Operand) and each.present else _value(each) for each in inputs],
            attributes,
            domain=domain,
            version=rewriter.imports_of(graph).get(domain, version),
            outputs=outputs,
            provenance=self._rule,
        )
        for index in unwanted:
            made.outputs[index].name = ""
        self.nodes.append(made)
        return made.outputs

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if op_type.startswith("__"):
            raise AttributeError(op_type)

        def call(
            *inputs: Operand | ir.Value | None,
            domain: str = "",
            version: int | None = None,
            **attributes: ir.AttributeValue | ir.Attr | None,
        ) -> ir.Value:
            return self.node(op_type, inputs, 1, domain=domain, version=version, attributes=attributes)[0]

        return call


def _value(given: Operand | ir.Value | None) -> ir.Value | None:
    return None if isinstance(given, Operand) else given
