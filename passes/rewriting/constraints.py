"""Named legality conditions: most defects of graph optimizers are one of these missing.

Each says why it does not hold, with the value, for the report of missed rewrites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TypeVar

import numpy as np

from ... import ir
from ..targets.target_file import built_in, find
from .match import UNMET, Condition, Let, Match
from .operand import Operand
from .pattern import Call, Var

Named = Var | Call | str
T = TypeVar("T")

FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE})


def structural(text: str, test: Callable[[Match], bool]) -> Condition:
    """A part of the pattern that calls cannot say: where it does not hold, nothing matched, and nothing was missed."""
    return Condition(text, lambda match: None if test(match) else UNMET, is_pattern=True, functions=(test,))


def let(text: str, compute: Callable[[Match], T | str | None], *, is_structural: bool = False) -> Let[T]:
    """A condition that binds what it computes; the body reads it as `m[plan]`, if `plan` is this condition.

    Where `compute` gives None it does not hold; where it gives a text, that is the reason. `is_structural`: as
    `structural`, it is a part of the pattern. Conditions that come later in `requires` may read it, too.
    """
    return Let(text, compute, is_pattern=is_structural)


def require(text: str, test: Callable[[Match], bool], because: Callable[[Match], str] | None = None) -> Condition:
    """A condition: `text` says what must hold, `because` what was found instead."""

    def fault(match: Match) -> str | None:
        if test(match):
            return None
        return because(match) if because is not None else UNMET

    return Condition(text, fault, functions=(test,) if because is None else (test, because))


def profitable(text: str, test: Callable[[Match], bool], because: Callable[[Match], str] | None = None) -> Condition:
    """A condition of profit, not of legality: where it does not hold, tuning may try the rewrite all the same."""
    return replace(require(text, test, because), is_profit=True)


def threshold(match: Match, name: str) -> float:
    """A threshold of profit, as the target has it (`targets/target_schema.py`)."""
    return match.context.settings.target.threshold(name)


def target(name: str) -> Condition:
    """The run optimizes for this target, or one that extends it. Raises OptionsError for one that does not exist."""
    wanted = find(name).name
    return require(
        f"target {name}",
        lambda m: wanted in m.context.settings.target.file.lineage,
        lambda m: str(m.context.settings.target),
    )


@cache
def _folders() -> frozenset[str]:
    return frozenset(folder for name in built_in() for folder in find(name).rules)


def target_of_folder(module: str) -> tuple[Condition, ...]:
    """The target condition of every rule in a folder that some built-in target has for itself; none elsewhere."""
    package, _, path = module.partition(".passes.")
    folder = "/".join(path.split(".")[:2])
    if package != __name__.partition(".")[0] or folder not in _folders():
        return ()
    return (
        require(
            f"a target for {folder}",
            lambda m: folder in m.context.settings.target.file.rules,
            lambda m: str(m.context.settings.target),
        ),
    )


def constant(*names: Named) -> Condition:
    """The operands are constants that no caller can override; absent optional inputs are fine."""

    def fault(match: Match) -> str | None:
        for name, operand in _operands(match, names):
            if operand.present and not operand.is_constant:
                kind = "can be overridden by the caller" if ir.is_overridable(operand.value) else "is computed"
                return f"{name} = {operand.value.name!r} {kind}"
        return None

    return _about(names, f"{', '.join(map(_name, names))} constant", fault)


def attribute(call: Named, name: str, value: object) -> Condition:
    """The attribute (or its schema default) has this value; absent without a default counts as fitting None."""

    def fault(match: Match) -> str | None:
        found = _the(match, call).attribute(name)
        return None if found == value else f"{name} = {found!r}"

    return _about((call,), f"{_name(call)}.{name} = {value!r}", fault)


def same_type_and_shape(left: Named, right: Named) -> Condition:
    """Two values have, proven, the same element type and the same dims."""

    def fault(match: Match) -> str | None:
        a, b = _the(match, left), _the(match, right)
        if match.shapes.same_type_and_shape(a.value, b.value):
            return None
        return f"{match.shapes.show(a.value)} against {match.shapes.show(b.value)}"

    return _about((left, right), f"{_name(left)} and {_name(right)} of the same type and dims", fault)


def floating(*names: Named) -> Condition:
    """The operands have a floating-point element type."""

    def fault(match: Match) -> str | None:
        for name, operand in _operands(match, names):
            if operand.present and operand.dtype not in FLOATS:
                return f"{name} is {operand.dtype}"
        return None

    return _about(names, f"{', '.join(map(_name, names))} floating-point", fault)


def rank_known(*names: Named) -> Condition:
    """The ranks of the operands are known."""

    def fault(match: Match) -> str | None:
        for name in map(_name, names):
            if _the(match, name).rank is None:
                return f"the rank of {_the(match, name).value.name!r} is not known"
        return None

    return _about(names, f"rank of {', '.join(map(_name, names))} known", fault)


def finite(*names: Named) -> Condition:
    """The constants hold no NaN and no infinity."""

    def fault(match: Match) -> str | None:
        for name, operand in _operands(match, names):
            if operand.present and not np.isfinite(operand.array).all():
                return f"{name} = {operand.value.name!r} holds NaN or infinity"
        return None

    return _about(names, f"{', '.join(map(_name, names))} finite", fault)


def _name(given: Named) -> str:
    return given if isinstance(given, str) else given.name


def _about(names: Sequence[Named], text: str, fault: Callable[[Match], str | None]) -> Condition:
    return Condition(text, fault, names=tuple(map(_name, names)))


def _operands(match: Match, names: Sequence[Named]) -> Iterator[tuple[str, Operand]]:
    """The operands of these names that this branch of the pattern binds; of `variadic(name)`, all."""
    for name in map(_name, names):
        if name in match.bindings:
            yield name, match.operand(name)
        else:
            yield from ((operand.name, operand) for operand in match.variadic(name))


def _the(match: Match, given: Named) -> Operand:
    return match.operand(_name(given))
