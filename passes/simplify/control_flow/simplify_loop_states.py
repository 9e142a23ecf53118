"""Redundant states of a loop (induction variables, congruent and dead ones), and conditions that hold."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from .... import ir
from ....ir.shapes.symbolic import at_least, fresh_integer
from ...analyses import Shapes
from ...cleanup.cse import ORDERED_ZEROS, NodeKeys
from ...pipeline.pass_ import Pass, PassContext, where
from ...registry import register
from .scan_loops import number_in, uncast
from .trip_count_facts import TripCountFacts

_INTEGERS: Final = frozenset({ir.DataType.INT32, ir.DataType.INT64})

_LARGEST: Final = 1 << 20  # bytes of a constant that is compared

_LONGEST: Final = 1 << 24
"""Iterations of a loop whose condition compares in float32: up to here a float32 counter is exact. A loop that is known
to take more keeps its condition; where the trip count is not known it is taken to be no larger."""


@register
@dataclass(frozen=True)
class SimplifyLoopStates(Pass):
    """Remove loop-carried states that are redundant, and what a condition compares that the trip count implies.

    - Induction variables: a state that starts at a constant and adds a constant in each iteration is read off the
      iteration counter, where that takes no more than one operator.
    - Congruent states: equal starts and updates that are equal as long as the states are. They are found by value
      numbering of the body that begins with all states of one start as equal, and splits what their updates distinguish
      (Alpern, Wegman and Zadeck 1988).
    - Dead states: neither the condition, nor a scan output, nor a live state, nor the result depends on them.
    - Conditions: in iteration i the condition matters only if i + 1 is below the trip count, so that comparisons of the
      counter with the trip count are true; the condition in front of the loop matters only if the trip count is 1
      or more.

    before:  y = Loop(n, Less(0, n), 0, x) <body = (i, c, k, v) -> (d, j, w) {
               j = Add(k, 1); d = Less(j, n); w = Mul(v, k) }>
    after:   y = Loop(n, , x) <body = (i, c, v) -> (d, w) { d = Identity(c); w = Mul(v, i) }>
    """

    name: ClassVar[str] = "simplify-loop-states"

    def run(self, model: ir.Model, context: PassContext) -> None:
        functions = context.functions()
        loops = [node for node in ir.nodes(model) if _is_loop(node, functions)]
        if not loops:
            return
        shapes = context.analyses.get(Shapes)
        for loop in reversed(loops):  # inner before outer
            _merge_congruent_states(loop, shapes, context)
            if loop.op_type == "Loop":
                _replace_induction_variables(loop, shapes, context)
                _simplify_conditions(loop, shapes, context)
            _drop_dead_states(loop, context)


def _is_loop(node: ir.Node, functions: frozenset[ir.OperatorIdentifier]) -> bool:
    if node.op_type not in ("Loop", "Scan") or node.domain != "" or node.op_identifier() in functions:
        return False
    return not node.attributes["body"].is_ref() and (node.op_type == "Loop" or (node.version or 0) >= 9)


# --- congruent states -------------------------------------------------------------------------------------------------


def _merge_congruent_states(loop: ir.Node, shapes: Shapes, context: PassContext) -> None:
    states = [state for state in ir.loop_states(loop) if state.start is not None and shapes.is_tensor(state.start)]
    for first, *others in _congruent(loop.attributes["body"].as_graph(), states, shapes, context.functions()):
        for other in others:
            uses = [(user, index, first.value) for user, index in other.value.uses()]
            uses = [use for use in uses if other.end not in use[0].outputs or use[0].op_type != "Identity"]
            uses += [(user, index, first.result) for user, index in other.result.uses()]
            before, after = f"state {other.value.name}", f"state {first.value.name}"
            if uses and context.log.try_rewrite(SimplifyLoopStates.name, where(loop), before, after):
                for user, index, value in uses:
                    context.rewriter.set_input(user, index, value)


def _congruent(
    body: ir.Graph, states: Sequence[ir.LoopState], shapes: Shapes, functions: frozenset[ir.OperatorIdentifier]
) -> list[list[ir.LoopState]]:
    """The classes of more than one state that are equal in each iteration."""
    classes = _split(states, {state.value: _start_key(state.start) for state in states})
    while any(len(each) > 1 for each in classes):
        numbers: dict[ir.Value, Hashable] = {
            state.value: f"state {index}" for index, each in enumerate(classes) for state in each
        }
        _number_values(body, numbers, shapes, functions)
        ends = {state.value: numbers.get(state.end, state.end) for state in states}
        finer = [part for each in classes for part in _split(each, ends)]
        if len(finer) == len(classes):
            break
        classes = finer
    return [each for each in classes if len(each) > 1]


def _split(states: Sequence[ir.LoopState], keys: Mapping[ir.Value, Hashable]) -> list[list[ir.LoopState]]:
    classes: dict[Hashable, list[ir.LoopState]] = {}
    for state in states:
        classes.setdefault(keys[state.value], []).append(state)
    return list(classes.values())


def _start_key(start: ir.Value | None) -> Hashable:
    """Equal for starts that are proven to be equal."""
    assert start is not None
    start = ir.origin(start)
    content = _small_content(start)
    return _filling(start) or start if content is None else content


def _small_content(value: ir.Value | None) -> Hashable | None:
    tensor = ir.constant_tensor(value)
    if tensor is None or tensor.nbytes > _LARGEST or tensor.dtype == ir.DataType.STRING:
        return None
    return (tensor.dtype, tuple(tensor.shape), np.asarray(tensor.numpy()).tobytes())


def _filling(value: ir.Value) -> Hashable | None:
    """The element and the shape of a tensor of equal elements: tf2onnx writes it as ConstantOfShape, and as Expand."""
    node = value.producer()
    if node is None or node.domain != "" or None in node.inputs:
        return None
    number: Hashable | None = None
    if node.op_type == "Expand" and node.inputs[0] is not None:
        tensor = ir.constant_tensor(node.inputs[0])
        number = _small_content(node.inputs[0]) if tensor is not None and not tensor.shape.rank() else None
        shape = node.inputs[1]
    elif node.op_type == "ConstantOfShape":
        given, shape = node.attributes.get("value"), node.inputs[0]
        if given is None:
            number = (ir.DataType.FLOAT, (), bytes(4))
        elif not given.is_ref():
            number = (given.as_tensor().dtype, (), np.asarray(given.as_tensor().numpy()).tobytes())
    return None if number is None or shape is None else ("filled", number, ir.origin(shape))


def _number_values(
    body: ir.Graph,
    numbers: dict[ir.Value, Hashable],
    shapes: Shapes,
    functions: frozenset[ir.OperatorIdentifier],
) -> None:
    """Extend `numbers` by value numbers for the results of the body's nodes: equal numbers are equal values."""
    keys, known = NodeKeys(shapes), dict[Hashable, int]()

    def number_of(value: ir.Value | None) -> Hashable:
        return numbers.setdefault(value, f"outer {len(numbers)}") if value is not None else None

    for index, node in enumerate(body):
        if node.op_type == "Identity" and node.domain == "" and node.inputs[0] is not None:
            numbers[node.outputs[0]] = number_of(node.inputs[0])
            continue
        key: Hashable | None = keys.of(node, numbers) if ir.is_deterministic(node, functions) else None
        if key is None:
            key = ("node", index)
        elif node.op_type in ORDERED_ZEROS:
            key = (key, tuple(map(number_of, node.inputs)))
        number = known.setdefault(key, len(known))
        for output, value in enumerate(node.outputs):
            numbers[value] = f"value {number}.{output}"


