"""Every change of a definition since opset 7, up and down: what is converted computes the same, or is refused.

A few models for each step, which also make the table docs/opsets.md; all with OPTIMIZE_GRAPH_EVERYTHING=1, each step in
a process of its own.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph.ir.standard.opset_adapters import graph_protos
from support import opset_runs
from support.backend_cases import Case
from support.opset_cases import Outcome, Step, few, steps, verdict
from support.opset_runs import outcomes

pytestmark = pytest.mark.slow

TABLE = Path(__file__).parents[3] / "docs" / "opsets.md"
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
        f"{step}, {name}: {got.detail}"
        for step in STEPS[op_type]
        for name, got in outcomes(step)
        if got.kind == "differs"
    ]
    assert not wrong


def _three(step: Step) -> Iterator[Case]:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 12]> g (float[2] x) => (float[2] y) { y = Abs(x) }'
    )
    return (Case(name, model, {"x": np.ones(2, np.float32)}) for name in ("one", "two", "three"))


def _ends_at_two(case: Case, step: Step) -> Outcome:
    if case.name == "two":
        os._exit(8)
    return Outcome("same")


@pytest.mark.parametrize(("original_ends", "want"), [(False, "differs"), (True, "skipped")])
def test_a_case_that_ends_the_process_is_recorded_and_the_others_run(
    original_ends: bool, want: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if original_ends:
        monkeypatch.setattr(opset_runs, "run", lambda model, feeds: os._exit(8))
    found = list(outcomes(Step("Abs", 12, 13), _ends_at_two, _three))
    assert [(name, got.kind) for name, got in found] == [("one", "same"), ("two", want), ("three", "same")]
    assert found[1][1].detail == (opset_runs.ENDED if original_ends else opset_runs.DIFFERS)
