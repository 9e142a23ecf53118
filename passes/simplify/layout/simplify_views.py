"""Chains of data movement as the fewest operators, by what they do together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .... import ir
from ...analyses import Dim, Shapes
from ...analyses.symbolic import at_least, product
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, structural
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call
from ...rewriting.rule import rule
from ...views.emit import Step, build, constant_target, cost, emit, moved
from ...views.node_view import BUILDERS, chain, node_view

_FREE: Final = frozenset({"Identity", *ir.VIEWS})
_BLOCKS: Final = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""Element types of ONNX Runtime's CPU kernels of DepthToSpace and SpaceToDepth in every known release."""


@dataclass(frozen=True)
class _Chain:
    """Operators that compute the root from `source`, and the nodes that they replace."""

    source: ir.Value
    steps: Sequence[Step]
    nodes: tuple[ir.Node, ...]


def _is_end(m: Match) -> bool:
    """Whether no movement alone goes on from the result: it belongs to that chain."""
    if m.context.hides_operators():
        return False
    result = m.root.outputs[0]
    if not ir.is_private(result):
        return True
    ((user, index), *others) = result.uses()
    if others or index != 0 or user.op_type not in BUILDERS:
        return True
    return not any(node_view(each, m.shapes) for each in user.outputs if ir.is_read(each))


def _dying(nodes: Sequence[ir.Node]) -> tuple[ir.Node, ...]:
    """Those of a chain, from its end on, that nothing else uses."""
    dying = [*nodes[:1]]
    for node in nodes[1:]:
        values = [value for value in node.outputs if ir.is_read(value)]
        if any(value.is_graph_output() or not set(value.consumers()) <= {*dying} for value in values):
            break
        dying.append(node)
    return tuple(dying)


def _moved(nodes: Sequence[ir.Node], shapes: Shapes) -> Dim | None:
    """How many elements the nodes move; None where that is not known."""
    total: Dim = 0
    for value in (value for node in nodes if node.op_type not in _FREE for value in node.outputs):
        dims = shapes.dims(value)
        if dims is None:
            return None
        total = total + product(dims)
    return total


def _candidates(m: Match) -> Iterator[tuple[ir.Value, Sequence[Step], Dim]]:
    """Sources, the nearest first, the operators that compute the root from them, and what these move."""
    result, shapes = m.root.outputs[0], m.shapes
    opset, seen = m.root.version or 0, {result}
    blocks = opset >= 11 and shapes.dtype(result) in _BLOCKS
    for source, view in chain(result, shapes)[1:]:
        seen.add(source)
        steps = emit(view, blocks=blocks)
        if steps is not None and (opset >= 10 or all(step.op_type != "Slice" for step in steps)):
            yield source, steps, moved(steps, view)
    node: ir.Node | None = m.root
    while node is not None and node.op_type in ir.VIEWS and node.domain == "" and (value := node.inputs[0]) is not None:
        target = _target(m, value) if value not in seen else None
        if target is not None:
            yield value, [Step("Reshape", tuple(target))], 0
        node = value.producer()


def _target(m: Match, source: ir.Value) -> Sequence[int] | None:
    """The target of a Reshape: from the dims, or the one that the root has, where it copies no dim."""
    target = constant_target(m.shapes.dims(source), m.shapes.dims(m.root.outputs[0]))
    if target is None and m.root.op_type == "Reshape" and ir.attribute(m.root, "allowzero") in (0, None):
        own = ir.constant(m.root.inputs[1])
        target = None if own is None or 0 in own else [int(each) for each in own]
    return target


def _simplest(m: Match) -> _Chain | None:
    """The fewest operators, of those the ones that move least, of those from the farthest source."""
    nodes: list[ir.Node] = []
    node: ir.Node | None = m.root
    while node is not None and node.domain == "" and node.op_type in BUILDERS and node.graph is m.root.graph:
        nodes.append(node)
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    dying = _dying(nodes)
    index = {node.inputs[0]: at for at, node in enumerate(nodes, 1)}
    best: tuple[_Chain, int, Dim] | None = None
    for source, steps, elements in _candidates(m):
        at = index.get(source, 0)
        replaced = dying[:at]
        before = _moved(replaced, m.shapes) if replaced else None
        if before is None:
            continue
        saved = len(replaced) - cost(steps) - (not steps and m.root.outputs[0].is_graph_output())
        less = before - elements
        if saved < 0 or not at_least(less, 0) or not (saved or less != 0 or at > len(replaced)):
            continue
        if best is None or saved > best[1] or (saved == best[1] and at_least(less, best[2])):
            best = _Chain(source, steps, replaced), saved, less
    if best is None:
        return None
    m.found.extend(best[0].nodes)
    return best[0]


_simplest_chain = let("fewer operators, or as many that move less", _simplest, is_structural=True)


@rule(
    OneOf(tuple(any_call(name).opset(since=5) for name in BUILDERS if name != "Identity")),
    requires=[structural("the end of a chain", _is_end), _simplest_chain],
    source="ONNX: the index map of each operator; views as in einops and tinygrad's ShapeTracker",
)
def simplify_views(m: Match, op: Builder) -> ir.Value:
    """Compute a chain of data movement by the fewest operators, of those by the ones that move the fewest elements.

    before:  y = Reshape(Transpose<perm = [0, 2, 1]>(Transpose<perm = [0, 2, 1]>(x)), %[0, 12, 64])
    after:   y = Reshape(x, %[0, 12, 64])
    """
    found = m[_simplest_chain]
    return build(found.steps, found.source, op)
