"""Gates: what misses a required figure is not written, and the exit code, the message and the report say so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import GateError, Options, OptionsError, optimize
from optimize_graph.jobs.measure import Measurement
from optimize_graph.jobs.optimization import evaluation
from optimize_graph.jobs.optimization.optimize import _Job
from optimize_graph.runtime import Peak, Ratio, Verification
from support.command import command

pytestmark = pytest.mark.slow

SPEED = Ratio(1.02, 1.00, 1.04, 10)
PEAKS = Peak(0, 0, 100 << 20), Peak(0, 0, 90 << 20)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Four nodes, of which two stay, and a constant of 400 KB that nothing uses."""
    made = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["": 21]>
        g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  b = Gelu(a)  c = Identity(b)  y = Add(c, w) }""")
    for name, size in (("w", 4), ("unused", 100_000)):
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(size, np.float32), name))
    onnx.save(made, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture(autouse=True)
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured: x1.02 [1.00, 1.04], 100 MiB before and 90 MiB after. Verified: an error of 1e-6, noise of 1e-7."""
    measured = evaluation.measure_on

    def fixed(*given: Any, **named: Any) -> Measurement:
        found = measured(*given, **{**named, "seconds": 0.01})
        point = found.points[0]
        standings = [replace(each, memory=peak) for each, peak in zip(point.standings, PEAKS, strict=True)]
        standings[1] = replace(standings[1], timing=replace(standings[1].timing, speed=SPEED))
        return replace(found, points=(replace(point, standings=tuple(standings)),))

    monkeypatch.setattr(evaluation, "measure_on", fixed)
    seen = Verification(ok=True, exact=False, inputs=("zeros",), floor=1e-7, error=1e-6)
    monkeypatch.setattr(_Job, "verify", lambda self, *_: seen if self.options.verify else None)


GATES = [  # words that are passed, words that are missed, the figure and the limit of the latter, its text
    (["--require-speedup", "1.04"], ["--require-speedup", "1.05"], 1.02, 1.05, "x1.02 [1.00, 1.04], at least x1.05"),
    (["--max-size", "1KB"], ["--max-size", "100B"], None, 100, "bytes, at most 100 bytes"),
    (["--max-size", "x1.0"], ["--max-size", "x0.0001"], None, 0.0001, "of the original"),
    (
        ["--max-peak-memory", "90MiB"],
        ["--max-peak-memory", "80MiB"],
        90 << 20,
        80 << 20,
        "94,371,840 bytes, at most 83",
    ),
    (["--max-peak-memory", "x0.9"], ["--max-peak-memory", "x0.85"], 0.9, 0.85, "x0.90 of the original, at most x0.85"),
    (["--max-error", "1e-6"], ["--max-error", "1e-7"], 1e-6, 1e-7, "1.0e-06, at most 1.0e-07"),
    (["--max-nodes", "2"], ["--max-nodes", "1"], 2, 1, "2, at most 1"),
    (["--require-fused", "gelu=1"], ["--require-fused", "gelu=2"], 1, 2, "gelu: 1, at least 2"),
    (
        ["--require-fused", "Add=1"],
        ["--require-fused", "com.microsoft.Add=1"],
        0,
        1,
        "com.microsoft.Add: 0, at least 1",
    ),
]


