"""Every change of a definition since opset 7, up and down: what is converted computes the same, or is refused.

A few models for each step, which also make the table docs/opsets.md; all with OPTIMIZE_GRAPH_EVERYTHING=1.
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from optimize_graph.ir.opset_steps import graph_protos

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "properties"))
from opset_cases import Step, few, made, outcome, steps, verdict

TABLE = Path(__file__).parents[2] / "docs" / "opsets.md"
STEPS: dict[str, list[Step]] = defaultdict(list)
for each in steps():
    STEPS[each.op_type].append(each)


def rows() -> dict[tuple[str, str, str], str]:
    """What the table says, by operator and opsets."""
    lines = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    return {(cells[0], cells[1], cells[2]): cells[3] for cells in lines if len(cells) == 4}


@pytest.mark.parametrize("op_type", STEPS)
def test_a_converted_operator_computes_the_same_or_is_refused_as_documented(op_type: str) -> None:
    documented = rows()
    for step in STEPS[op_type]:
        found = few(step)
        for case, got in found:
            assert got.kind != "differs", f"{step}, {case.name}: {got.detail}"
            if got.kind == "refused":
                graphs = graph_protos(case.model)
                operators = {node.op_type for graph in graphs for node in graph.node}
                named = any(re.search(rf"\b{name}\b", got.detail) for name in operators)
                assert named or "the converted model is malformed" in got.detail, f"{step}, {case.name}: {got.detail}"
        said = documented[step.op_type, str(step.before), str(step.after)]
        assert said == verdict([got for _, got in found]), f"{step}: run docs/generate_opsets.py"


@pytest.mark.skipif(os.environ.get("OPTIMIZE_GRAPH_EVERYTHING") != "1", reason="takes long")
@pytest.mark.parametrize("op_type", STEPS)
def test_no_model_of_an_operator_is_converted_wrongly(op_type: str) -> None:
    wrong = [
        f"{step}, {case.name}: {got.detail}"
        for step in STEPS[op_type]
        for case in made(step)
        if (got := outcome(case, step)).kind == "differs"
    ]
    assert not wrong
