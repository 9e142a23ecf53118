"""`optimize-graph build`: many models in one call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import onnx
import onnx.parser
import pytest
from support.command import command

HEADER = '<ir_version: 10, opset_import: ["": 21]> '
TEXT = HEADER + "g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  y = OP(a) }"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with three models, one of them malformed, and a configuration for them."""
    for index, op in enumerate(("Relu", "Abs")):
        folder = tmp_path / "models" / str(index)
        folder.mkdir(parents=True)
        onnx.save(onnx.parser.parse_model(TEXT.replace("OP", op)), folder / "model.onnx")
    (tmp_path / "models" / "broken.onnx").write_bytes(b"no model")
    (tmp_path / "pyproject.toml").write_text(
        """
        [tool.optimize-graph]
        sources = ["models/**/*.onnx"]
        output-dir = "out"
        cache-dir = "cache"
        [[tool.optimize-graph.model]]
        match = "models/1/*"
        max-nodes = 0
        """
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return {row["model"]: row for row in json.loads(done.stdout)["models"]}


def test_a_build_goes_on_after_failures_and_its_second_run_takes_results_from_the_cache(project: Path) -> None:
    first = command("build", "--json")
    assert first.returncode == 1, first.stderr
    found = rows(first)
    assert [row["status"] for row in found.values()] == ["done", "gate missed", "failed"]
    assert found["0/model.onnx"]["nodes"] == {"before": 2, "after": 1}
    assert "max-nodes" in found["1/model.onnx"]["error"]
    result = project / "out" / "0" / "model.onnx"
    content = result.read_bytes()
    assert not (project / "out" / "1" / "model.onnx").exists()
    assert json.loads((project / "out/reports/broken.onnx.json").read_text())["error"]["code"]
    result.unlink()

    second = command("build", "--json")
    assert second.returncode == 1
    assert [row["cached"] for row in rows(second).values()] == [True, False, False]
    assert result.read_bytes() == content
    page = (project / "out" / "index.html").read_text()
    assert "trends over 2 builds" in page
    assert 'href="reports/0/model.onnx.html"' in page
    assert len((project / "out/reports/history.jsonl").read_text().splitlines()) == 2


def test_a_result_of_a_build_is_that_of_the_main_command(project: Path) -> None:
    assert command("build", "models/0", "--output-dir", "one", "--no-cache", "-q").returncode == 0
    assert command("models/0/model.onnx", "two.onnx").returncode == 0
    assert (project / "one" / "model.onnx").read_bytes() == (project / "two.onnx").read_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing/*.onnx",), "no model fits"),
        (("models/0", "models/1"), "would have one result"),
        (("models/0", "--output-dir", "models/0"), "no model fits"),
        (("models/0/model.onnx", "--executor", "ray"), "expected 'processes' or 'dask://HOST:PORT'"),
        (("--config", "off"), "missing models"),
    ],
)
def test_what_cannot_be_planned_is_a_usage_error(project: Path, words: tuple[str, ...], said: str) -> None:
    done = command("build", *words)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize(("line", "said"), [("output-dirs = 'a'", "output-dir"), ("jobs = 0", "from 1")])
def test_a_wrong_key_of_a_build_is_named(project: Path, line: str, said: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.optimize-graph]\n{line}\n")
    done = command("build", "models/0", "--output-dir", "out")
    assert done.returncode == 2
    assert said in done.stderr


def test_a_build_that_is_stopped_leaves_no_half_written_files(project: Path) -> None:
    words = [sys.executable, "-m", "optimize_graph", "build", "models/0", "--output-dir", "out", "--no-cache"]
    build = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (project / "out").exists() and build.poll() is None:
        time.sleep(0.02)
    time.sleep(0.5)
    build.send_signal(signal.SIGTERM)
    _, said = build.communicate(timeout=60)
    assert build.returncode == 128 + signal.SIGTERM, said
    assert not [path for path in (project / "out").rglob("*") if path.is_file()]
    with pytest.raises(ProcessLookupError):
        os.killpg(build.pid, 0)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_delivers_the_same_bytes_once_each(project: Path) -> None:
    distributed = pytest.importorskip("distributed")
    for index in range(6):
        text = TEXT.replace("OP", "Relu").replace("g (", f"g{index} (")
        onnx.save(onnx.parser.parse_model(text), project / "models" / "0" / f"m{index}.onnx")
    assert command("build", "models/0", "--output-dir", "pool", "--no-cache", "-q").returncode == 0
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        words = ["build", "models/0", "--output-dir", "dask", "--no-cache", "--json", "--executor", f"dask://{address}"]
        build = subprocess.Popen([sys.executable, "-m", "optimize_graph", *words], stdout=subprocess.PIPE, text=True)
        while not list((project / "dask").rglob("*.onnx")):  # the first result is there: the second job runs
            assert build.poll() is None
            time.sleep(0.05)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
        out, _ = build.communicate(timeout=300)
    assert build.returncode == 0
    names = [row["model"] for row in json.loads(out)["models"]]
    assert sorted(names) == sorted(path.name for path in (project / "pool").glob("*.onnx"))
    for path in (project / "pool").glob("*.onnx"):
        assert (project / "dask" / path.name).read_bytes() == path.read_bytes()
    assert not list((project / "dask").rglob(".*"))
