"""Why a rule did, or did not, do something: every place that it considered, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .. import ir
from ..options import Options
from ..passes.analyses.manager import AnalysisManager
from ..passes.pipeline.pass_ import Pass, PassContext, where
from ..passes.pipeline.rewrite_log import MissedRewrite, Rewrite, RewriteLog
from ..passes.registry import REGISTRY
from ..passes.rewriting.matcher import Trace
from ..passes.rewriting.rewrite_rule import Rule
from .model_source import Given, Source
from .optimization.pipeline_runner import PipelineRunner


@dataclass(frozen=True)
class Mismatch:
    """A place where the pattern does not fit: `calls` of its operators do, and `because` of this it stops there."""

    where: str
    calls: int
    because: str


@dataclass(frozen=True)
class Explanation:
    """What one rule or pass did with a model.

    `rewrites`: where it fired. `missed`: where its pattern converted and a condition did not hold. `mismatches`: the
    nodes of the result with the operator that it starts from, where the pattern does not fit; the nearest first.
    """

    rule: str
    doc: str
    ran: bool
    rewrites: Sequence[Rewrite]
    missed: Sequence[MissedRewrite]
    mismatches: Sequence[Mismatch]

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        found = asdict(self)
        found["rewrites"] = [each.to_json() for each in self.rewrites]
        return found


def explain(rule: str, model: Given, options: Options | None = None) -> Explanation:
    """Run the pipeline on `model` and tell what `rule`, or the pass of that name, did and why not.

    Raises PipelineError for a name that is not known, ModelError for a model that cannot be read.
    """
    options = options or Options()
    with REGISTRY.using(options.plugins):
        return _explain(rule, PipelineRunner(Source.of(model, options), options))


def _explain(rule: str, runner: PipelineRunner) -> Explanation:
    found = REGISTRY.rules.get(rule)
    kind = REGISTRY.passes.get(rule)
    if found is None and kind is None:
        message = f"no rule or pass is called {rule!r}{ir.did_you_mean(rule, {*REGISTRY.rules, *REGISTRY.passes})}"
        raise ir.PipelineError(ir.Diagnostic("unknown-rule", message, hint="see optimize-graph passes"))
    report = runner.run(on_failure="skip")
    rewrites = [each for each in report.rewrites if each.rule == rule]
    missed = [each for each in report.missed if each.rule == rule]
    is_faulty = rule in {each.faulty for each in report.failures}
    context = PassContext(
        ir.Rewriter(report.model), AnalysisManager(report.model), RewriteLog(), settings=runner.settings
    )
    mismatches = [] if found is None or is_faulty else _mismatches(found, report.model, context)
    ran = bool(rewrites or missed) or any(_runs(each.step, rule, found) for each in report.results)
    doc = found.doc if found is not None else (kind.__doc__ or "" if kind is not None else "")
    return Explanation(rule, doc, ran, rewrites, missed, mismatches)


def _runs(step: Pass, name: str, rule: Rule | None) -> bool:
    """Whether a pass that ran is the one called `name`, or runs the rule of that name."""
    if rule is None:
        return step.name == name
    return rule.phase in step.phases or name in getattr(step, "rules", ())


def _mismatches(rule: Rule, model: ir.Model, context: PassContext) -> list[Mismatch]:
    found = [
        Mismatch(where(node), trace.calls, trace.fault)
        for node in ir.nodes(model)
        if (node.domain, node.op_type) in rule.roots
        for trace in [Trace()]
        if rule.match(node, context, trace=trace) is None
    ]
    return sorted(found, key=lambda each: -each.calls)
