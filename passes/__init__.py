"""What may replace what? Passes, rules and the pipelines that run them.

A compiler engineer's rule needs `rule`, `op`, `values` and conditions; a pass needs `Pass` and `register`.
"""

from .engine import conditions
from .engine.analysis import Analysis, AnalysisManager
from .engine.exactness import Exactness
from .engine.foreign import surgeon_pass
from .engine.instruments import CheckFailed, Instrument, PrintAfter, Statistics, Timing, VerifyEach
from .engine.journal import Journal, Refusal, Rewrite, Without
from .engine.pass_ import Evaluator, Pass, PassContext, PassFailure, Settings, spell, where
from .engine.pattern import any_call, approx, op, rest, values
from .engine.pipeline import Fixpoint, Pipeline, Report
from .engine.registry import REGISTRY, Registry, register
from .engine.rule import Builder, Condition, Match, Operand, Rule, rule

__all__ = [
    "REGISTRY",
    "Analysis",
    "AnalysisManager",
    "Builder",
    "CheckFailed",
    "Condition",
    "Evaluator",
    "Exactness",
    "Fixpoint",
    "Instrument",
    "Journal",
    "Match",
    "Operand",
    "Pass",
    "PassContext",
    "PassFailure",
    "Pipeline",
    "PrintAfter",
    "Refusal",
    "Registry",
    "Report",
    "Rewrite",
    "Rule",
    "Settings",
    "Statistics",
    "Timing",
    "VerifyEach",
    "Without",
    "any_call",
    "approx",
    "conditions",
    "op",
    "register",
    "rest",
    "rule",
    "spell",
    "surgeon_pass",
    "values",
    "where",
]
