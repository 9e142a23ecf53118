"""Looking into a run: the model between passes, uses of passes and rules, remarks as lines, tracebacks of plugins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import onnx
import pytest
from optimize_graph import Options, cli, ir, optimize

pytestmark = pytest.mark.slow

MODEL = """<ir_version: 8, opset_import: ["": 17]>
g (float[2,3] x) => (float[2,3] y) {
  a = Relu(x)
  b = Identity(a)
  c = Relu(x)
  y = Add(b, c)
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), path)
    return path


def _run(model: Path, *words: str) -> int:
    return cli.main([str(model), str(model.with_name("out.onnx")), "--no-verify", "--config", "off", *words])


def test_the_model_is_printed_before_and_after_a_pass(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(model, "--passes", "cse,dce,cse", "--print-ir-before", "cse", "--print-ir-after", "dce") == 0
    told = capsys.readouterr().err
    assert re.findall(r"// (.*)", told) == ["before cse", "after dce, which changed nothing", "before cse"]
    assert told.count("Relu") == 2 + 1 + 1


def test_the_model_is_printed_after_passes_that_changed_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(model, "--passes", "dce,canonicalize,cse", "--print-ir-after-change") == 0
    assert re.findall(r"// (.*)", capsys.readouterr().err) == ["after canonicalize", "after cse"]
    assert _run(model, "--passes", "dce,cse", "--print-ir-after", "all") == 0
    assert re.findall(r"// (.*)", capsys.readouterr().err) == ["after dce, which changed nothing", "after cse"]


def test_a_pass_that_is_not_known_is_named_with_the_nearest(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(model, "--print-ir-after", "csee") == 1
    assert "no pass is called 'csee'; did you mean 'cse'?" in capsys.readouterr().err


def test_the_model_is_dumped_after_each_pass_that_changed_it(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    assert _run(model, "--passes", "dce,canonicalize,cse", "--dump-dir", str(folder), "-q") == 0
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        "run1-000-original.onnx",
        "run1-001-canonicalize.onnx",
        "run1-002-cse.onnx",
    ]
    assert [len(onnx.load(file).graph.node) for file in files] == [4, 3, 2]
    assert files[-1].read_bytes() == (tmp_path / "out.onnx").read_bytes()


def test_uses_of_passes_and_rules_are_counted(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(model, "--passes", "canonicalize,dce,dce", "--stats") == 0
    told = capsys.readouterr().err
    assert re.search(r"canonicalize +1 +1 +1\n", told) and re.search(r"dce +1 +0 +0\n", told)
    assert re.search(r"eliminate-nop-identity +1 +1 +0\n", told) and "seconds" not in told
    assert _run(model, "--passes", "canonicalize", "--timing") == 0
    assert re.search(r"canonicalize +1 +1 +1 +\d+\.\d{3}\n", capsys.readouterr().err)


def test_remarks_are_lines_of_json(model: Path, tmp_path: Path) -> None:
    assert _run(model, "--passes", "default", "--remarks", str(tmp_path / "remarks.jsonl"), "-q") == 0
    lines = [json.loads(line) for line in (tmp_path / "remarks.jsonl").read_text().splitlines()]
    assert {"kind": "rewrite", "rule": "eliminate-nop-identity", "where": "b"}.items() <= lines[0].items()
    assert {line["kind"] for line in lines} <= {"rewrite", "missed", "isolated", "remark"}


RAISING = """
from optimize_graph.passes import op, rule, values

x, y = values("x y")

@rule(op.Add(x, y), source="a test")
def raise_at_add(m, op):
    '''Raise.

    before: y = Add(a, b)
    after: y = Add(a, b)
    '''
    return {}["the key that is missing"]
"""


def test_the_traceback_of_a_plugin_is_shown_with_more_words(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "raising_plugin.py").write_text(RAISING)
    monkeypatch.syspath_prepend(tmp_path)
    assert _run(model, "--plugin", "raising_plugin", "-v") == 0
    assert "Traceback" not in capsys.readouterr().out
    assert _run(model, "--plugin", "raising_plugin", "-vv") == 0
    told = capsys.readouterr().out
    assert "Traceback (most recent call last)" in told and 'return {}["the key that is missing"]' in told
    result = optimize(model, options=Options(verify=False, plugins=("raising_plugin",)))
    assert "KeyError" in result.isolated[0].trace


def test_a_result_says_the_most_wanted_figures_first(model: Path) -> None:
    result = optimize(model, options=Options(measure=True, measure_seconds=0.2))
    document = result.to_json()
    summary = document["summary"]
    assert list(document)[:3] == ["schema", "error", "summary"] and isinstance(summary, dict)
    assert summary["verified"] is True and summary["error"] == 0.0 and summary["nodes"] == [4, 2]
    assert result.speedup is not None and summary["speedup"]["median"] == result.speedup.median
    assert json.dumps(document)
    table = result._repr_html_()
    assert "<td>nodes</td><td>4</td><td>2</td>" in table and "faster" in table and "equal bit for bit" in table


def test_a_result_without_verification_or_measurement_says_so() -> None:
    result = optimize(ir.from_proto(onnx.parser.parse_model(MODEL)), options=Options(verify=False))
    assert result.speedup is None and result.error is None
    assert "<td>verified</td><td></td><td>no</td>" in result._repr_html_()
