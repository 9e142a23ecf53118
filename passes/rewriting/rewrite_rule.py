"""A rewrite rule: how its pattern and conditions match a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from ... import ir
from ..analyses import Shapes
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import PassContext, where
from ..pipeline.phase import Phase
from ..pipeline.rewrite_log import MissedRewrite
from .builder import Builder
from .match import Condition, Match
from .matcher import Trace, match_node
from .operand import Operand
from .pattern import Bindings, Call, OneOf, Output, Pattern, Roots, calls_in, parts_of

Result = Operand | ir.Value | None
Body = Callable[[Match, Builder], Result | Sequence[Result]]


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
    outputs: int = 1

    @cached_property
    def is_heuristic(self) -> bool:
        """Whether a rewrite is legal either way and done for expected profit, so that tuning may decide otherwise.

        That is so where a condition says where it pays, and where it suits a runtime or recognizes an operator.
        """
        is_for_all = self.phase in (Phase.CANONICALIZE, Phase.SIMPLIFY)
        return not is_for_all or any(each.is_profit for each in self.requires)

    @cached_property
    def demands(self) -> tuple[frozenset[tuple[str, str]], ...]:
        """Sets of operators: a matching node has an operand produced by one of each.

        A cheap test before the pattern is matched.
        """
        first = self.pattern.calls[0] if isinstance(self.pattern, Roots) else self.pattern
        operands = (first.inputs or ()) if isinstance(first, Call) else ()
        calls = (root_calls(operand) for operand in operands if operand is not None)
        return tuple(frozenset((call.domain, call.op_type) for call in each) for each in calls if each)

    def match(
        self, node: ir.Node, context: PassContext, shapes: Shapes | None = None, trace: Trace | None = None
    ) -> Match | MissedRewrite | None:
        """The first legal match at `node`; else why the one that came furthest was missed; None for no match.

        `shapes` are those of the model; `trace` notes why there is no match.
        """
        miss: MissedRewrite | None = None
        furthest = -1
        for bindings in match_node(self.pattern, node, trace):
            shapes = shapes or context.analyses.get(Shapes)
            match = Match(node, bindings, context, shapes, self._roots(node, bindings))
            unmet = next((each for each in self.requires if each.is_pattern and each.fault(match) is not None), None)
            if unmet is not None:
                if trace is not None:
                    trace.stop(bindings, where(node), unmet.text, unmet.fault(match) or "")
                continue
            reached, fault = self._fault(match)
            if fault is None:
                return match
            if reached > furthest:
                miss, furthest = MissedRewrite(self.name, where(node), *fault), reached
        return miss

    def _fault(self, match: Match) -> tuple[int, tuple[str, str, bool] | None]:
        """The first condition that does not hold, and how many held before."""
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
        """The conditions of missed rewrites: legality first, then profit."""
        return tuple(sorted((each for each in self.requires if not each.is_pattern), key=lambda each: each.is_profit))

    @cached_property
    def _shared(self) -> frozenset[str]:
        """The calls of the pattern that may have other users."""
        return frozenset(call.name for call in calls_in(self.pattern) if call.is_shared)

    def _roots(self, node: ir.Node, bindings: Bindings) -> tuple[ir.Node, ...]:
        if not isinstance(self.pattern, Roots):
            return (node,)
        bound = (bindings[call.name] for call in self.pattern.calls)
        return tuple(each.node for each in bound if each is not None and each.node is not None)

    def replaced_values(self, match: Match) -> list[ir.Value]:
        """The values that the body's results replace: the first `outputs` of each root."""
        return [value for root in match.roots for value in root.outputs[: self.outputs]]

    @cached_property
    def _matched_outputs(self) -> dict[str, set[int]]:
        """The outputs of each call that the pattern has as operands, by index."""
        found: dict[str, set[int]] = {}
        for part in parts_of(self.pattern):
            for operand in (part.inputs or ()) if isinstance(part, Call) else ():
                for choice in operand.choices if isinstance(operand, OneOf) else (operand,):
                    if isinstance(choice, Output):
                        found.setdefault(choice.call.name, set()).add(choice.index)
                    elif isinstance(choice, Call):
                        found.setdefault(choice.name, set()).add(0)
        return found

    def _guards(self, match: Match) -> tuple[str, str] | None:
        """Conditions of every rule: inner values have one user, other outputs none, all nodes are in one scope."""
        mine = set(match.nodes())
        for name, bound in match.bindings.items():
            if bound is None or bound.node is None:
                continue
            node = bound.node
            if node.op_identifier() in match.context.rewriter.model.functions:
                return "standard operators", f"{node.op_type} is a function of the model"
            if node in match.roots:
                if any(ir.is_read(value) for value in node.outputs[self.outputs :]):
                    return _ONLY_MATCHED, f"another output of {where(node)} has users"
                continue
            if name in self._shared:
                continue
            if node.graph is not match.root.graph:
                return "one scope", f"{where(node)} is computed in another graph"
            if (reason := _escapes(name, node, self._matched_outputs.get(name, {0}), mine)) is not None:
                return reason
        return _defined_too_late(match, self._shared) if len(match.roots) > 1 else None


_ONLY_MATCHED = "only the matched outputs have users"


def _escapes(name: str, node: ir.Node, matched: set[int], mine: set[ir.Node]) -> tuple[str, str] | None:
    """Why an inner node cannot go: an output is used outside the match."""
    if any(ir.is_read(value) for index, value in enumerate(node.outputs) if index not in matched):
        return _ONLY_MATCHED, f"another output of {where(node)} has users"
    for index in sorted(matched):
        value = node.outputs[index]
        if value.is_graph_output():
            return f"{name} is used once", f"{where(node)} is a graph output"
        other = next((user for user, _ in value.uses() if user not in mine), None)
        if other is not None:
            return f"{name} is used once", f"{where(node)} is also an operand of {where(other)}"
    return None


def _defined_too_late(match: Match, shared: frozenset[str]) -> tuple[str, str] | None:
    """Why the replacement of several roots cannot be inserted before the first: an operand is defined after it."""
    anchor, after = match.anchor, set()
    for node in reversed(anchor.graph or ()):
        after.add(node)
        if node is anchor:
            break
    for name, bound in match.bindings.items():
        if bound is None or (bound.node is not None and name not in shared):
            continue
        if bound.value.producer() in after:
            return "operands defined before the first root", f"{name} is computed after {where(anchor)}"
    return None


def root_calls(pattern: Pattern) -> list[Call]:
    """The calls that a match starts from."""
    if isinstance(pattern, Output):
        return [pattern.call]
    if isinstance(pattern, Roots):
        return [pattern.calls[0]]
    if isinstance(pattern, OneOf):
        return [call for choice in pattern.choices for call in root_calls(choice)]
    return [pattern] if isinstance(pattern, Call) else []
