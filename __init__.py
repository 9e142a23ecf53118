"""A graph optimizer for ONNX models: never wrong, never slower, measured.

    from optimize_graph import optimize
    result = optimize("in.onnx", "out.onnx")

Importing this package imports neither torch nor onnxruntime, and nothing heavy before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ir.diagnostics import (
        Diagnostic,
        EnvironmentSetupError,
        ModelError,
        OptimizeGraphError,
        OptionsError,
        PipelineError,
        VerificationError,
    )
    from .ir.standard.custom_operators import operator_function, operator_reference
    from .jobs.bisect import BisectResult, bisect
    from .jobs.compare import Comparison, compare
    from .jobs.explain import Explanation, explain
    from .jobs.export.export import Exported, ExporterOptions, export
    from .jobs.inspect import Inspection, inspect
    from .jobs.measure import Measurement, measure
    from .jobs.optimization.gates import Gate, GateError
    from .jobs.optimization.optimize import optimize
    from .jobs.optimization.result import Result
    from .jobs.reduce import reduce
    from .options import Options
    from .passes.analyses.model_stats import ModelStats, model_stats

_HOMES = {
    "Comparison": ".jobs.compare",
    "Explanation": ".jobs.explain",
    "BisectResult": ".jobs.bisect",
    "ModelStats": ".passes.analyses.model_stats",
    "Gate": ".jobs.optimization.gates",
    "GateError": ".jobs.optimization.gates",
    "Inspection": ".jobs.inspect",
    "Measurement": ".jobs.measure",
    "Options": ".options",
    "Result": ".jobs.optimization.result",
    "bisect": ".jobs.bisect",
    "compare": ".jobs.compare",
    "explain": ".jobs.explain",
    "Exported": ".jobs.export.export",
    "ExporterOptions": ".jobs.export.export",
    "export": ".jobs.export.export",
    "model_stats": ".passes.analyses.model_stats",
    "inspect": ".jobs.inspect",
    "measure": ".jobs.measure",
    "operator_function": ".ir.standard.custom_operators",
    "operator_reference": ".ir.standard.custom_operators",
    "optimize": ".jobs.optimization.optimize",
    "reduce": ".jobs.reduce",
    "Diagnostic": ".ir.diagnostics",
    "EnvironmentSetupError": ".ir.diagnostics",
    "ModelError": ".ir.diagnostics",
    "OptimizeGraphError": ".ir.diagnostics",
    "OptionsError": ".ir.diagnostics",
    "PipelineError": ".ir.diagnostics",
    "VerificationError": ".ir.diagnostics",
}

__all__ = [
    "BisectResult",
    "Comparison",
    "Diagnostic",
    "EnvironmentSetupError",
    "Explanation",
    "Exported",
    "ExporterOptions",
    "Gate",
    "GateError",
    "Inspection",
    "Measurement",
    "ModelError",
    "ModelStats",
    "OptimizeGraphError",
    "Options",
    "OptionsError",
    "PipelineError",
    "Result",
    "VerificationError",
    "bisect",
    "compare",
    "explain",
    "export",
    "inspect",
    "measure",
    "model_stats",
    "operator_function",
    "operator_reference",
    "optimize",
    "reduce",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = found  # looked up once
    return found
