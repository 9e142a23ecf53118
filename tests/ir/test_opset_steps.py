"""Every change of a definition since opset 7, up and down: what is converted computes the same, or is refused.

A few models for each step; all with OPTIMIZE_GRAPH_EVERYTHING=1.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "properties"))
from opset_cases import made, outcome, steps

EVERYTHING = os.environ.get("OPTIMIZE_GRAPH_EVERYTHING") == "1"
FEW = 3
STEPS = defaultdict(list)
for each in steps():
    STEPS[each.op_type].append(each)

NOTHING_RUNS = frozenset({("Einsum", 28), ("Optional", 28), ("Scatter", 11), ("TopK", 10)})
"""Steps (operator, and the higher opset) of which no model runs here, at the old and at the new opset."""


@pytest.mark.parametrize("op_type", STEPS)
def test_a_converted_operator_computes_the_same_or_is_refused_by_name(op_type: str) -> None:
    for step in STEPS[op_type]:
        cases = list(made(step)) if EVERYTHING else spread(list(islice(made(step), 200)))
        kinds = set()
        for case in cases:
            got = outcome(case, step)
            kinds.add(got.kind)
            assert got.kind != "differs", f"{step}, {case.name}: {got.detail}"
            if got.kind == "refused":
                assert op_type in got.detail or "malformed" in got.detail, f"{step}, {case.name}: {got.detail}"
        assert kinds & {"same", "refused"} or (op_type, max(step.before, step.after)) in NOTHING_RUNS, (
            f"{step}: {kinds}"
        )


def spread(cases: list[object]) -> list[object]:
    """A few of the cases, the first among them, and others that are apart from each other."""
    return [cases[index * len(cases) // FEW] for index in range(min(FEW, len(cases)))]
