"""A graph optimizer for ONNX models: never wrong, never slower, measured.

    from optimize_graph import optimize
    result = optimize("in.onnx", "out.onnx")

Importing this package imports neither torch nor onnxruntime, and nothing heavy before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import optimize
    from .comparing import Comparison, compare
    from .exporting import export
    from .inspecting import Inspection, inspect
    from .ir.diagnostics import (
        Diagnostic,
        MachineError,
        ModelError,
        OptimizeGraphError,
        PipelineError,
        VerificationError,
    )
    from .measuring import Measurement, measure
    from .options import Options
    from .passes.analyses.figures import Figures, figures
    from .result import Result

_HOMES = {
    "Comparison": ".comparing",
    "Figures": ".passes.analyses.figures",
    "Inspection": ".inspecting",
    "Measurement": ".measuring",
    "Options": ".options",
    "Result": ".result",
    "compare": ".comparing",
    "export": ".exporting",
    "figures": ".passes.analyses.figures",
    "inspect": ".inspecting",
    "measure": ".measuring",
    "optimize": ".api",
    "Diagnostic": ".ir.diagnostics",
    "MachineError": ".ir.diagnostics",
    "ModelError": ".ir.diagnostics",
    "OptimizeGraphError": ".ir.diagnostics",
    "PipelineError": ".ir.diagnostics",
    "VerificationError": ".ir.diagnostics",
}

__all__ = [
    "Comparison",
    "Diagnostic",
    "Figures",
    "Inspection",
    "MachineError",
    "Measurement",
    "ModelError",
    "OptimizeGraphError",
    "Options",
    "PipelineError",
    "Result",
    "VerificationError",
    "compare",
    "export",
    "figures",
    "inspect",
    "measure",
    "optimize",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = found  # looked up once
    return found
