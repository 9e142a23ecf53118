"""Check what a rule declares, before anything runs: names, types, and patterns against the schemas of the standard.

A rule whose pattern matches no model, or whose condition names something that the pattern does not bind, would never
fire. Custom domains have no schemas here and are not checked.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from ... import ir
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import is_foreign
from ..pipeline.phase import Phase
from .match import Condition, Match
from .pattern import Call, Literal, OneOf, Output, Pattern, Roots, Var, Variadic, calls_in, parts_of
from .rewrite_rule import Rule

_LAST = 1 << 30


def declaration_faults(rule: Rule) -> Iterator[str]:
    """Faults of a rule's declaration, in words."""
    yield from _field_faults(rule)
    if not rule.roots:
        yield "its pattern has no operator at the root"
        return
    if names := sorted(_nested_names(rule.pattern)):
        yield f"a call within another has the same name ({', '.join(names)}) and never fits; say named(…)"
    if rule.exactness is Exactness.EXACT and _has_approximate_literal(rule.pattern):
        yield "it matches constants approximately and calls itself exact"
    bound = names_in(rule.pattern)
    for condition in rule.requires:
        if not isinstance(condition, Condition):
            yield f"requires contains {condition!r}, expected a condition"
            continue
        for name in condition.names:
            if name not in bound:
                yield f"condition {condition.text!r}: the pattern has no {name!r}{ir.did_you_mean(name, bound)}"
    if is_foreign(rule.module):  # a test asks it of the package's own: 0.3 s for each start of the command
        yield from unbound_names(rule)
        yield from pattern_faults(rule.pattern)


def _field_faults(rule: Rule) -> Iterator[str]:
    if "before:" not in rule.doc or "after:" not in rule.doc:
        yield "its docstring has no before: and after: lines"
    if not isinstance(rule.source, str) or not rule.source:
        yield "it names no source"
    if not isinstance(rule.exactness, Exactness):
        yield f"exactness is {rule.exactness!r}, expected a member of Exactness"
    if not isinstance(rule.phase, Phase):
        hint = ir.did_you_mean(str(rule.phase), [each.value for each in Phase])
        yield f"phase is {rule.phase!r}, expected a member of Phase{hint}"
    if isinstance(rule.outputs, bool) or not isinstance(rule.outputs, int) or rule.outputs < 1:
        yield f"outputs is {rule.outputs!r}, expected an integer from 1"
    if isinstance(rule.benefit, bool) or not isinstance(rule.benefit, int):
        yield f"benefit is {rule.benefit!r}, expected an integer"


def unbound_names(rule: Rule) -> Iterator[str]:
    """Names that the body or a condition reads off the match, `m.NAME`, and the pattern does not bind."""
    bound = names_in(rule.pattern)
    functions = [rule.body, *(each for condition in rule.requires for each in getattr(condition, "functions", ()))]
    for function in functions:
        for name in _read_of_first_argument(function):
            if name not in bound and not hasattr(Match, name) and name not in Match.__dataclass_fields__:
                hint = ir.did_you_mean(name, bound)
                yield f"{function.__name__} reads m.{name}, which the pattern does not bind{hint}"


def _read_of_first_argument(function: Callable[..., object]) -> Iterator[str]:
    """The attributes that a function reads of its first argument, as far as its code says."""
    code = getattr(function, "__code__", None)
    if code is None or not code.co_varnames:
        return
    previous: dis.Instruction | None = None
    for instruction in dis.get_instructions(code):
        reads = instruction.opname in ("LOAD_ATTR", "LOAD_METHOD")
        is_first = previous is not None and previous.opname == "LOAD_FAST" and previous.argval == code.co_varnames[0]
        if reads and is_first:
            yield str(instruction.argval)
        previous = instruction


def pattern_faults(pattern: Pattern) -> Iterator[str]:
    """Calls in a pattern that no model has: operator, opsets, number of inputs, attributes and their types."""
    for call in calls_in(pattern):
        yield from _call_faults(call)


def names_in(pattern: Pattern) -> frozenset[str]:
    """The names that a pattern binds in any of its branches."""
    return frozenset(part.name for part in parts_of(pattern) if isinstance(part, (Var, Variadic, Call)))


