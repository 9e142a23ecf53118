"""What may replace what? Passes, rules and the pipelines that run them.

A compiler engineer's rule needs `rule`, `op`, `values` and conditions; a pass needs `Pass` and `register`.
"""

from . import foreign
from .analyses.manager import Analysis, AnalysisManager
from .pipeline.exactness import Exactness
from .pipeline.instruments import CheckFailed, Instrument, PrintIr, Statistics, Timing, VerifyEach
from .pipeline.pass_ import Evaluator, Pass, PassContext, PassFailure, Settings, spell, where
from .pipeline.phase import Phase
from .pipeline.pipeline import Fixpoint, Pipeline, PipelineResult
from .pipeline.rewrite_log import Exclusions, MissedRewrite, Rewrite, RewriteLog
from .registry import REGISTRY, Registry, register
from .rewriting import constraints
from .rewriting.builder import Builder
from .rewriting.constraints import let, profitable, require, structural
from .rewriting.match import Condition, Match
from .rewriting.operand import Operand
from .rewriting.pattern import any_call, approx, op, roots, values, variadic
from .rewriting.rewrite_rule import Rule
from .rewriting.rule import rewrite, rule
from .targets.target import Target

__all__ = [
    "REGISTRY",
    "Analysis",
    "AnalysisManager",
    "Builder",
    "CheckFailed",
    "Condition",
    "Evaluator",
    "Exactness",
    "Exclusions",
    "Fixpoint",
    "Instrument",
    "Match",
    "MissedRewrite",
    "Operand",
    "Pass",
    "PassContext",
    "PassFailure",
    "Phase",
    "Pipeline",
    "PipelineResult",
    "PrintIr",
    "Registry",
    "Rewrite",
    "RewriteLog",
    "Rule",
    "Settings",
    "Statistics",
    "Target",
    "Timing",
    "VerifyEach",
    "any_call",
    "approx",
    "constraints",
    "foreign",
    "let",
    "op",
    "profitable",
    "register",
    "require",
    "rewrite",
    "roots",
    "rule",
    "spell",
    "structural",
    "values",
    "variadic",
    "where",
]
