"""The tools that are compared, each called as its users call it: a process that reads one file and writes another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

OURS = "optimize-graph"

SCRIPTS = {
    "onnxslim": "import onnxslim; onnxslim.slim(source, target)",
    "onnxsim": "import onnx, onnxsim; onnx.save(onnxsim.simplify(onnx.load(source))[0], target)",
    "onnxoptimizer": (
        "import onnx, onnxoptimizer as o; "
        "onnx.save(o.optimize(onnx.load(source), o.get_fuse_and_elimination_passes()), target)"
    ),
    "onnxscript": (
        "import onnx_ir, onnxscript.optimizer as o, onnxscript.rewriter as r; model = onnx_ir.load(source); "
        "o.optimize(model); onnx_ir.save(r.rewrite(model) or model, target)"
    ),
}
"""What a peer's documentation says to run."""

LIMIT_S = 600


def names() -> Sequence[str]:
    return [OURS, *SCRIPTS]


def run(tool: str, source: Path, target: Path, peer_python: str, optimized_for: str) -> str:
    """Let `tool` optimize `source` into `target`; ours for the runtime `optimized_for`, which the peers do not ask.

    Gives back what went wrong, else nothing.
    """
    if tool == OURS:
        command = [sys.executable, "-m", "optimize_graph", str(source), str(target), "--no-verify", "--quiet"]
        command += ["--target", optimized_for]
    else:
        script = f"import sys; source, target = sys.argv[1:]; {SCRIPTS[tool]}"
        command = [peer_python, "-c", script, str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT_S} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0 and target.exists():
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
