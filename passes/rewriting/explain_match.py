"""Explain where a pattern stops matching, for the verb `explain`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

from ... import ir
from ..pipeline.pass_ import where
from .pattern import Call, Literal, OneOf, Output, Pattern, Roots, Var, Variadic, attributes_fit


@dataclass(frozen=True)
class Fit:
    """How far a pattern matches: the number of `calls` that do, and the first mismatch (empty where all match)."""

    calls: int = 0
    fault: str = ""

    def __add__(self, other: Fit) -> Fit:
        return Fit(self.calls + other.calls, self.fault or other.fault)

    @property
    def rank(self) -> tuple[bool, int]:
        """The order of mismatches: whole matches last, then by the number of calls."""
        return not self.fault, self.calls


def fit(pattern: Pattern, node: ir.Node) -> Fit:
    """How far `pattern` matches at `node`, each operand by itself."""
    if isinstance(pattern, OneOf):
        return max((fit(choice, node) for choice in pattern.choices), key=lambda each: each.rank)
    if isinstance(pattern, Roots):
        return _call(pattern.calls[0], node)
    return _call(pattern, node) if isinstance(pattern, Call) else Fit()


def _call(pattern: Call, node: ir.Node) -> Fit:
    here = where(node)
    if (node.op_type, node.domain) != (pattern.op_type, pattern.domain):
        return Fit(0, f"{here} is the result of {node.op_type}, not of {pattern.op_type}")
    if not pattern.since <= (node.version or 0) <= pattern.until:
        return Fit(0, f"{here} is of opset {node.version}")
    if not attributes_fit(pattern, node):
        return Fit(0, f"{here} has other attributes: {_attributes(node)}")
    if pattern.inputs is None:
        return Fit(1)
    orders = permutations(pattern.inputs) if pattern.commutes else [pattern.inputs]
    return Fit(1) + max((_operands(order, node) for order in orders), key=lambda each: each.rank)


def _operands(patterns: tuple[Pattern | None, ...], node: ir.Node) -> Fit:
    given = list(node.inputs)
    if patterns and isinstance(patterns[-1], Variadic):
        patterns, given = patterns[:-1], given[: len(patterns) - 1]
    if len(given) > len(patterns) and any(value is not None for value in given[len(patterns) :]):
        return Fit(0, f"{where(node)} has more than {len(patterns)} inputs")
    given += [None] * (len(patterns) - len(given))
    total = Fit()
    for pattern, value in zip(patterns, given, strict=False):
        total += _operand(pattern, value, node)
    return total


def _operand(pattern: Pattern | None, value: ir.Value | None, reader: ir.Node) -> Fit:
    if isinstance(pattern, OneOf):
        return max((_operand(choice, value, reader) for choice in pattern.choices), key=lambda each: each.rank)
    if value is None:
        is_fine = pattern is None or (isinstance(pattern, Var) and pattern.is_optional)
        return Fit() if is_fine else Fit(0, f"{where(reader)} lacks an input")
    match pattern:
        case None:
            return Fit(0, f"{where(reader)} reads {value.name}, where nothing is wanted")
        case Literal() if not pattern.accepts(value):
            found = ir.scalar(value)
            said = "no constant of one element" if found is None else f"the constant {found}"
            return Fit(0, f"{value.name} is {said}, not {pattern.number}")
        case Call() | Output():
            call, index = (pattern.call, pattern.index) if isinstance(pattern, Output) else (pattern, 0)
            producer = value.producer()
            if producer is None:
                kind = "a constant" if ir.is_constant(value) else "an input of its graph"
                return Fit(0, f"{value.name} is {kind}, not the result of {call.op_type}")
            if value not in producer.outputs[index : index + 1]:
                return Fit(0, f"{value.name} is not output {index} of {producer.op_type}")
            return _call(call, producer)
        case _:
            return Fit()


def _attributes(node: ir.Node) -> str:
    return (
        ", ".join(
            f"{name} = {attribute if isinstance(attribute, ir.EncodedAttr) else attribute.value}"
            for name, attribute in node.attributes.items()
        )
        or "none"
    )
