"""CONTRIBUTING.md works verbatim: its rules, its golden file, its commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.passes import REGISTRY, Pipeline, VerifyEach

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILE = re.compile(
    r"<!-- file: (?P<path>\S+) -->\n(?P<fence>`{3,})\w+\n(?P<text>.*?)^(?P=fence)$", re.DOTALL | re.MULTILINE
)
COMMANDS = re.compile(r"<!-- commands -->\n```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SOURCES = ("cli", "docs", "ir", "jobs", "passes", "render", "runtime", "testing", "tests")


def files() -> Mapping[str, str]:
    return {each["path"]: each["text"] for each in FILE.finditer(PAGE)}


@pytest.mark.slow
def test_the_rule_of_the_page_passes_its_golden_test(tmp_path: Path) -> None:
    copy = tmp_path / "a_checkout"
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    for path in (*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md"):
        shutil.copy(path, copy)
    (tmp_path / "optimize_graph").symlink_to(copy)
    for path, text in files().items():
        if "/" in path:
            (copy / path).write_text(text, encoding="utf-8")
    found = COMMANDS.search(PAGE)
    assert found is not None
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    for line in found[1].splitlines():
        words = [sys.executable, *(["-m"] if line.startswith("pytest") else []), *line.split()]
        words = [word for word in words if word != "python"]
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}"
    golden = (copy / "tests/passes/simplify/algebra/eliminate-neg-before-abs.md").read_text(encoding="utf-8")
    assert "y = Abs (x)" in golden
    assert "### eliminate-neg-before-abs" in (copy / "docs" / "rules.md").read_text(encoding="utf-8")


MODELS = {
    "acme-negate-conv": (
        "g (float[1,2,4,4] x, float[3,2,1,1] w, float[3] b) => (float[1,3,4,4] y) { c = Conv(x, w, b)  y = Neg(c) }",
        "Neg Neg Conv",
    ),
    "acme-split-to-gather": (
        "g (float[N,2] x) => (float[N] y) <int64[2] s = {1, 1}, int64[1] a = {1}> "
        "{ p, q = Split<axis = 1>(x, s)  y = Squeeze(q, a) }",
        "Gather",
    ),
    "acme-merge-products": (
        "g (float[2,3] x, float[3,4] w, float[3,5] v) => (float[2,4] y, float[2,5] z) "
        "{ y = MatMul(x, w)  z = MatMul(x, v) }",
        "Concat MatMul Shape Shape Concat Split",
    ),
}


@pytest.mark.parametrize("rule", MODELS)
def test_the_rules_of_the_plugin_of_the_page_fire(rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_page_rules.py").write_text(files()["acme_rules.py"], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_page_rules", raising=False)
    text, operators = MODELS[rule]
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}'))
    with REGISTRY.scope(), REGISTRY.using(["acme_page_rules"]):
        report = Pipeline.parse(f"rewrite{{rules={rule}}},dce").run(model, [VerifyEach()])
    assert " ".join(node.op_type for node in model.graph) == operators, report.missed


def test_the_passes_of_other_people_on_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_page_foreign.py").write_text(files()["acme_foreign.py"], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "acme_page_foreign", raising=False)
    text = "g (float[2] x) => (float[2] y) { a = Relu(x)  b = Relu(x)  y = Add(a, b) }"
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> {text}'))
    with REGISTRY.scope(), REGISTRY.using(["acme_page_foreign"]):
        steps = "their-folding,their-cse,their-shapes{strict_mode=true}"
        report = Pipeline.parse(steps).run(model, [VerifyEach()])
    assert [each.rule for each in report.rewrites] == ["their-cse", "their-shapes"]
    assert [node.op_type for node in model.graph] == ["Relu", "Add"]
