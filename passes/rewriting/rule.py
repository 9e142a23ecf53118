"""Rules as data: a pattern, named legality conditions, exactness, a source, and a body that builds the replacement."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ... import ir
from ..analyses import Shapes
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import PassContext, where
from ..pipeline.phase import Phase, phase_of
from ..pipeline.registry import REGISTRY, name_faults, reject
from ..pipeline.rewrite_log import MissedRewrite
from .builder import Builder
from .constraints import target_of_folder
from .match import Condition, Match
from .operand import Operand
from .pattern import Call, OneOf, Pattern, calls_in, match_node

Body = Callable[[Match, Builder], Operand | ir.Value | None]


@dataclass(frozen=True)
class Rule:
    """A rewrite rule. See `rule` for what its parts mean."""

    name: str
    pattern: Pattern
    requires: tuple[Condition, ...]
    exactness: Exactness
    source: str
    phase: Phase
    benefit: int
    body: Body
    doc: str
    module: str
    roots: tuple[tuple[str, str], ...]
    keeps_type: bool = False
    is_heuristic: bool = False

    @cached_property
    def demands(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """Sets of operators of which each must have one among those that make the inputs of a matching node.

        What the pattern says of its root's operands, to be asked before it is matched in earnest.
        """
        operands = (self.pattern.inputs or ()) if isinstance(self.pattern, Call) else ()
        calls = (_roots(operand) for operand in operands if operand is not None)
        return tuple(frozenset((call.domain, call.op_type) for call in each) for each in calls if each)

    def match(self, node: ir.Node, context: PassContext) -> Match | MissedRewrite | None:
        """The first legal match at `node`; else why the one that came furthest was refused; None where none fits."""
        miss: MissedRewrite | None = None
        furthest = -1
        shapes: Shapes | None = None
        for bindings in match_node(self.pattern, node):
            shapes = shapes or context.analyses.get(Shapes)
            match = Match(node, bindings, context, shapes)
            if any(condition.is_pattern and condition.fault(match) is not None for condition in self.requires):
                continue
            reached, fault = self._fault(match)
            if fault is None:
                return match
            if reached > furthest:
                miss, furthest = MissedRewrite(self.name, where(node), *fault), reached
        return miss

    def _fault(self, match: Match) -> tuple[int, tuple[str, str, bool] | None]:
        """What is not as it must be, and how many conditions held before."""
        if (guarded := self._guards(match)) is not None:
            return 0, (*guarded, False)
        is_forced = self.name in match.context.settings.force
        for index, condition in enumerate(self._conditions):
            if condition.is_profit and is_forced:
                continue
            if (fault := condition.fault(match)) is not None:
                return index, (condition.text, fault, condition.is_profit)
        return len(self._conditions), None

    @cached_property
    def _conditions(self) -> tuple[Condition, ...]:
        """The conditions that make near misses: what must hold first, what should pay after it."""
        return tuple(sorted((each for each in self.requires if not each.is_pattern), key=lambda each: each.is_profit))

    @cached_property
    def _shared(self) -> frozenset[str]:
        """The calls of the pattern that others may read too."""
        return frozenset(call.name for call in calls_in(self.pattern) if call.is_shared)

    def _guards(self, match: Match) -> tuple[str, str] | None:
        """What holds for every rule without being written: privacy of inner values, unread side outputs, one scope."""
        mine = set(match.nodes())
        for name, bound in match.bindings.items():
            if bound is None or bound.node is None:
                continue
            node = bound.node
            if node.op_identifier() in match.context.rewriter.model.functions:
                return "standard operators", f"{node.op_type} is a function of the model"
            if node is match.root:
                if any(ir.is_read(value) for value in node.outputs[1:]):
                    return "only the first output is read", f"another output of {where(node)} is read"
                continue
            if name in self._shared:
                continue
            if node.graph is not match.root.graph:
                return "one scope", f"{where(node)} is computed in another graph"
            if any(ir.is_read(value) for value in node.outputs[1:]):
                return "only the first output is read", f"another output of {where(node)} is read"
            if bound.value.is_graph_output():
                return f"{name} is used once", f"{where(node)} is a graph output"
            other = next((user for user, _ in bound.value.uses() if user not in mine), None)
            if other is not None:
                return f"{name} is used once", f"{where(node)} is also read by {where(other)}"
        return None


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
    is_heuristic: bool = False,
) -> Callable[[Body], Rule]:
    """Decorator: a function `(m, op)` that builds the replacement becomes a registered rule.

    The function's name, dashed, is the rule's name; its docstring must have a `before:` and an `after:` line. `phase`
    says when it runs, by default as its folder and exactness say; among rules for one operator the higher `benefit`
    goes first. Rules in `ort/cpu` and `ort/cuda` also require that target.
    `keeps_type` says that the definition of the operators gives the result the type and dims of the value that the
    body returns; without it, an existing value must be proven to have them. The body returns the value that replaces
    the root's first output, or None to leave everything as it is.
    `is_choice`: the rewrite is right either way, and done because it is expected to pay: a tuner may think otherwise.
    Raises PipelineError for a rule that could not be read or trusted: what it declares is checked (`declaration.py`).
    """

    def decorate(body: Body) -> Rule:
        from .check_rule import declaration_faults  # which reads rules

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
            tuple(dict.fromkeys((call.domain, call.op_type) for call in _roots(pattern))),
            keeps_type,
            is_heuristic,
        )
        reject(f"rule {made.name!r}", [*name_faults(made.name), *declaration_faults(made)])
        return REGISTRY.add_rule(made)

    return decorate


def _roots(pattern: Pattern) -> list[Call]:
    if isinstance(pattern, OneOf):
        return [call for choice in pattern.choices for call in _roots(choice)]
    return [pattern] if isinstance(pattern, Call) else []
