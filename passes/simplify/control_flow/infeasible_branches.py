"""Drop infeasible branches: those after which some operator cannot run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar, Final

from .... import ir
from ...analyses import Shapes
from ...pipeline.pass_ import Pass, PassContext, where
from ...registry import register

_MOST_BRANCHES = 64  # Ifs of one graph that are analyzed: each visits the nodes after it

_RECURRENT: Final = {0: 3, 5: 3, 6: 3}
_RANKS: Final = {"LSTM": _RECURRENT, "GRU": _RECURRENT, "RNN": _RECURRENT, "Gemm": {0: 2, 1: 2}}
"""The ranks that operators require of their inputs; ONNX Runtime fails on others."""

_EQUAL_RANKS: Final = frozenset({"Conv", "ConvTranspose"})
"""Operators that require the same rank of their first two inputs."""


@register
@dataclass(frozen=True)
class DropInfeasibleBranches(Pass):
    """Inline a branch of an If when the other has a result of a rank that a later operator of the graph rejects.

    A run that takes the other branch fails, so that it has no result to preserve. torch's exporter writes such an If
    for each `squeeze` of an unknown dim.

    before:  a = If(c) <then_branch = { r = Squeeze(x, %last) }, else_branch = { r = Identity(x) }>; y = LSTM(a, …)
    after:   a = Squeeze(x, %last); y = LSTM(a, …)      x: [n, 128, t]
    """

    name: ClassVar[str] = "drop-infeasible-branches"

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        for graph in ir.graphs(model):
            for node in islice(list(_branching(graph)), _MOST_BRANCHES):
                shapes = context.analyses.get(Shapes)
                infeasible = [name for name in _BRANCHES if _fails(node, name, shapes, functions)]
                if len(infeasible) != 1:
                    continue
                (taken,) = set(_BRANCHES) - set(infeasible)
                if context.log.try_rewrite(self.name, where(node), "If", taken):
                    branch = node.attributes[taken].as_graph()
                    results = context.rewriter.inline(branch, [], before=node)
                    context.rewriter.replace(node, results)


_BRANCHES: Final = ("then_branch", "else_branch")


def _branching(nodes: Iterable[ir.Node]) -> Iterator[ir.Node]:
    return (node for node in nodes if node.op_type == "If" and node.domain == "" and _is_open(node))


def _is_open(node: ir.Node) -> bool:
    return ir.scalar(node.inputs[0]) is None and all(not node.attributes[name].is_ref() for name in _BRANCHES)


def _fails(node: ir.Node, name: str, shapes: Shapes, functions: frozenset[ir.OperatorIdentifier]) -> bool:
    """Whether a run in which the If `node` takes branch `name` reaches an operator that cannot run."""
    results = node.attributes[name].as_graph().outputs
    known = {value: shapes.fact(result) for value, result in zip(node.outputs, results, strict=True)}
    if all(fact.dims is None or shapes.rank(value) is not None for value, fact in known.items()):
        return False  # the branch adds no rank
    supposed = shapes.supposing(known)
    changed = set(known)
    for user in _after(node):
        if not changed.isdisjoint(_read_by(user)):
            if user.op_identifier() not in functions and _cannot_run(user, supposed):
                return True
            for value, fact in zip(user.outputs, supposed.infer_node(user), strict=True):
                supposed.assume(value, fact)
                changed.add(value)
    return False


def _after(node: ir.Node) -> Iterator[ir.Node]:
    nodes = iter(node.graph if node.graph is not None else ())
    for each in nodes:
        if each is node:
            return nodes
    return iter(())


def _read_by(node: ir.Node) -> set[ir.Value | None]:
    """The operands of the node and of the nodes in its bodies."""
    return {*node.inputs, *(value for inner in ir.nodes_within(node) for value in inner.inputs)}


def _cannot_run(node: ir.Node, shapes: Shapes) -> bool:
    """Whether `node` has users, and an input of a rank that its operator does not accept."""
    if node.domain != "" or not any(ir.is_read(value) for value in node.outputs):
        return False
    ranks = [None if value is None else shapes.rank(value) for value in node.inputs]
    required = _RANKS.get(node.op_type, {})
    if any(rank not in (None, required.get(index, rank)) for index, rank in enumerate(ranks)):
        return True
    return node.op_type in _EQUAL_RANKS and None not in ranks[:2] and ranks[0] != ranks[1]
