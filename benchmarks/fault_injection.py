"""Whether wrong rules are caught: each of tests/support/wrong_rules.py beside the whole catalogue, on real models.

    python benchmarks/fault_injection.py RESULT.json MODEL.onnx…

For each rule and model: whether the rule fired at all, was found and left out while the delivered model verifies, how
small the reproducer is, and whether its command shows the fault again.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path

import onnx

FAULTS = Path(__file__).parents[1] / "tests"
os.environ["PYTHONPATH"] = os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")])

from optimize_graph import OptimizeGraphError, Options, optimize  # noqa: E402
from optimize_graph.cli import main as command  # noqa: E402


def tried(rule: str, others: tuple[str, ...], model: Path, folder: Path) -> dict[str, object]:
    """One rule beside the catalogue, on one model."""
    out = folder / "out.onnx"
    options = Options(plugins=("support.wrong_rules",), disable=others, follow_symlinks=True)
    found: dict[str, object] = {"rule": rule, "model": model.stem}
    start = time.monotonic()
    try:
        result = optimize(model, out, options)
    except OptimizeGraphError as error:
        return {**found, "outcome": "not delivered", "why": str(error)[:300]}
    faulty_rewrites = [each for each in result.isolated if each.rule == rule]
    found |= {"seconds": round(time.monotonic() - start, 1), "isolated": len(result.isolated)}
    innocent = sorted({each.rule for each in result.isolated} - {rule})
    if not faulty_rewrites:
        fired = sum(each.rule == rule for each in result.rewrites)
        return {
            **found,
            "outcome": "verified with it" if fired else "never fired",
            "fired": fired,
            "innocent": innocent,
        }
    replayed, nodes = False, None
    if faulty_rewrites[0].reproducer:
        words = shlex.split(faulty_rewrites[0].reproducer)[1:]
        nodes = len(onnx.load(words[0]).graph.node)
        with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
            replayed = command(words) == 3 and rule in said.getvalue()
    assert result.verification is not None and result.verification.ok
    return {
        **found,
        "outcome": "caught",
        "whole": faulty_rewrites[-1].whole,
        "replays": replayed,
        "nodes": nodes,
        "innocent": innocent,
    }


def main(result: Path, models: list[Path]) -> None:
    from support.wrong_rules import NAMES  # importing registers

    rows = []
    for model in models:
        for rule in NAMES:
            with tempfile.TemporaryDirectory() as folder:
                others = tuple(name for name in NAMES if name != rule)
                rows.append(tried(rule, others, model, Path(folder)))
            print(rows[-1], flush=True)
            result.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(each) for each in sys.argv[2:]])
