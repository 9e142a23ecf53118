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
        MachineError,
        ModelError,
        OptimizeGraphError,
        OptionsError,
        PipelineError,
        VerificationError,
    )
    from .ir.operator_semantics import operator_function, operator_reference
    from .jobs.bisect import Finding, bisect
    from .jobs.compare import Comparison, compare
    from .jobs.explain import Explanation, explain
    from .jobs.export import export
    from .jobs.inspect import Inspection, inspect
    from .jobs.measure import Measurement, measure
    from .jobs.optimize import optimize
    from .jobs.reduce import reduce
    from .options import Options
    from .passes.analyses.figures import Figures, figures
    from .result import Result

_HOMES = {
    "Comparison": ".jobs.compare",
    "Explanation": ".jobs.explain",
    "Finding": ".jobs.bisect",
    "Figures": ".passes.analyses.figures",
    "Inspection": ".jobs.inspect",
    "Measurement": ".jobs.measure",
    "Options": ".options",
    "Result": ".result",
    "bisect": ".jobs.bisect",
    "compare": ".jobs.compare",
    "explain": ".jobs.explain",
    "export": ".jobs.export",
    "figures": ".passes.analyses.figures",
    "inspect": ".jobs.inspect",
    "measure": ".jobs.measure",
    "operator_function": ".ir.operator_semantics",
    "operator_reference": ".ir.operator_semantics",
    "optimize": ".jobs.optimize",
    "reduce": ".jobs.reduce",
    "Diagnostic": ".ir.diagnostics",
    "MachineError": ".ir.diagnostics",
    "ModelError": ".ir.diagnostics",
    "OptimizeGraphError": ".ir.diagnostics",
    "OptionsError": ".ir.diagnostics",
    "PipelineError": ".ir.diagnostics",
    "VerificationError": ".ir.diagnostics",
}

__all__ = [
    "Comparison",
    "Diagnostic",
    "Explanation",
    "Figures",
    "Finding",
    "Inspection",
    "MachineError",
    "Measurement",
    "ModelError",
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
    "figures",
    "inspect",
    "measure",
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
