"""Facts through operators that hold graphs: If, Loop, Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from .... import ir
from ..facts import UNKNOWN, Dims, Fact, NothingKnownError, position, unknown_dims
from ..symbolic import Dim, fresh_dim, fresh_integer

TURNS: Final = 3
"""How often the body of a loop is looked at until what is carried keeps its facts; then nothing is assumed of it."""

DEEPEST: Final = 2
"""In loops within this many loops nothing is assumed of what is carried: turns multiply with nesting."""


class Learner(Protocol):
    """What these rules need of `Shapes`."""

    loop_depth: int

    def fact(self, value: ir.Value) -> Fact: ...
    def assume(self, value: ir.Value, fact: Fact) -> None: ...
    def learn_all(self, nodes: ir.Graph) -> None: ...


def _body(node: ir.Node, name: str) -> ir.Graph:
    found = node.attributes.get(name)
    if found is None or found.is_ref() or found.type != ir.AttributeType.GRAPH:
        raise NothingKnownError
    return found.as_graph()


# --- If ---------------------------------------------------------------------------------------------------------------


def infer_if(shapes: Learner, node: ir.Node) -> list[Fact]:
    """What holds whichever branch runs; with a decided condition, what holds in that branch."""
    branches = [_body(node, name) for name in ("then_branch", "else_branch")]
    for branch in branches:
        shapes.learn_all(branch)
    condition = None if node.inputs[0] is None else shapes.fact(node.inputs[0]).elements
    if condition is not None and isinstance(condition[0], int):
        branches = branches[:1] if condition[0] else branches[1:]
    results = [[shapes.fact(value) for value in branch.outputs] for branch in branches]
    return [_either(*facts) for facts in zip(*results, strict=True)]


def _either(fact: Fact, *others: Fact) -> Fact:
    for other in others:
        fact = Fact(
            fact.dtype if fact.dtype == other.dtype else None,
            _join(fact.dims, other.dims, fresh_dim),
            _join(fact.elements, other.elements, fresh_integer),
        )
    return fact if fact.dims is not None else Fact(fact.dtype)


def _join(a: Dims | None, b: Dims | None, fresh: Callable[[], Dim]) -> Dims | None:
    """What holds of both, place by place."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else fresh() for x, y in zip(a, b, strict=True))


# --- Loop and Scan ----------------------------------------------------------------------------------------------------


def _carry(shapes: Learner, body: ir.Graph, start: Sequence[Fact], first: int, results: int) -> list[Fact]:
    """Facts about what is carried, which hold before and after every turn.

    The carried values are the body's inputs from `first` on and its outputs from `results` on. Induction: what is
    assumed of the inputs holds at the start and, shown under that assumption, at the end of a turn. What is not kept
    gets a free symbol: "as it is at the start of this turn".
    """
    carried = list(start) if shapes.loop_depth < DEEPEST else [Fact(fact.dtype) for fact in start]
    free: set[Dim] = set()
    for turn in range(TURNS + 1):
        if turn == TURNS:
            carried = [Fact(fact.dtype) for fact in carried]
        for value, fact in zip(body.inputs[first : first + len(start)], carried, strict=True):
            shapes.assume(value, fact)
        shapes.loop_depth += 1
        shapes.learn_all(body)
        shapes.loop_depth -= 1
        ends = [shapes.fact(value) for value in body.outputs[results : results + len(start)]]
        kept = [_kept(fact, end, free) for fact, end in zip(carried, ends, strict=True)]
        if kept == carried:
            break
        carried = kept
    return [_freed(fact, free) for fact in carried]


def _kept(before: Fact, after: Fact, free: set[Dim]) -> Fact:
    """What of `before` still holds at the end of a turn; new free symbols where it does not."""

    def keep(old: Dims | None, new: Dims | None, fresh: Callable[[], Dim]) -> Dims | None:
        if old is None or new is None or len(old) != len(new):
            return None
        found = tuple(x if x in free or x == y else fresh() for x, y in zip(old, new, strict=True))
        free.update(x for x, y in zip(found, old, strict=True) if x is not y)
        return found

    dims = keep(before.dims, after.dims, fresh_dim)
    elements = keep(before.elements, after.elements, fresh_integer) if dims == before.dims else None
    return Fact(before.dtype, dims, elements)


def _freed(fact: Fact, free: set[Dim]) -> Fact:
    """A fact about what comes out: free symbols meant the start of a turn."""
    dims = fact.dims and tuple(fresh_dim() if dim in free else dim for dim in fact.dims)
    elements = fact.elements and tuple(fresh_integer() if dim in free else dim for dim in fact.elements)
    return Fact(fact.dtype, dims, elements)


def infer_loop(shapes: Learner, node: ir.Node) -> list[Fact]:
    body = _body(node, "body")
    start = [UNKNOWN if value is None else shapes.fact(value) for value in node.inputs[2:]]
    # ONNX Runtime gives the counter and the condition the rank that the body declares: 0 or 1.
    for value, dtype in zip(body.inputs, (ir.DataType.INT64, ir.DataType.BOOL), strict=False):
        shapes.assume(value, Fact(dtype, None if value.shape is None else (1,) * len(value.shape)))
    carried = _carry(shapes, body, start, 2, 1)
    stacked = [shapes.fact(value) for value in body.outputs[1 + len(start) :]]
    return carried + [_stacked(fact) for fact in stacked]


def _stacked(fact: Fact) -> Fact:
    """A scan output: of all turns, none included, where ONNX Runtime makes dims that it does not know 0."""
    return Fact(fact.dtype, None if fact.dims is None else unknown_dims(len(fact.dims) + 1))


def infer_scan(shapes: Learner, node: ir.Node) -> list[Fact]:
    body, count = _body(node, "body"), ir.attribute(node, "num_scan_inputs")
    if (node.version or 0) < 9 or not isinstance(count, int):
        raise NothingKnownError  # Scan of opset 8 has a batch dim
    inputs = [UNKNOWN if value is None else shapes.fact(value) for value in node.inputs]
    states, scanned = inputs[: len(inputs) - count], inputs[len(inputs) - count :]
    axes = ir.attribute(node, "scan_input_axes") or (0,) * count
    if not isinstance(axes, (tuple, list)):
        raise NothingKnownError
    for value, fact, axis in zip(body.inputs[len(states) :], scanned, axes, strict=True):
        shapes.assume(value, _one_of(fact, int(axis)))
    carried = _carry(shapes, body, states, 0, 0)
    stacked = [shapes.fact(value) for value in body.outputs[len(states) :]]
    return carried + [_stacked(fact) for fact in stacked]


def _one_of(fact: Fact, axis: int) -> Fact:
    """One element along an axis of what is scanned."""
    if fact.dims is None:
        return Fact(fact.dtype)
    axis = position(axis, len(fact.dims))
    return Fact(fact.dtype, fact.dims[:axis] + fact.dims[axis + 1 :])


RULES: Final[dict[str, Callable[[Learner, ir.Node], list[Fact]]]] = {
    "If": infer_if,
    "Loop": infer_loop,
    "Scan": infer_scan,
}
"""The body of a SequenceMap stays unknown: facts about sequences are not kept."""
