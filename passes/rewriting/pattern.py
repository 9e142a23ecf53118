"""Patterns: ONNX calls over variables, and the matcher that binds them.

Strict by default: an attribute that a pattern does not name must be absent or at its schema default, a literal matches
bit for bit, an inner value has one user. Anything looser is spelled out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from ... import ir
from ..pipeline.pass_ import where

Bindings = Mapping[str, "Bound | None"]


@dataclass(frozen=True)
class Bound:
    """What a name of the pattern is bound to: a value, and for a call its producer."""

    value: ir.Value
    node: ir.Node | None = None


class Pattern:
    """Something that a value may match."""

    def __or__(self, other: Pattern) -> OneOf:
        mine = self.choices if isinstance(self, OneOf) else (self,)
        return OneOf((*mine, *(other.choices if isinstance(other, OneOf) else (other,))))


@dataclass(frozen=True)
class Var(Pattern):
    """Any value; the same name twice means the same value."""

    name: str
    is_optional: bool = False

    def optional(self) -> Var:
        """The input may be absent."""
        return dataclasses.replace(self, is_optional=True)


@dataclass(frozen=True)
class Literal(Pattern):
    """A constant with one element that equals `number` bit for bit in the value's own type.

    `rtol` above 0 accepts numbers nearby: `approx(number, rtol)`.
    """

    number: float | int | bool
    rtol: float = 0.0

    def accepts(self, value: ir.Value) -> bool:
        """Whether `value` is a constant that equals the literal."""
        given = ir.constant(value)
        if given is None or given.size != 1:
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = np.asarray(self.number).astype(given.dtype)
        found = given.reshape(())
        if np.isfinite(self.number) and given.dtype.kind in "fV" and not np.isfinite(wanted):
            return False  # beyond the type's range
        if self.rtol:
            return bool(abs(float(found) - float(self.number)) <= self.rtol * abs(float(self.number)))
        # The literal must be representable: 0.1 never equals an integer, whatever the cast says.
        if given.dtype.kind in "iub" and float(self.number) != float(wanted):
            return False
        return wanted.tobytes() == found.tobytes()


@dataclass(frozen=True)
class Variadic(Pattern):
    """All remaining inputs of a variadic operator, one or more; bound as `name`0, `name`1, …"""

    name: str


@dataclass(frozen=True)
class OneOf(Pattern):
    """The first of several patterns that fits."""

    choices: tuple[Pattern, ...]


@dataclass(frozen=True)
class Call(Pattern):
    """A call of an operator. Bound under `label`, by default the operator's name. Inputs of None: any inputs."""

    op_type: str
    inputs: tuple[Pattern | None, ...] | None
    attributes: Mapping[str, object] = field(default_factory=dict)
    domain: str = ""
    label: str = ""
    commutes: bool = False
    is_shared: bool = False
    free_attributes: frozenset[str] | None = frozenset()
    since: int = 1
    until: int = 1 << 30

    @property
    def name(self) -> str:
        """The name that the call is bound to."""
        return self.label or self.op_type

    def any_order(self) -> Call:
        """The operands may stand in any order."""
        return dataclasses.replace(self, commutes=True)

    def shared(self) -> Call:
        """The result may have other users: it stays, and the rule uses it or computes it again."""
        return dataclasses.replace(self, is_shared=True)

    def used_once(self) -> Call:
        """The result has no other user: the default, spelled out."""
        return dataclasses.replace(self, is_shared=False)

    def output(self, index: int) -> Output:
        """The `index`-th output as an operand; a call alone stands for its first."""
        return Output(self, index)

    def named(self, label: str) -> Call:
        """Bind under `label` instead of the operator's name."""
        return dataclasses.replace(self, label=label)

    def any_attributes(self, *names: str) -> Call:
        """Let the attributes `names` have any value; without names, all of them."""
        return dataclasses.replace(self, free_attributes=frozenset(names) if names else None)

    def opset(self, since: int = 1, until: int = 1 << 30) -> Call:
        """Match only where the model's opset for the domain lies in [since, until]."""
        return dataclasses.replace(self, since=since, until=until)


