"""Partitions: the pieces in which a provider takes a model, and the operators that split it."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.jobs.partitions import Partitions, partitions_of
from optimize_graph.passes import Target

pytestmark = pytest.mark.slow

HEADER = '<ir_version: 10, opset_import: ["": 21]> g (float[2,3] x) => (float[2,3] y) '


def partitions(body: str, target: str | Path = "coreml") -> Partitions:
    found = partitions_of(ir.from_proto(onnx.parser.parse_model(HEADER + body)), Target(target))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("body", "count", "splitting"),
    [
        ("{ a = Relu(x)  b = Tanh(a)  y = Exp(b) }", 1, {}),
        ("{ a = Relu(x)  b = Neg(a)  y = Exp(b) }", 2, {"Neg": 1}),
        ("{ a = Neg(x)  b = Relu(a)  y = Exp(b) }", 1, {}),  # before the piece
        ("{ a = Relu(x)  b = Exp(a)  y = Neg(b) }", 1, {}),  # after it
        ("{ a = Neg(x)  y = Abs(a) }", 0, {}),
        ("{ a = Relu(x)  b = Neg(x)  c = Abs(b)  y = Add(a, c) }", 1, {}),  # Neg needs nothing of the piece
        ("{ a = Relu(x)  b = Neg(a)  c = Exp(a)  y = Add(b, c) }", 2, {"Neg": 1}),  # joined they would be a cycle
        ("{ a = Relu(x)  b = Neg(a)  c = Exp(b)  d = Abs(c)  y = Tanh(d) }", 3, {"Abs": 1, "Neg": 1}),
    ],
)
def test_a_model_falls_into_pieces_at_operators_behind_what_is_taken(
    body: str, count: int, splitting: dict[str, int]
) -> None:
    found = partitions(body)
    assert (found.count, dict(found.splitting)) == (count, splitting)


def test_a_body_reads_what_it_captures_before_its_operator_runs() -> None:
    found = partitions(
        """{ r = Relu(x)  c = Constant<value = bool {1}>()
        n = If(c) <then_branch = t () => (float[2,3] u) { u = Exp(r) },
                   else_branch = e () => (float[2,3] u) { u = Relu(r) }>
        y = Tanh(n) }"""
    )
    assert (found.count, found.taken, dict(found.splitting)) == (2, 2, {"If": 1})


def test_element_types_decide_what_is_taken() -> None:
    text = '<ir_version: 10, opset_import: ["": 21]> g (double[2,3] x) => (double[2,3] y) { y = Relu(x) }'
    found = partitions_of(ir.from_proto(onnx.parser.parse_model(text)), Target("coreml"))
    assert found is not None and (found.count, dict(found.left)) == (0, {"Relu": 1})


def test_a_target_that_runs_whole_models_has_none() -> None:
    model = ir.from_proto(onnx.parser.parse_model(HEADER + "{ y = Neg(x) }"))
    assert partitions_of(model, Target("ort-cpu")) is None and partitions_of(model, Target("onnx")) is None


def test_a_result_says_into_how_many_pieces_it_falls_before_and_after() -> None:
    model = onnx.parser.parse_model(HEADER + "{ a = Relu(x)  b = Neg(a)  c = Neg(b)  y = Exp(c) }")
    result = optimize(model, options=Options(target="coreml"))
    assert result.partitions is not None and [each.count for each in result.partitions] == [2, 1]
    assert "1 partition with 2 of 2 nodes on coreml" in str(result.partitions[1])
    assert result.verification is not None and result.verification.ok


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "optimize_graph", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_names_the_operators_that_split_a_model(tmp_path: Path) -> None:
    path = tmp_path / "in.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + "{ a = Relu(x)  b = Abs(a)  y = Exp(b) }"), path)
    assert (
        "2 partitions with 2 of 3 nodes on coreml; split by Abs (1)"
        in command("inspect", path, "--target", "coreml").stdout
    )
    found = json.loads(command(path, "--dry-run", "--json", "--target", "coreml").stdout)["partitions"]
    assert [each["splitting"] for each in found] == [{"Abs": 1}, {"Abs": 1}]


def test_a_provider_that_is_not_installed_is_an_error_that_names_the_way_out() -> None:
    installed = {each.name for each in importlib.metadata.distributions()}
    if "onnxruntime-openvino" in installed:
        pytest.skip("it is installed")
    model = onnx.parser.parse_model(HEADER + "{ y = Neg(x) }")
    with pytest.raises(ir.EnvironmentSetupError, match=r"'openvino' was asked for .*--provider cpu"):
        optimize(model, options=Options(target="openvino-cpu"))
    assert optimize(model, options=Options(target="openvino-cpu", provider="cpu")).verification is not None
