"""The worklist driver: rules indexed by root operator; a node is revisited when an operand or user changed.

After MLIR's greedy pattern driver (https://mlir.llvm.org/docs/PatternRewriter/#greedy-pattern-rewrite-driver). The
order is that of the graph and of the rules' names, so that runs are deterministic; the number of rewrites is bounded.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import ParamSpec, TypeVar

from ... import ir
from ..analyses import Shapes
from ..analyses.rounding_sensitivity import WholeNumbers, decided_by_rounding
from ..pipeline.exactness import Exactness
from ..pipeline.pass_ import PassContext, PassFailure, is_foreign, sketch, spell, where
from ..pipeline.rewrite_log import MissedRewrite
from ..targets.quantization_faults import newly_broken
from .builder import Builder
from .check_replacement import ReplacementError, check_replacement, untouched
from .constant_range import lost_range
from .kernel_check import missing_kernel
from .match import Match
from .operand import Operand
from .rewrite_rule import Rule

Results = Sequence[tuple[ir.Value, ir.Value]]
"""What replaces what: pairs of an old and a new value."""

P = ParamSpec("P")
R = TypeVar("R")

_REWRITES_PER_NODE = 8  # far above what a converging set of rules needs; a loop of rules meets it soon


def apply_rules(rules: Iterable[Rule], model: ir.Model, context: PassContext, *, limit: int | None = None) -> None:
    """Apply `rules` everywhere, subgraphs and functions included, until none fires (or `limit` have fired).

    Raises PassFailure naming the rule that raised, or the one that kept firing when the bound was met.
    """
    _Driver(rules, model, context).run(limit)


class _Driver(ir.Listener):
    """One run; it listens to the rewriter to know which nodes to revisit."""

    def __init__(self, rules: Iterable[Rule], model: ir.Model, context: PassContext) -> None:
        self.model, self.context = model, context
        self.shapes = context.analyses.get(Shapes)
        self.index: dict[tuple[str, str], list[Rule]] = {}
        for rule in sorted(rules, key=lambda each: (-each.benefit, each.name)):
            if rule.name not in context.log.exclusions.names:
                for root in rule.roots:
                    self.index.setdefault(root, []).append(rule)
        self.work: deque[ir.Node] = deque()
        self.waiting: set[ir.Node] = set()
        self.owners: dict[ir.Graph, ir.Node] = {}
        for node in ir.nodes(model):
            self.inserted(node)
        self.bound = _REWRITES_PER_NODE * len(self.work) + 64
        self.fired: Counter[str] = Counter()
        self.total = 0

    def run(self, limit: int | None) -> None:
        rewriter = self.context.rewriter
        rewriter.subscribe(self)
        try:
            while self.work and (limit is None or self.total < limit):
                node = self.work.popleft()
                self.waiting.discard(node)
                if node.graph is not None:
                    self.visit(node)
                for known_better in () if self.work else self.shapes.refresh(self.model):
                    self.enqueue(known_better)
        finally:
            rewriter.unsubscribe(self)

    def visit(self, node: ir.Node) -> None:
        rules = self.index.get((node.domain, node.op_type))
        if not rules:
            return
        above = _operators_above(node)
        for rule in rules:
            if any(above.isdisjoint(wanted) for wanted in rule.demands):
                continue
            if self.apply(rule, node):
                self.fired[rule.name] += 1
                self.total += 1
                if self.total > self.bound:
                    looping = self.looping()
                    raise PassFailure(looping, f"it keeps firing: {self.fired[looping]} times")
                return

    def apply(self, rule: Rule, node: ir.Node) -> bool:
        """Match a rule at a node, and rewrite where it does; whether it fired."""
        started = time.perf_counter()
        found = _attributed(rule, node, rule.match, node, self.context, self.shapes)
        if isinstance(found, MissedRewrite):
            self.context.log.miss(found)
            found = None
        fired = found is not None and self.rewrite(rule, found)
        use = self.context.log.uses[rule.name]
        use.seconds += time.perf_counter() - started
        use.tried, use.fired = use.tried + 1, use.fired + fired
        return fired

    def looping(self) -> str:
        """The rule to name when rewriting does not terminate: among the most frequent, a plugin's first.

        The rules of this package are tested with each other; one that undoes a plugin's is not faulty.
        """
        most = max(self.fired.values())
        rules = {rule.name: rule for each in self.index.values() for rule in each}
        often = [name for name, times in self.fired.items() if 2 * times >= most]
        return min(often, key=lambda name: (not is_foreign(rules[name].module), -self.fired[name]))

    def rewrite(self, rule: Rule, match: Match) -> bool:
        log, root = self.context.log, match.root
        old = match.nodes()[::-1]
        before, drawing = spell(old), sketch(old)
        dims = match.shapes.show(root.outputs[0]) if rule.is_heuristic else ""
        if not log.allows(rule.name, where(root), before, rule.exactness, dims):
            return False
        builder = Builder(match, rule.name)
        results = _attributed(rule, root, _build, rule, match, builder)
        if results is None:
            ir.discard(builder.nodes)
            return False
        miss = self.guard(rule, match, results, builder)
        for pair in results:
            if miss is None:
                miss = self.rounding_before_decision(rule, match, pair, builder.nodes)
        if miss is not None:
            ir.discard(builder.nodes)
            log.miss(miss)
            return False
        after, drawings = spell(builder.nodes), (drawing, sketch(builder.nodes))
        if not log.try_rewrite(rule.name, where(root), before, after, rule.exactness, dims, drawings):
            ir.discard(builder.nodes)
            return False
        self.commit(match, results, builder)
        return True

    def guard(self, rule: Rule, match: Match, results: Results, builder: Builder) -> MissedRewrite | None:
        """Check what every replacement must keep: types, dims, kernels, the range of constants, sound quantization."""
        made = builder.nodes
        unknown = next((node for node in made if not node.domain and _is_of_another_opset(node)), None)
        if unknown is not None:
            because = f"opset {unknown.version} has no {unknown.op_type}"
            return MissedRewrite(rule.name, where(match.root), "operators that the model's opset has", because)
        match.shapes.learn_all(made)
        _attributed(rule, match.root, check_replacement, match, results, builder)
        settings = self.context.settings
        if (miss := missing_kernel(rule.name, match.root, made, match.nodes(), match.shapes, settings)) is not None:
            return miss
        return next((miss for pair in results if (miss := self.guard_value(rule, match, pair, made)) is not None), None)

    def guard_value(
        self, rule: Rule, match: Match, pair: tuple[ir.Value, ir.Value], made: Sequence[ir.Node]
    ) -> MissedRewrite | None:
        """Check one result: it has the type and dims of what it replaces.

        That is proven for a value that was there before, and not contradicted by inference for a new one.
        """
        (old, result), shapes = pair, match.shapes
        if lost := lost_range(made, result, match.nodes()):
            return MissedRewrite(rule.name, where(match.root), "constants within the range of their type", lost)
        if (broken := newly_broken(made, old, result, shapes.dtype)) is not None:
            node, fault = broken
            because = f"DequantizeLinear in {where(node)!r}: {fault}"
            return MissedRewrite(
                rule.name, where(match.root), "quantization that ONNX Runtime optimizes soundly", because
            )
        if result.graph is None or result.producer() in made:
            if shapes.may_be_same(old, result):
                return None
            because = f"{shapes.show(old)} would become {shapes.show(result)}"
            is_fault = None not in (types := (shapes.dtype(old), shapes.dtype(result))) and types[0] != types[1]
            condition = "a result of the same type and dims"
            return MissedRewrite(rule.name, where(match.root), condition, because, is_fault=is_fault)
        if _only_renames(match.root, result):
            return MissedRewrite(
                rule.name, where(match.root), "something to remove", "an interface name stands on either side"
            )
        if not rule.keeps_type and not shapes.same_type_and_shape(old, result):
            because = f"{shapes.show(old)} is not proven to be {shapes.show(result)}"
            return MissedRewrite(rule.name, where(match.root), "a result of the same type and dims", because)
        return None

    def rounding_before_decision(
        self, rule: Rule, match: Match, pair: tuple[ir.Value, ir.Value], made: Sequence[ir.Node]
    ) -> MissedRewrite | None:
        """Refuse inexact rewrites of arithmetic before a threshold: see analyses/rounding_sensitivity.py."""
        if rule.exactness is Exactness.EXACT:
            return None
        old, result = pair
        decision = decided_by_rounding(old, self.owners)
        if decision is None:
            return None
        numbers = WholeNumbers(match.shapes.dtype)
        if numbers.are_exact(match.nodes()) and numbers.are_exact(made) and numbers.interval(result) is not None:
            return None
        because = f"{decision.op_type} decides by it, and nothing before it rounds as sums do"
        return MissedRewrite(rule.name, where(match.root), "a value that decides nothing, or noise before it", because)

    def commit(self, match: Match, results: Results, builder: Builder) -> None:
        """Insert the replacement, redirect the users of what it replaces, and erase what is left without users."""
        rewriter, anchor = self.context.rewriter, match.anchor
        for node in builder.nodes:
            rewriter.insert(node, before=anchor)
        new: dict[ir.Value, ir.Value] = {}
        for old, result in results:
            new[old] = rewriter.place(result, near=anchor) if result.graph is None else result  # a constant alone
        inner = [node for node in match.nodes() if node not in match.roots]
        for inner_old, inner_new in builder.replaced:
            rewriter.redirect(inner_old, inner_new, before=match.root)
        for root in match.roots:
            rewriter.replace(root, [new.get(value) for value in root.outputs])
        while unread := [node for node in inner if node.graph is not None and _is_unread(node)]:
            for node in unread:  # users before producers
                rewriter.erase(node)

    # --- events of the rewriter ------------------------------------------------------------------------------------

    def enqueue(self, node: ir.Node) -> None:
        if node not in self.waiting:
            self.waiting.add(node)
            self.work.append(node)

    def inserted(self, node: ir.Node) -> None:
        self.owners.update(ir.owners_in([node]))
        self.enqueue(node)

    def modified(self, node: ir.Node) -> None:
        self.enqueue(node)
        for value in node.outputs:
            for reader in value.consumers():
                self.enqueue(reader)

    def released(self, value: ir.Value) -> None:
        """A value that lost a user may now have a single one, and match a pattern that requires it."""
        producer = value.producer()
        if producer is None or producer.graph is None:
            return
        self.enqueue(producer)
        if len(uses := value.uses()) == 1:
            for user, _ in uses:
                self.enqueue(user)

    def erased(self, node: ir.Node) -> None:
        self.waiting.discard(node)


def _build(rule: Rule, match: Match, builder: Builder) -> Results | None:
    """Run the body of a rule: pairs of a value that is replaced and its replacement; None to leave all as it is.

    Raises ReplacementError when it gives back anything but a value, or, for a plugin's, when it changes the graph: that
    check costs as much as many bodies, and the rules of this package are tested for it.
    """
    with untouched(match) if is_foreign(rule.module) else nullcontext():
        built = rule.body(match, builder)
    replaced = rule.replaced_values(match)
    if built is None:
        return None
    several = len(replaced) > 1
    if several and (not isinstance(built, Sequence) or len(built) != len(replaced)):
        raise ReplacementError(f"it returned {type(built).__name__}, expected {len(replaced)} values or None")
    results = []
    for old, new in zip(replaced, built if isinstance(built, Sequence) and several else [built], strict=True):
        value = new.value if isinstance(new, Operand) else new
        if value is None and not ir.is_read(old):
            continue
        if not isinstance(value, ir.Value):
            raise ReplacementError(f"it returned {type(value).__name__}, expected a value or None")
        results.append((old, value))
    return results


def _is_of_another_opset(node: ir.Node) -> bool:
    """Whether the standard has the operator, but not at the opset of the node."""
    return ir.schema_of(node) is None and node.op_type in ir.standard_operators()[node.domain]


def _operators_above(node: ir.Node) -> set[tuple[str, str]]:
    """The operators that produce the operands of `node`."""
    producers = (value.producer() for value in node.inputs if value is not None)
    return {(producer.domain, producer.op_type) for producer in producers if producer is not None}


def _is_unread(node: ir.Node) -> bool:
    return not any(ir.is_read(value) for value in node.outputs)


def _only_renames(root: ir.Node, result: ir.Value) -> bool:
    """Whether the rewrite would only give another Identity: both names belong to an interface or scope."""
    if root.op_type != "Identity" or not root.outputs[0].is_graph_output():
        return False
    producer = result.producer()
    return producer is None or producer.graph is not root.graph or ir.is_public(result)


def _attributed(rule: Rule, node: ir.Node, function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    try:
        return function(*arguments, **options)
    except (Exception, SystemExit) as error:  # a plugin's code may raise anything: it is excluded and reported
        raise PassFailure(rule.name, f"{type(error).__name__}: {error}", where(node)) from error
