"""The verbs beside the main job, as their users meet them: measure, inspect, compare; and the same as functions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from optimize_graph import ModelError, cli, compare, inspect, measure

EXAMPLES = Path(__file__).parents[2] / "examples"
HEADER = '<ir_version: 10, opset_import: ["": 21], producer_name: "tests">\n'
CHAIN = "g (float[N, 4] x) => (float[N, 4] y) { a = Identity(x) b = Relu(a) c = Relu(b) y = Neg(c) }"
SHORT = "g (float[N, 4] x) => (float[N, 4] y) { b = Relu(x) y = Neg(b) }"
WRONG = "g (float[N, 4] x) => (float[N, 4] y) { b = Relu(x) y = Abs(b) }"
OTHER_DIMS = "g (float[M, 4] x) => (float[M, 4] y) { b = Relu(x) y = Neg(b) }"
OTHER_NAMES = "g (float[N, 4] z) => (float[N, 4] y, float[N, 4] b) { b = Relu(z) y = Neg(b) }"


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Path]:
    texts = {"chain": CHAIN, "short": SHORT, "wrong": WRONG, "dims": OTHER_DIMS, "names": OTHER_NAMES}
    for name, text in texts.items():
        onnx.save(onnx.parser.parse_model(HEADER + text), tmp_path / f"{name}.onnx")
    return {name: tmp_path / f"{name}.onnx" for name in texts}


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = cli.main(list(map(str, words)))
    return code, capsys.readouterr().out


# --- measure ----------------------------------------------------------------------------------------------------------


def test_models_are_measured_at_every_point(saved: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ("measure", saved["chain"], saved["short"], "--seconds", 0, "--at", "N=2", "--at", "N=64", "--json")
    code, text = said(capsys, *words)
    found = json.loads(text)
    assert code == 0
    assert found["models"] == [str(saved["chain"]), str(saved["short"])]
    assert [point["sizes"] for point in found["points"]] == [{"N": 2}, {"N": 64}]
    first, second = found["points"][1]["models"]
    assert (first["figures"]["flops"], second["figures"]["flops"]) == (3 * 256, 2 * 256)
    assert second["figures"]["planned_peak_bytes"] == 2 * 4 * 256
    assert first["speed"]["low"] == first["speed"]["high"] == 1
    assert second["speed"]["low"] <= second["speed"]["median"] <= second["speed"]["high"]
    assert second["memory"]["run"] > 1 << 20 and second["memory"]["device"] is None
    assert found["file_bytes"] == [saved[name].stat().st_size for name in ("chain", "short")]


def test_without_a_point_the_sizes_that_were_taken_are_said(
    saved: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "measure", saved["chain"], saved["short"], saved["dims"], "--seconds", 0)
    assert code == 0
    assert "inputs: made with seed 0 (N = 1)" in text
    for heading in ("latency", "load", "peak memory", "planned peak", "FLOPs", "bytes moved", "file", "weights"):
        assert any(line.startswith(heading) for line in text.splitlines()), heading
    assert text.count("faster [") == 4  # latency and load of the second and of the third


def test_own_inputs_are_a_point_each(saved: dict[str, Path], tmp_path: Path) -> None:
    for rows in (3, 5):
        np.savez(tmp_path / f"{rows}.npz", x=np.ones((rows, 4), np.float32))
    found = measure([saved["chain"]], inputs=[tmp_path / "3.npz", tmp_path / "5.npz"], at=[{"N": 7}], seconds=0)
    assert [point.sizes for point in found.points] == [{"N": 3}, {"N": 5}, {"N": 7}]
    assert found.points[0].description == "read from 3.npz"


def test_a_dim_that_no_input_has_is_an_error(saved: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="no input of the model has a dim 'batch'"):
        measure([saved["chain"]], at=[{"batch": 2}], seconds=0)


def test_the_main_job_measures_at_points_too(saved: dict[str, Path], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = [saved["chain"], "--dry-run", "--measure", "--measure-seconds", 0, "--at", "N=2", "--at", "N=64"]
    assert cli.main([*map(str, words), "--report", str(report), "-q"]) == 0
    found = json.loads(report.read_text())["measurement"]
    assert [point["sizes"] for point in found["points"]] == [{"N": 2}, {"N": 64}]
    assert (found["figures_before"]["flops"], found["figures_after"]["flops"]) == (24, 16)
    assert found["before"] == found["points"][0]["models"][0]["latency"]


# --- inspect ----------------------------------------------------------------------------------------------------------


def test_what_is_in_a_model_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "inspect", EXAMPLES / "digits.onnx", "--time")
    assert code == 0
    for part in ("pytorch", "ai.onnx 20", "FLOAT[batch, 1, 8, 8]", "*batch", "planned peak", "as it runs"):
        assert part in text, part


def test_an_inspection_counts_bodies_functions_and_parameters(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 21, "own": 1], producer_name: "tests">
    g (bool c, float[N, 4] x) => (float[N, 4] y) <float[4] w = {1, 2, 3, 4}, int64[2] s = {1, 4}> {
        a = Add(x, w) b = own.twice(a)
        y = If(c) <then_branch = t () => (float[N, 4] u) { u = Exp(b) },
                   else_branch = e () => (float[N, 4] v) { v = Neg(b) }> }
    <domain: "own", opset_import: ["": 21]> twice (p) => (q) { q = Add(p, p) }"""
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    found = inspect(path, at={"N": 3})
    assert (found.producer, found.ir_version, found.opsets) == ("tests", 10, {"ai.onnx": 21, "own": 1})
    assert [(each.name, each.type) for each in found.inputs] == [("c", "BOOL[]"), ("x", "FLOAT[N, 4]")]
    assert found.operators == {"Add": 2, "Exp": 1, "If": 1, "Neg": 1, "own.twice": 1}
    assert {name: each.bytes for name, each in found.parameters.items()} == {"FLOAT": 16, "INT64": 16}
    assert (found.functions, found.subgraphs) == ({"own.twice": 1}, 2)
    assert found.figures.flops == 12
    assert found.figures.unknown == {"own.twice": 1, "If": 1}
    assert json.loads(json.dumps(found.to_json()))["figures"]["bindings"] == {"N": 3}


