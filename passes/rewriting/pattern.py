"""Patterns: ONNX calls over variables; `matcher.py` binds them.

Strict by default: an attribute that a pattern does not name must be absent or at its schema default, a literal matches
bit for bit, an inner value has one user. Anything looser is spelled out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ... import ir

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
            return f"{spell_call(pattern)}({operands})"
        case Variadic() | None:
            return "…"
        case _:
            return str(pattern)


def spell_call(call: Call) -> str:
    """The operator and the attributes of a call as ONNX text: `Transpose<perm = [1, 0]>`."""
    attributes = ", ".join(f"{name} = {each}" for name, each in call.attributes.items())
    domain = f"{call.domain}." if call.domain else ""
    return f"{domain}{call.op_type}{f'<{attributes}>' if attributes else ''}"
