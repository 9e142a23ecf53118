"""The scripts in `benchmarks/` run from end to end on a small model, and leave rows and a page."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def script(name: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    model = Path(shutil.copy(ROOT / "examples" / "digits.onnx", folder))
    results = folder / "here.json"
    peers = "optimize-graph,onnxslim"
    script(
        "compare_tools.py", model, "--output", results, "--tools", peers, "--peer-python", "/no/such", "--budget", 0.1
    )
    return results


def test_each_tool_has_a_row_with_a_verdict(compared: Path) -> None:
    document = json.loads(compared.read_text())
    ours, peer = document["rows"]
    assert ours["verdict"] == "ok" and ours["nodes"] < ours["nodes_before"] and ours["speed"]["median"] > 0
    assert peer["verdict"] == "failed" and peer["problem"]
    assert document["machine"]["onnxruntime"]


def test_the_page_tells_what_the_rows_say(compared: Path) -> None:
    script("render_results.py", compared)
    page = compared.with_suffix(".md").read_text()
    assert "| optimize-graph | 1 | 1 | 0 | 0 |" in page
    assert "| onnxslim | 1 | 0 | 0 | 1 | x1.000 |" in page  # whose user is left with the original
    ElementTree.parse(compared.with_suffix(".svg"))


def test_a_job_takes_no_more_memory_than_twice_that_of_two_sessions(compared: Path) -> None:
    said = script("job_peak_memory.py", compared.with_name("digits.onnx"))
    assert "digits" in said and "OVER" not in said


def test_ablation_names_rules_without_which_the_result_is_another(compared: Path) -> None:
    results = compared.with_name("ablation.json")
    said = script("ablation.py", compared.with_name("digits.onnx"), "--output", results, "--budget", 0.1)
    rows = json.loads(results.read_text())["rows"]
    assert rows and all(row["speed"]["pairs"] >= 3 and row["times"] > 0 for row in rows)
    assert all(row["rule"] in said for row in rows)
