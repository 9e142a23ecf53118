"""The matcher: where a pattern fits, what its names are bound to, and on request why it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from ... import ir
from ..pipeline.pass_ import where
from .pattern import (
    Bindings,
    Bound,
    Call,
    Literal,
    OneOf,
    Output,
    Pattern,
    Roots,
    Var,
    Variadic,
    parts_of,
    spell,
    spell_call,
)


@dataclass
class Trace:
    """Why a pattern does not match: the failure that came furthest. `calls` of the pattern had matched by then."""

    calls: int = -1
    fault: str = ""

    def stop(self, bound: Bindings, place: str, expected: str, got: str) -> None:
        """Note a failure; of several that came as far, the first is kept."""
        calls = sum(each is not None and each.node is not None for each in bound.values())
        if calls > self.calls:
            self.calls, self.fault = calls, f"{place}: expected {expected}, got {got}"


def match_node(pattern: Pattern, node: ir.Node, trace: Trace | None = None) -> Iterator[Bindings]:
    """Every way in which the first output of `node` matches, in a fixed order.

    The rule's guards check the number of users, so that a missed rewrite has a reason. `trace` notes every failure.
    """
    if isinstance(pattern, OneOf):
        for choice in pattern.choices:
            if trace is not None or not isinstance(choice, Call) or choice.op_type == node.op_type:
                yield from match_node(choice, node, trace)
    elif isinstance(pattern, Roots):
        for bound in _call(pattern.calls[0], node, {}, trace):
            yield from _further_roots(pattern.calls[1:], node, bound, trace)
    elif isinstance(pattern, Call):
        yield from _call(pattern, node, {}, trace)


def _further_roots(calls: tuple[Call, ...], root: ir.Node, bound: Bindings, trace: Trace | None) -> Iterator[Bindings]:
    """Match each call at a user of a value that is bound already, in the graph of `root`."""
    if not calls:
        yield bound
        return
    names = {part.name for part in parts_of(calls[0]) if isinstance(part, Var)}
    shared = (bound[name] for name in names if name in bound)
    users = (user for each in shared if each is not None for user, _ in each.value.uses())
    matched = {each.node for each in bound.values() if each is not None}
    if trace is not None:
        trace.stop(bound, where(root), f"{spell(calls[0])} beside it", "none")
    for user in dict.fromkeys(users):
        if user.graph is root.graph and user not in matched:
            for more in _call(calls[0], user, bound, trace):
                yield from _further_roots(calls[1:], root, more, trace)


def _value(pattern: Pattern | None, value: ir.Value | None, bound: Bindings, trace: Trace | None) -> Iterator[Bindings]:
    match pattern:
        case Var(name) if _may_bind(pattern, value, bound):
            yield bound if name in bound else {**bound, name: None if value is None else Bound(value)}
        case Call() | Output():
            call, index = (pattern, 0) if isinstance(pattern, Call) else (pattern.call, pattern.index)
            producer = value.producer() if value is not None else None
            if producer is not None and value in producer.outputs[index : index + 1]:
                yield from _call(call, producer, bound, trace)
            elif trace is not None:
                trace.stop(bound, _place(value), f"a result of {call.op_type}", _kind(value))
        case OneOf(choices):
            for choice in choices:
                yield from _value(choice, value, bound, trace)
        case None if value is None:
            yield bound
        case Literal() if value is not None and pattern.accepts(value):
            yield bound
        case Roots() | Variadic():
            raise TypeError(f"{pattern!r} cannot stand alone")
        case _ if trace is not None:
            known = bound.get(pattern.name) if isinstance(pattern, Var) else None
            trace.stop(bound, _place(value), spell(pattern) if known is None else str(known.value.name), _kind(value))


def _may_bind(pattern: Var, value: ir.Value | None, bound: Bindings) -> bool:
    if pattern.name not in bound:
        return value is not None or pattern.is_optional
    known = bound[pattern.name]
    return (known is None and pattern.is_optional) if value is None else (known is not None and known.value is value)


def _call(pattern: Call, node: ir.Node, bound: Bindings, trace: Trace | None) -> Iterator[Bindings]:
    is_of_pattern = (
        node.op_type == pattern.op_type
        and node.domain == pattern.domain
        and not node.overload
        and pattern.since <= (node.version or 0) <= pattern.until
        and _attributes_fit(pattern, node)
        and bound.get(pattern.name, here := Bound(node.outputs[0], node)) == here
    )
    if is_of_pattern:
        bound = {**bound, pattern.name: here}
        for order in permutations(pattern.inputs or ()) if pattern.commutes else (pattern.inputs,):
            yield from (bound,) if order is None else _inputs(order, node, bound, trace)
    elif trace is not None:
        last = "" if pattern.until == 1 << 30 else f" to {pattern.until}"
        opsets = f" of opset {pattern.since}{last or ' or later'}" if pattern.since > 1 or last else ""
        trace.stop(bound, where(node), spell_call(pattern) + opsets, _spell_node(node))


def _inputs(
    patterns: tuple[Pattern | None, ...], node: ir.Node, bound: Bindings, trace: Trace | None
) -> Iterator[Bindings]:
    given = tuple(node.inputs)
    if patterns and isinstance(last := patterns[-1], Variadic):
        patterns = patterns[:-1]
        rest = given[len(patterns) :]
        is_known = bool(rest) and None not in rest
        bound = {**bound, **{f"{last.name}{index}": Bound(each) for index, each in enumerate(rest) if each is not None}}
    else:
        is_known = all(value is None for value in given[len(patterns) :])
    if is_known:
        yield from _each(patterns, (*given, *(None,) * (len(patterns) - len(given))), bound, trace)
    elif trace is not None:
        trace.stop(bound, where(node), f"the inputs {', '.join(map(spell, patterns))}", f"{len(given)}")


def _each(
    patterns: tuple[Pattern | None, ...], given: tuple[ir.Value | None, ...], bound: Bindings, trace: Trace | None
) -> Iterator[Bindings]:
    if not patterns:
        yield bound
        return
    for found in _value(patterns[0], given[0], bound, trace):
        yield from _each(patterns[1:], given[1:], found, trace)


def _attributes_fit(pattern: Call, node: ir.Node) -> bool:
    """Whether the attributes of `node` are those of the pattern, others absent or at their defaults."""
    for name, wanted in pattern.attributes.items():
        if not _same(ir.attribute(node, name), wanted):
            return False
    if not node.attributes:
        return True
    if any(given.is_ref() for given in node.attributes.values()):
        return False  # a function's attribute: known once it is inlined
    if pattern.free_attributes is None:
        return True
    defaults = ir.defaults_of(node)
    return all(
        name in pattern.attributes
        or name in pattern.free_attributes
        or (name in defaults and not isinstance(given, ir.EncodedAttr) and _same(given.value, defaults[name]))
        for name, given in node.attributes.items()
    )


def _same(given: object, wanted: object) -> bool:
    if isinstance(given, (list, tuple)) and isinstance(wanted, (list, tuple)):
        return tuple(given) == tuple(wanted)
    return type(given) is type(wanted) and given == wanted


def _spell_node(node: ir.Node) -> str:
    attributes = ", ".join(
        f"{name} = {each if isinstance(each, ir.EncodedAttr) else each.value}" for name, each in node.attributes.items()
    )
    return f"{node.op_type}{f'<{attributes}>' if attributes else ''} of opset {node.version}"


def _place(value: ir.Value | None) -> str:
    return "an operand" if value is None else value.name or "a value without a name"


def _kind(value: ir.Value | None) -> str:
    """A value as a trace names it."""
    if value is None:
        return "no input"
    if (producer := value.producer()) is not None:
        return f"output {producer.outputs.index(value)} of {producer.op_type}"
    number = ir.scalar(value)
    return "an input of the graph" if not ir.is_constant(value) else "a constant" if number is None else str(number)