@pytest.mark.parametrize(("passed", "missed", "figure", "limit", "text"), GATES, ids=lambda each: str(each)[:40])
def test_a_gate_that_is_missed_is_exit_code_4_and_nothing_is_written(
    model: Path, passed: list[str], missed: list[str], figure: float | None, limit: float, text: str
) -> None:
    out, report = model.with_name("out.onnx"), model.with_name("report.json")
    failed = command(model, out, *missed, "--report", report)
    assert failed.returncode == 4
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.onnx", "report.json"]
    found = json.loads(report.read_text())
    (gate,) = found["gates"]
    assert f"--{gate['name']}" == missed[0]
    assert gate["passed"] is False and gate["limit"] == pytest.approx(limit)
    assert figure is None or gate["figure"] == pytest.approx(figure)
    assert found["error"]["code"] == "gate-missed" and found["build"]["output"] is None
    assert f"error: gate missed: {missed[0]}" in failed.stderr and "nothing was written" in failed.stderr
    assert text in failed.stderr
    assert f"missed: {missed[0]}" in failed.stdout

    done = command(model, out, *passed, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [each["passed"] for each in found["gates"]] == [True] and found["error"] is None
    assert out.exists()


def test_every_gate_that_is_missed_is_named_and_the_other_figures_are_reported(model: Path) -> None:
    done = command(
        model, "--dry-run", "--max-nodes", "1", "--require-fused", "attention=2", "--max-error", "1", "--json"
    )
    assert done.returncode == 4
    found = json.loads(done.stdout)
    assert [(each["name"], each["passed"]) for each in found["gates"]] == [
        ("max-error", True),
        ("max-nodes", False),
        ("require-fused", False),
    ]
    assert found["after"]["nodes"] == 2 and found["rewrites"]
    assert "--max-nodes: 2, at most 1; --require-fused attention: 0, at least 2 (" in done.stderr


def test_a_missed_gate_is_an_error_with_the_result_in_python(model: Path) -> None:
    with pytest.raises(GateError, match="gate missed: --max-nodes: 2, at most 1") as caught:
        optimize(model, options=Options(max_nodes=1))
    assert caught.value.result.after.nodes == 2


def test_the_page_shows_gates(model: Path) -> None:
    page = model.with_name("page.html")
    assert command(model, "--dry-run", "--max-nodes", "1", "--report", page).returncode == 4
    assert "missed: --max-nodes: 2, at most 1" in page.read_text()


# --- an earlier report ------------------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], object]
BASELINES: list[tuple[str, Change]] = [
    ("nodes: 2, at most 1", lambda report: report["after"].update(nodes=1)),
    ("file: ", lambda report: report["after"].update(file_bytes=10)),
    ("error: 1.0e-06, at most 1.0e-07", lambda report: report["verification"].update(error=1e-8)),
    (
        "x1.02 [1.00, 1.04], at least x1.05",
        lambda report: report["measurement"]["points"][0]["models"][1]["speed"].update(low=1.05),
    ),
]


@pytest.mark.parametrize(("text", "change"), BASELINES, ids=[text for text, _ in BASELINES])
def test_a_result_may_be_no_worse_than_an_earlier_report(model: Path, text: str, change: Change) -> None:
    report = model.with_name("report.json")
    assert command(model, "--dry-run", "--measure", "--report", report).returncode == 0
    same = command(model, "--dry-run", "--baseline", report)
    assert same.returncode == 0, same.stderr
    assert same.stdout.count("passed: --baseline") == 4

    document = json.loads(report.read_text())
    change(document)
    report.write_text(json.dumps(document))
    worse = command(model, "--dry-run", "--baseline", report)
    assert worse.returncode == 4
    assert worse.stdout.count("passed: --baseline") == 3
    assert text in worse.stderr


def test_a_baseline_that_was_not_measured_asks_for_no_measurement(model: Path) -> None:
    report = model.with_name("report.json")
    assert command(model, "--dry-run", "--report", report).returncode == 0
    done = command(model, "--dry-run", "--baseline", report)
    assert done.returncode == 0 and "latency" not in done.stdout


@pytest.mark.parametrize("content", [None, "{}", "[]", "no JSON", '{"error": {"code": "gate-missed"}, "after": {}}'])
def test_a_baseline_that_is_no_report_is_wrong_usage(model: Path, content: str | None) -> None:
    report = model.with_name("report.json")
    if content is not None:
        report.write_text(content)
    done = command(model, "--dry-run", "--baseline", report)
    assert done.returncode == 2
    assert "report.json: " in done.stderr and "baseline-unusable" in done.stderr


def test_a_baseline_that_was_measured_at_other_sizes_is_wrong_usage(model: Path) -> None:
    report = model.with_name("report.json")
    assert command(model, "--dry-run", "--measure", "--at", "N=3", "--report", report).returncode == 0
    done = command(model, "--dry-run", "--baseline", report, "--at", "N=5")
    assert done.returncode == 2
    assert "was measured at N = 3, this job was not (pass the same --at" in done.stderr


# --- what cannot be asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--max-size", "20Q"], "'20Q' is not a size like 20MB or 20MiB, nor a ratio like x0.9"),
        (["--max-size", "x1MB"], "'x1MB' is not a size"),
        (["--require-fused", "attention"], "'attention' is not NAME=8"),
        (["--require-fused", "atention=3"], "did you mean 'attention'?"),
        (["--max-error", "1e-3", "--no-verify"], "--max-error requires verification (drop --no-verify)"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_a_gate_that_makes_no_sense_is_wrong_usage(model: Path, words: list[str], text: str) -> None:
    done = command(model, "--dry-run", *words)
    assert done.returncode == 2
    assert text in done.stderr


@pytest.mark.parametrize(
    ("size", "nbytes"), [("20", 20), ("20B", 20), ("1.5kB", 1500), ("20MB", 20_000_000), ("2MiB", 2 << 20)]
)
def test_sizes_are_decimal_or_binary(size: str, nbytes: int) -> None:
    from optimize_graph.option_kinds import parse_size

    assert parse_size(size) == (nbytes, False)


def test_a_size_may_be_a_number_and_nothing_else_from_python() -> None:
    assert Options(max_size=1000).max_size == "1000"  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="expected a size like '20MB'"):
        Options(max_size="large")