# --- induction variables ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Induction:
    """A state that is `start + step * i` in iteration i."""

    state: ir.LoopState
    dtype: ir.DataType
    start: int
    step: int


def _inductions(loop: ir.Node, shapes: Shapes) -> Iterator[_Induction]:
    for state in ir.loop_states(loop):
        dtype = None if state.start is None else shapes.dtype(state.start)
        start = ir.scalar(state.start) if state.start is not None and shapes.rank(state.start) == 0 else None
        step = _step(state, shapes)
        if dtype in _INTEGERS and isinstance(start, int) and step is not None:
            yield _Induction(state, dtype, start, step)


def _step(state: ir.LoopState, shapes: Shapes) -> int | None:
    node = ir.origin(state.end).producer()
    if node is None or node.domain != "" or node.op_type not in ("Add", "Sub") or None in node.inputs:
        return None
    a, b = (value for value in node.inputs if value is not None)
    if node.op_type == "Add" and b is state.value:
        a, b = b, a
    step = ir.scalar(b)
    if a is not state.value or not isinstance(step, int) or shapes.rank(b) != 0:
        return None
    return step if node.op_type == "Add" else -step


def _replace_induction_variables(loop: ir.Node, shapes: Shapes, context: PassContext) -> None:
    counter = loop.attributes["body"].as_graph().inputs[0]
    if shapes.rank(counter) != 0:
        return
    for found in list(_inductions(loop, shapes)):
        state = found.state
        end = ir.origin(state.end)
        is_used = end.uses() or any(user is not end.producer() for user, _ in state.value.uses())
        if ir.is_read(state.result) or not state.value.uses() or state.value.is_graph_output():
            continue
        steps = [found.dtype != ir.DataType.INT64, found.step != 1, found.start != 0]
        if sum(steps) > 1:
            continue  # more operators than the Add of the state
        before = f"state {state.value.name}"
        if is_used and context.log.try_rewrite(SimplifyLoopStates.name, where(loop), before, "the iteration counter"):
            _read_counter(found, counter, loop, context)