def test_an_inspection_is_json_with_its_profile(saved: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "inspect", saved["short"], "--time", "--json", "--at", "N=8")
    found = json.loads(text)
    assert code == 0
    assert found["operators"] == {"Neg": 1, "Relu": 1}
    assert {each["operator"] for each in found["profile"]["operators"]} == {"Relu", "Neg"}
    assert found["figures"]["flops_formula"] == "8*N"
    assert found["figures"]["flops"] == 64


def test_one_point_is_enough_for_an_inspection(saved: dict[str, Path]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["inspect", str(saved["short"]), "--at", "N=1", "--at", "N=2"])


# --- compare ----------------------------------------------------------------------------------------------------------


def test_models_that_agree_are_said_to(saved: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "compare", saved["chain"], saved["short"])
    assert code == 0
    assert "output y: equal bit for bit" in text
    assert "the models agree" in text
    assert any(line.split() == ["Relu", "2", "1"] for line in text.splitlines())


def test_other_numbers_are_exit_code_3(saved: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys, "compare", saved["chain"], saved["wrong"], "--json")
    found = json.loads(text)
    assert code == 3
    assert (found["agrees"], found["verification"]["ok"], found["interface"]) == (False, False, [])
    assert found["outputs"][0]["equal"] is False and found["outputs"][0]["worst"]["error"] > 0
    assert found["operators"] == {"Identity": [1, 0], "Relu": [2, 1], "Neg": [1, 0], "Abs": [0, 1]}


def test_a_tolerance_may_be_given(saved: dict[str, Path]) -> None:
    assert not compare(saved["chain"], saved["wrong"]).agrees
    assert compare(saved["chain"], saved["wrong"], atol=100.0).agrees


def test_other_dims_are_another_interface_though_the_numbers_agree(saved: dict[str, Path]) -> None:
    found = compare(saved["short"], saved["dims"])
    assert found.verification.ok and not found.agrees
    assert found.interface == (
        "input 0: 'x' FLOAT[N, 4] in the first, 'x' FLOAT[M, 4] in the second",
        "output 0: 'y' FLOAT[N, 4] in the first, 'y' FLOAT[M, 4] in the second",
    )


def test_other_names_and_more_outputs_are_another_interface(
    saved: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(capsys, "compare", saved["short"], saved["names"])
    assert code == 3
    assert "input 0: 'x' FLOAT[N, 4] in the first, 'z' FLOAT[N, 4] in the second" in text
    assert "output 1: only the second has 'b' FLOAT[N, 4]" in text


def test_weights_and_opsets_that_differ_are_shown(tmp_path: Path) -> None:
    paths = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for path, opset, elements in zip(paths, (20, 21), (4, 1), strict=True):
        text = f'<ir_version: 9, opset_import: ["": {opset}]> g (float[2, 4] x) => (float[2, 4] y) {{ y = Add(x, w) }}'
        model = onnx.parser.parse_model(text)
        model.graph.initializer.append(numpy_helper.from_array(np.ones(elements, np.float32), "w"))
        onnx.save(model, path)
    found = compare(*paths)
    assert found.agrees
    assert (found.opsets, found.weight_bytes, found.weight_tensors) == ({"ai.onnx": (20, 21)}, (16, 4), (1, 1))
    assert found.operators == {}