def _nested_names(pattern: Pattern | None, above: frozenset[str] = frozenset()) -> set[str]:
    """The names that stand for a call and for one of its own operands at once."""
    match pattern:
        case OneOf(choices):
            return {name for choice in choices for name in _nested_names(choice, above)}
        case Output(call):
            return _nested_names(call, above)
        case Roots(calls):
            twice = {call.name for call in calls if [each.name for each in calls].count(call.name) > 1}
            return twice.union(*(_nested_names(call, above) for call in calls))
        case Call(inputs=inputs):
            here = {pattern.name} & above
            return here.union(*(_nested_names(each, above | {pattern.name}) for each in inputs or ()))
        case _:
            return set()


def _has_approximate_literal(pattern: Pattern) -> bool:
    return any(isinstance(part, Literal) and part.rtol > 0 for part in parts_of(pattern))


# --- calls against schemas --------------------------------------------------------------------------------------------


def _call_faults(call: Call) -> Iterator[str]:
    operators = ir.standard_operators()
    if call.domain == "ai.onnx":
        yield f"{call.op_type}: the standard's domain is written '', not 'ai.onnx'"
        return
    if call.domain not in operators:
        return
    if call.op_type not in operators[call.domain]:
        hint = ir.did_you_mean(call.op_type, operators[call.domain])
        yield f"{call.domain or 'ai.onnx'} has no operator {call.op_type}{hint}"
        return
    schemas = [each for each in _definitions(call.domain, call.op_type) if each.meets(call.since, call.until)]
    if not schemas:
        yield f"{call.op_type} is not defined between opsets {call.since} and {call.until}"
        return
    yield from _input_faults(call, schemas)
    known = {name: kind for each in schemas for name, kind in each.attributes.items()}
    for name in (*call.attributes, *(call.free_attributes or ())):
        if name not in known:
            yield f"{call.op_type} has no attribute {name!r}{ir.did_you_mean(name, known)}"
    for name, wanted in call.attributes.items():
        if name in known and wanted is not None and not _has_kind(wanted, known[name]):
            yield f"{call.op_type}: attribute {name!r} is {known[name].name} and never equals {wanted!r}"


def _input_faults(call: Call, schemas: Sequence[_Definition]) -> Iterator[str]:
    if call.inputs is None:
        return
    has_rest = bool(call.inputs) and isinstance(call.inputs[-1], Variadic)
    given = len(call.inputs)
    least, most = min(each.least for each in schemas), max(each.most for each in schemas)
    if given < least:
        yield f"{call.op_type} has at least {least} inputs, and the pattern {given}"
    if given > most or (has_rest and most < _LAST and given == most + 1):
        yield f"{call.op_type} has at most {most} inputs, and the pattern {given}"


class _Definition:
    """One definition of an operator: it holds from opset `first` to `last`."""

    def __init__(self, domain: str, op_type: str, first: int, last: int) -> None:
        known = ir.schema(op_type, first, domain)
        assert known is not None
        self.first, self.last = first, last
        self.least, self.most = known.min_input, known.max_input
        self.attributes: Mapping[str, ir.AttributeType] = {
            name: ir.AttributeType(each.type.value)  # type: ignore[attr-defined]  # an enum
            for name, each in known.attributes.items()
        }

    def meets(self, since: int, until: int) -> bool:
        return self.first <= until and since <= self.last


@cache
def _definitions(domain: str, op_type: str) -> tuple[_Definition, ...]:
    firsts = ir.standard_operators()[domain][op_type]
    lasts = [*(each - 1 for each in firsts[1:]), _LAST]
    return tuple(_Definition(domain, op_type, *each) for each in zip(firsts, lasts, strict=True))


_KINDS: Mapping[str, type] = {"INT": int, "FLOAT": float, "STRING": str}


def _has_kind(wanted: object, kind: ir.AttributeType) -> bool:
    """Whether an attribute of `kind` can equal `wanted`, as the matcher compares: same type, float32 precision."""
    name, is_list = kind.name.removesuffix("S"), kind.name.endswith("S")
    expected = _KINDS.get(name)
    if expected is None:
        return True
    if is_list:
        return isinstance(wanted, (list, tuple)) and all(type(each) is expected for each in wanted)
    if type(wanted) is not expected:
        return False
    return not isinstance(wanted, float) or not np.isfinite(wanted) or float(np.float32(wanted)) == wanted
