"""The golden cases of the catalogue."""

from __future__ import annotations

from pathlib import Path

from optimize_graph.testing.golden import cases_in

PASSES = Path(__file__).parents[1] / "passes"
CASES = [case for path in sorted(PASSES.rglob("*.md"), key=lambda path: path.name) for case in cases_in(path)]