def _read_counter(found: _Induction, counter: ir.Value, loop: ir.Node, context: PassContext) -> None:
    """Replace an induction variable by the counter, or by one operator on it."""
    users = list(found.state.value.uses())
    if found.step == 1 and found.start == 0:
        for user, index in users:
            if _takes_any_integer(user, index):
                context.rewriter.set_input(user, index, counter)
        users = list(found.state.value.uses())
    if not users:
        return
    value, version = counter, loop.version
    first = next(iter(loop.attributes["body"].as_graph()))

    def emit(operator: str, *inputs: ir.Value, **attributes: ir.AttributeValue) -> ir.Value:
        new = ir.new_node(operator, inputs, attributes, version=version, provenance=SimplifyLoopStates.name)
        return context.rewriter.insert(new, before=first).outputs[0]

    for operator, number, neutral in (("Mul", found.step, 1), ("Add", found.start, 0)):
        if number != neutral:
            value = emit(operator, value, ir.pending_constant(np.array(number, dtype=np.int64), name="induction"))
    if found.dtype != ir.DataType.INT64:
        value = emit("Cast", value, to=found.dtype.value)
    for user, index in users:
        context.rewriter.set_input(user, index, value)


def _takes_any_integer(user: ir.Node, index: int) -> bool:
    """Whether the operator computes the same with an int64 as with an int32 at this input."""
    return user.domain == "" and (user.op_type, index) in (("Gather", 1), ("Cast", 0))


# --- conditions -------------------------------------------------------------------------------------------------------


def _simplify_conditions(loop: ir.Node, shapes: Shapes, context: PassContext) -> None:
    """Drop from the conditions what the trip count implies."""
    body = loop.attributes["body"].as_graph()
    count, first = [*loop.inputs, None, None][:2]
    if count is None:
        return
    offsets = {body.inputs[0]: 0}
    offsets |= {each.state.value: each.start for each in _inductions(loop, shapes) if each.step == 1}
    known = number_in(count, shapes)
    trips = fresh_integer() if known is None else known
    if at_least(trips, _LONGEST + 1):
        return
    facts = TripCountFacts(shapes, uncast(count, shapes), trips, offsets, least=2)
    condition = body.outputs[0]
    if not condition.uses() and sum(value is condition for value in body.outputs) == 1:
        left, node = facts.remainder(condition), condition.producer()
        if left is not condition and node is not None and len(node.outputs) == 1 and not ir.is_constant(condition):
            after = "true" if left is None else "what the trip count does not imply"
            if context.log.try_rewrite(SimplifyLoopStates.name, where(loop), f"condition {condition.name}", after):
                copy = ir.new_node(
                    "Identity",
                    [body.inputs[1] if left is None else left],
                    version=loop.version,
                    provenance=SimplifyLoopStates.name,
                )
                context.rewriter.insert(copy, before=node)
                context.rewriter.replace(node, [copy.outputs[0]])
    if first is None or ir.is_constant(first):
        return
    left = TripCountFacts(shapes, uncast(count, shapes), trips, {}, least=1).remainder(first)
    if left is not first:
        after = "true" if left is None else "what the trip count does not imply"
        if context.log.try_rewrite(SimplifyLoopStates.name, where(loop), f"condition {first.name}", after):
            is_open = left is None and len(loop.inputs) == 2  # at least two inputs
            true = ir.pending_constant(np.array(True), name="condition") if is_open else None
            context.rewriter.set_input(loop, 1, true if left is None else left)


# --- dead states ------------------------------------------------------------------------------------------------------


def _drop_dead_states(loop: ir.Node, context: PassContext) -> None:
    states = list(ir.loop_states(loop))
    body = loop.attributes["body"].as_graph()
    ends = len(body.outputs) - len(loop.outputs)  # 1 for a Loop: its condition
    live: set[ir.Value] = set()
    pending = [*body.outputs[:ends], *body.outputs[ends + len(states) :]]
    pending += [state.end for state in states if ir.is_read(state.result)]
    ends_of = {state.value: state.end for state in states}
    while pending:
        value = pending.pop()
        if value in live:
            continue
        live.add(value)
        if value in ends_of:
            pending.append(ends_of[value])
        node = value.producer()
        if node is not None and node.graph is body:
            pending += _operands(node)
    dead = [state for state in states if not ir.is_read(state.result) and state.value not in live]
    # A loop has at least one output.
    if not dead or len(dead) == len(loop.outputs):
        return
    before = f"{len(dead)} states that nothing depends on"
    if context.log.try_rewrite(SimplifyLoopStates.name, where(loop), before, "nothing"):
        ir.drop_loop_states(context.rewriter, loop, {state.index for state in dead})


def _operands(node: ir.Node) -> Iterator[ir.Value]:
    """The operands of the node and of its subgraphs."""
    for each in (node, *ir.nodes_within(node)):
        yield from (value for value in each.inputs if value is not None)
        for graph in ir.subgraphs_of(each):
            yield from graph.outputs
