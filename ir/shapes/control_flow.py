"""Facts through operators that hold graphs: If, Loop, Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from ... import ir
from .facts import UNKNOWN, Dims, Fact, NothingKnownError, position
from .symbolic import Dim, fresh_dim, fresh_integer

ITERATIONS: Final = 3
"""Iterations of the fixed point over the facts of loop-carried values; after them nothing is assumed."""

DEEPEST: Final = 2
"""In loops nested this deep nothing is assumed of loop-carried values: iterations multiply with nesting."""


class Learner(Protocol):
    """The part of `Shapes` that these rules use."""

    loop_depth: int

    def fact(self, value: ir.Value) -> Fact:
        """The facts about a value."""

    def assume(self, value: ir.Value, fact: Fact) -> None:
        """Set the facts about a value of a body."""

    def learn_all(self, nodes: ir.Graph) -> None:
        """Infer the facts about all results in a body."""


def _body(node: ir.Node, name: str) -> ir.Graph:
    found = node.attributes.get(name)
    if found is None or found.is_ref() or found.type != ir.AttributeType.GRAPH:
        raise NothingKnownError
    return found.as_graph()


# --- If ---------------------------------------------------------------------------------------------------------------


def infer_if(shapes: Learner, node: ir.Node) -> list[Fact]:
    """The facts that hold in either branch; with a constant condition, those of that branch."""
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
    """The facts that hold of both, index by index."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if x == y else fresh() for x, y in zip(a, b, strict=True))


# --- Loop and Scan ----------------------------------------------------------------------------------------------------


def _carry(shapes: Learner, body: ir.Graph, start: Sequence[Fact], first: int, results: int) -> list[Fact]:
    """Facts about loop-carried values that hold before and after every iteration.

    The carried values are the body's inputs from `first` on and its outputs from `results` on. Induction: an
    assumption about the inputs holds at the start and, proven under itself, at the end of an iteration. A fact that is
    not invariant gets a free symbol: its value at the start of this iteration.
    """
    carried = list(start) if shapes.loop_depth < DEEPEST else [Fact(fact.dtype) for fact in start]
    free: set[Dim] = set()
    for iteration in range(ITERATIONS + 1):
        if iteration == ITERATIONS:
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
    """The part of `before` that holds at the end of an iteration; new free symbols elsewhere."""

    def keep(old: Dims | None, new: Dims | None, fresh: Callable[[Dim], Dim]) -> Dims | None:
        if old is None or new is None or len(old) != len(new):
            return None
        found = tuple(x if x in free or x == y else fresh(x) for x, y in zip(old, new, strict=True))
        free.update(x for x, y in zip(found, old, strict=True) if x is not y)
        return found

    dims = keep(before.dims, after.dims, fresh_dim)
    elements = keep(before.elements, after.elements, lambda _: fresh_integer()) if dims == before.dims else None
    return Fact(before.dtype, dims, elements)


def _freed(fact: Fact, free: set[Dim]) -> Fact:
    """A fact about a result: free symbols denoted the start of an iteration."""
    dims = fact.dims and tuple(fresh_dim() if dim in free else dim for dim in fact.dims)
    elements = fact.elements and tuple(fresh_integer() if dim in free else dim for dim in fact.elements)
    return Fact(fact.dtype, dims, elements)


def infer_loop(shapes: Learner, node: ir.Node) -> list[Fact]:
    """Infer the results of a Loop by induction over its iterations."""
    body = _body(node, "body")
    start = [UNKNOWN if value is None else shapes.fact(value) for value in node.inputs[2:]]
    # ONNX Runtime gives the counter and the condition the rank that the body declares: 0 or 1.
    for value, dtype in zip(body.inputs, (ir.DataType.INT64, ir.DataType.BOOL), strict=False):
        shapes.assume(value, Fact(dtype, None if value.shape is None else (1,) * len(value.shape)))
    carried = _carry(shapes, body, start, 2, 1)
    stacked = [shapes.fact(value) for value in body.outputs[1 + len(start) :]]
    return carried + [_stacked(fact) for fact in stacked]


def _stacked(fact: Fact, length: Dim | None = None) -> Fact:
    """A scan output over all iterations, or over none, where ONNX Runtime sets dims that it does not know to 0."""
    return Fact(fact.dtype, None if fact.dims is None else (fresh_dim(length), *map(fresh_dim, fact.dims)))


def infer_scan(shapes: Learner, node: ir.Node) -> list[Fact]:
    """Infer the results of a Scan by induction over its iterations."""
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
    length = scanned[0].dims[int(axes[0])] if scanned and scanned[0].dims else None
    return carried + [_stacked(fact, length) for fact in stacked]


def _one_of(fact: Fact, axis: int) -> Fact:
    """The fact about one slice along the axis of a scanned value."""
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