@dataclass(frozen=True)
class Output(Pattern):
    """The `index`-th output of a call, as an operand: `op.Split(x, sizes).output(1)`."""

    call: Call
    index: int


@dataclass(frozen=True)
class Roots(Pattern):
    """Several calls in one graph that share variables: the results of all of them are replaced together."""

    calls: tuple[Call, ...]


class _Operators:
    """`op.Relu(x)`: a pattern for the operator that the attribute names; `op.domain("com.x").Relu(x)` elsewhere."""

    def __init__(self, domain: str = "") -> None:
        self._domain = domain

    def domain(self, name: str) -> _Operators:
        return _Operators(name)

    def __getattr__(self, op_type: str) -> Callable[..., Call]:
        def call(*inputs: Pattern | float | int | bool | None, **attributes: object) -> Call:
            operands = tuple(Literal(each) if isinstance(each, (bool, int, float)) else each for each in inputs)
            return Call(op_type, operands, attributes, self._domain)

        return call


op = _Operators()
"""Builds patterns: `op.Mul(op.Sigmoid(x), x)`."""


def values(names: str) -> tuple[Var, ...]:
    """Make variables of names that are separated by spaces."""
    return tuple(Var(name) for name in names.split())


def any_call(op_type: str, domain: str = "") -> Call:
    """A call of an operator whatever its inputs and attributes are; conditions look at the node."""
    return Call(op_type, None, domain=domain, free_attributes=None)


def variadic(name: str) -> Variadic:
    """The remaining inputs of a variadic operator."""
    return Variadic(name)


def approx(number: float, rtol: float = 1e-6) -> Literal:
    """A constant near `number`. A rule that uses it cannot be EXACT."""
    return Literal(number, rtol)


def roots(*calls: Call) -> Roots:
    """A pattern with several results: each call after the first shares a variable with those before it."""
    return Roots(calls)


def parts_of(pattern: Pattern) -> Iterator[Pattern]:
    """A pattern and all that it consists of, the root first."""
    pending: list[Pattern | None] = [pattern]
    while pending:
        part = pending.pop(0)
        if part is None:
            continue
        yield part
        match part:
            case Call(inputs=operands):
                pending.extend(operands or ())
            case OneOf(choices):
                pending.extend(choices)
            case Output(call):
                pending.append(call)
            case Roots(calls):
                pending.extend(calls)


def calls_in(pattern: Pattern) -> Iterator[Call]:
    """Every call in a pattern, the root first."""
    return (part for part in parts_of(pattern) if isinstance(part, Call))


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
        trace.stop(bound, where(node), _spell_call(pattern) + opsets, _spell_node(node))


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


def spell(pattern: Pattern | None) -> str:
    """A pattern as ONNX text: `Where(c, x, y)`."""
    match pattern:
        case Var(name=name):
            return name
        case Literal(number=number):
            return str(number)
        case OneOf(choices):
            return "  or  ".join(map(spell, choices))
        case Output(call, index):
            return f"{spell(call)}.{index}"
        case Call():
            operands = ", ".join(map(spell, pattern.inputs)) if pattern.inputs is not None else "…"
            return f"{_spell_call(pattern)}({operands})"
        case _:
            return "…"


def _spell_node(node: ir.Node) -> str:
    attributes = ", ".join(
        f"{name} = {each if isinstance(each, ir.EncodedAttr) else each.value}" for name, each in node.attributes.items()
    )
    return f"{node.op_type}{f'<{attributes}>' if attributes else ''} of opset {node.version}"


def _spell_call(call: Call) -> str:
    attributes = ", ".join(f"{name} = {each}" for name, each in call.attributes.items())
    return f"{call.op_type}{f'<{attributes}>' if attributes else ''}"


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
