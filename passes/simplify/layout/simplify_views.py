"""Chains of data movement as the fewest operators, by what they do together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from .... import ir
from ....ir.shapes.symbolic import at_least, product
from ...analyses import Dim, Shapes
from ...analyses.nonzero_dims import dims_unless_empty
from ...rewriting.builder import Builder
from ...rewriting.constraints import let, structural
from ...rewriting.match import Match
from ...rewriting.pattern import OneOf, any_call
from ...rewriting.rule import rule
from ...views.emit import Step, build, constant_target, cost, emit, moved
from ...views.node_view import BUILDERS, chain
from ...views.view import View

"""Operators that move no element."""

_BLOCKS: Final = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""Element types of ONNX Runtime's CPU kernels of DepthToSpace and SpaceToDepth in every known release."""

_SIMPLE: Final = "optimize_graph.simple_views"
"""Metadata of a node, in memory: the chain, when nothing simpler was found for it."""


@dataclass(frozen=True)
class _Plan:
    """`steps` from `source` instead of `nodes`: `saved` operators and `less` moved elements."""

    source: ir.Value
    steps: Sequence[Step]
    nodes: Sequence[ir.Node]
    saved: int
    less: Dim

    def is_better(self, other: _Plan) -> bool:
        """Whether it saves more, or as much from a source that is farther away."""
        return self.saved > other.saved or (self.saved == other.saved and at_least(self.less, other.less))


def _simplest(m: Match) -> _Plan | None:
    """The fewest operators, of those the ones that move least, of those from the farthest source.

    If nothing is saved, the chain must at least get shorter: operators with other users lose one. Not by slices, which
    would no longer tile the same source: see `slices-to-split`.
    """
    nodes = _chain_of(m.root)
    dying = _without_other_users(nodes)
    seen = len(dying), [(node, node.inputs, m.shapes.dims(node.outputs[0])) for node in nodes]
    is_lone_view = len(nodes) == 1 and m.root.op_type in ir.ALIASES
    if is_lone_view or m.root.meta.get(_SIMPLE) == seen:
        return None
    best: _Plan | None = None
    for at, source, view, steps in _candidates(m, nodes, dying):
        replaced = dying[:at]
        saved = len(replaced) - cost(steps) - (not steps and m.root.outputs[0].is_graph_output())
        before = _moved(replaced, m.shapes) if saved >= 0 else None
        if before is None:
            continue
        plan = _Plan(source, steps, replaced, saved, before - (0 if view is None else moved(steps, view)))
        is_shorter = at > len(replaced) and not any(step.op_type in ("Slice", "Gather") for step in steps)
        pays = saved > 0 or plan.less != 0 or is_shorter
        if pays and at_least(plan.less, 0) and (best is None or plan.is_better(best)):
            best = plan
    if best is None:
        m.root.meta[_SIMPLE] = seen
    else:
        m.found.extend(best.nodes)
    return best


def _chain_of(root: ir.Node) -> list[ir.Node]:
    """Operators of movement of one graph that follow each other up to `root`, the nearest first."""
    nodes: list[ir.Node] = []
    node: ir.Node | None = root
    while node is not None and node.domain == "" and node.op_type in BUILDERS and node.graph is root.graph:
        nodes.append(node)
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return nodes


def _without_other_users(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """Those of a chain, from its end on, that nothing else uses."""
    dying = [*nodes[:1]]
    for node in nodes[1:]:
        values = [value for value in node.outputs if ir.is_read(value)]
        if any(value.is_graph_output() or not set(value.consumers()) <= {*dying} for value in values):
            break
        dying.append(node)
    return dying


def _moved(nodes: Sequence[ir.Node], shapes: Shapes) -> Dim | None:
    """How many elements the nodes move; None where that is not known."""
    total: Dim = 0
    for value in (value for node in nodes if node.op_type not in ir.ALIASES for value in node.outputs):
        dims = dims_unless_empty(shapes, value)
        if dims is None:
            return None
        total = total + product(dims)
    return total


def _candidates(
    m: Match, nodes: Sequence[ir.Node], dying: Sequence[ir.Node]
) -> Iterator[tuple[int, ir.Value, View | None, Sequence[Step]]]:
    """How many nodes a source is away, the source, the view over it, if it is more than a Reshape, and operators."""
    result, opset, shapes = m.root.outputs[0], m.root.version or 0, m.shapes
    blocks = opset >= 11 and shapes.dtype(result) in _BLOCKS
    is_size = shapes.shape_value(result) is not None  # read with Gather by all rules of shape arithmetic
    sources = chain(result, shapes)[: len(nodes) + 1]
    exact = len(sources)
    rest = [value for node in nodes[exact - 1 :] for value in (node.inputs[0], node.outputs[0]) if value is not None]
    unless_zero = partial(dims_unless_empty, shapes)
    if any(unless_zero(value) != shapes.dims(value) for value in rest):
        # Empty values may have other dims: those of the source and of the result decide.
        sources += chain(result, shapes, unless_zero)[exact : len(nodes) + 1]
    for at, (source, view) in enumerate(sources[1:], 1):
        is_known = at < exact or (view.source == shapes.dims(source) and view.dims == shapes.dims(result))
        if not is_known or _is_least(m.root, view, at, len(dying)):
            continue
        steps = emit(view, blocks=blocks)
        slices = any(step.op_type == "Slice" for step in steps or ())
        if steps is not None and (not slices or (at < exact and opset >= 10 and not is_size)):
            yield at, source, view, steps
    for at, node in enumerate(nodes, 1):
        if node.op_type not in ir.VIEWS or node.inputs[0] is None:
            break
        target = _target(m, node.inputs[0]) if at >= max(len(sources), 2) else None
        if target is not None:
            yield at, node.inputs[0], None, [Step("Reshape", tuple(target))]


def _is_least(root: ir.Node, view: View, at: int, dying: int) -> bool:
    """Whether one operator is known to be the least: a test that is cheaper than its emission."""
    return min(at, dying) == 1 and (at == 1 or root.op_type in ir.ALIASES) and not view.is_reshape


def _target(m: Match, source: ir.Value) -> Sequence[int] | None:
    """The target of a Reshape: from the dims, or the one that the root has, where it copies no dim."""
    target = constant_target(m.shapes.dims(source), m.shapes.dims(m.root.outputs[0]))
    if target is None and m.root.op_type == "Reshape" and ir.attribute(m.root, "allowzero") in (0, None):
        own = ir.constant(m.root.inputs[1])
        target = None if own is None or 0 in own else [int(each) for each in own]
    return target


_plan = let("fewer operators, or as many that move less", _simplest, is_structural=True)


@rule(
    OneOf(tuple(any_call(name).opset(since=5) for name in BUILDERS if name != "Identity")),
    requires=[structural("operators of the standard", lambda m: not m.context.hides_operators()), _plan],
    source="ONNX: the index map of each operator",
)
def simplify_views(m: Match, op: Builder) -> ir.Value:
    """Compute a chain of data movement by the fewest operators, of those by the ones that move the fewest elements.

    before:  y = Reshape(Transpose<perm = [0, 2, 1]>(Transpose<perm = [0, 2, 1]>(x)), %[0, 12, 64])
    after:   y = Reshape(x, %[0, 12, 64])
    """
    return build(m[_plan].steps, m[_plan].source, op)
