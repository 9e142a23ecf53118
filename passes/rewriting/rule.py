"""Declare rules: `@rule(pattern, …)` on a function that builds the replacement; `rewrite(name, …, before, after)`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

from ... import ir
from ..pipeline.exactness import Exactness
from ..pipeline.phase import Phase, phase_of
from ..registry import REGISTRY, name_faults, reject
from .builder import Builder
from .check_rule import declaration_faults, names_in
from .constraints import target_of_folder
from .match import Condition, Let, Match
from .operand import Operand
from .pattern import Call, Literal, OneOf, Output, Pattern, Var, calls_in, parts_of, spell
from .rewrite_rule import Body, Rule, root_calls


def rule(
    pattern: Pattern,
    *,
    requires: Sequence[Condition] = (),
    exactness: Exactness = Exactness.EXACT,
    source: str,
    phase: Phase | None = None,
    benefit: int = 0,
    name: str = "",
    keeps_type: bool = False,
    outputs: int = 1,
) -> Callable[[Body], Rule]:
    """Decorator: a function `(m, op)` that builds the replacement becomes a registered rule.

    The function's name, dashed, is the rule's name; its docstring must have a `before:` and an `after:` line. `phase`
    says when it runs, by default as its folder and exactness say; among rules for one operator the higher `benefit`
    goes first. Rules in `ort/cpu` and `ort/cuda` also require that target.
    `keeps_type` says that the definition of the operators gives the result the type and dims of the value that the
    body returns; without it, an existing value must be proven to have them. The body returns the value that replaces
    the root's first output, or None to leave everything as it is.
    `outputs`: how many outputs of each root are replaced; the body then returns a sequence of values, those of the
    first root first (None for an output without users), as it does for a pattern of several `roots`.
    Raises PipelineError for a rule that could not be read or trusted: see `check_rule.py`.
    """

    def decorate(body: Body) -> Rule:
        made = Rule(
            name or body.__name__.replace("_", "-"),
            pattern,
            (*target_of_folder(body.__module__), *requires),
            exactness,
            source,
            phase or phase_of(body.__module__, is_exact=exactness is Exactness.EXACT),
            benefit,
            body,
            inspect.cleandoc(body.__doc__ or ""),
            body.__module__,
            tuple(dict.fromkeys((call.domain, call.op_type) for call in root_calls(pattern))),
            keeps_type,
            outputs,
        )
        reject(f"rule {made.name!r}", [*name_faults(made.name), *declaration_faults(made)])
        return REGISTRY.add_rule(made)

    return decorate


def rewrite(
    name: str,
    summary: str,
    before: Pattern,
    after: Pattern,
    *,
    when: Sequence[Condition] = (),
    source: str,
    exactness: Exactness = Exactness.EXACT,
    phase: Phase | None = None,
    benefit: int = 0,
    keeps_type: bool = False,
) -> Rule:
    """Register a rule whose replacement is an expression over the pattern's names.

    In `after`, a variable or a call of `before` (the same object) is the value that it matched, and a `let` of `when`
    what it computed; any other call is built with the attributes that it names. The other parameters are those of
    `rule`; `when` are its conditions.
    Raises PipelineError as `rule` does, and for a variable that `before` does not bind.
    """
    bound = names_in(before)
    unknown = [part.name for part in parts_of(after) if isinstance(part, Var) and part.name not in bound]
    parts = [*parts_of(after), *(each for call in calls_in(after) for each in call.attributes.values())]
    faults = [f"the pattern has no {each!r}{ir.did_you_mean(each, bound)}" for each in unknown]
    faults += [f"{each.text!r} is not in `when`" for each in parts if isinstance(each, Let) and each not in when]
    reject(f"rule {name!r}", faults)

    def body(m: Match, op: Builder) -> Operand | ir.Value:
        return cast("Operand | ir.Value", _build(after, before, m, op))

    body.__doc__ = f"{summary}\n\nbefore:  y = {spell(before)}\nafter:   y = {spell(after)}"
    body.__module__ = sys._getframe(1).f_globals["__name__"]
    body.__qualname__ = name
    return rule(
        before,
        requires=when,
        source=source,
        exactness=exactness,
        phase=phase,
        benefit=benefit,
        name=name,
        keeps_type=keeps_type,
    )(body)


def _is_matched(call: Call, before: Pattern | None) -> bool:
    match before:
        case OneOf(choices):
            return any(_is_matched(call, each) for each in choices)
        case Output(other):
            return _is_matched(call, other)
        case Call(inputs=inputs):
            return before is call or any(_is_matched(call, each) for each in inputs or ())
        case _:
            return False


def _build(after: Pattern | None, before: Pattern, m: Match, op: Builder) -> Operand | ir.Value | ir.Content:
    match after:
        case Var(name=name):
            return m[after] if m.has(name) else Operand(name, None, m.shapes)
        case Call(inputs=inputs):
            if _is_matched(after, before):
                return m[after]
            operands = [None if each is None else _build(each, before, m, op) for each in inputs or ()]
            attributes: dict[str, Any] = {
                name: m[each] if isinstance(each, Let) else each for name, each in after.attributes.items()
            }
            return op.node(
                after.op_type, operands, domain=after.domain, version=1 if after.domain else None, attributes=attributes
            )[0]
        case Output(call, index) if _is_matched(call, before):
            return m[call].node.outputs[index]
        case Literal(number):
            return number
        case Let():
            return cast("Operand | ir.Value | ir.Content", m[after])
        case _:
            raise TypeError(f"{after!r} cannot be built")
