"""Targets from outside: a vendor's operator is emitted where the file lists it, and verified by its meaning."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize
from optimize_graph.ir.standard.custom_operators import forget_operator
from optimize_graph.jobs.optimization.result import Result
from optimize_graph.passes import REGISTRY, Builder, Exactness, Match, op, rule, values
from optimize_graph.passes.pipeline.phase import Phase

pytestmark = pytest.mark.slow

x, y = values("x y")
MODEL = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,8] x, float[N,8] b) => (float[N,8] z) { m = Mul(x, x)  s = Add(m, b)  z = Tanh(s) }"""
BODY = """<opset_import: ["": 21], domain: "com.vendor"> FusedThing (x, y) => (z) { m = Mul(x, x)  z = Add(m, y) }"""
TARGET = """
name = "vendor-npu"
extends = "ort-cpu"
unlisted-domains = "refused"
{more}
[[kernels]]
operators = ["com.vendor::{operator}"]
types = ["{dtype}"]
[verify]
bodies = ['''{body}''']
"""


@pytest.fixture
def fused_thing() -> Iterator[None]:
    with REGISTRY.scope():

        @rule(
            op.Add(op.Mul(x, x), y),
            source="the vendor's manual",
            exactness=Exactness.ROUNDING,
            name="vendor-fused-thing",
            phase=Phase.SIMPLIFY,
        )
        def vendor_fused_thing(m: Match, op: Builder) -> ir.Value:
            """The vendor's accelerator squares and adds at once.

            before:  z = Add(Mul(x, x), y)
            after:   z = com.vendor.FusedThing(x, y)
            """
            return op.FusedThing(m.x, m.y, domain="com.vendor", version=1)

        yield
    forget_operator("com.vendor", "FusedThing")


def optimized(
    folder: Path, operator: str = "FusedThing", dtype: str = "float", body: str = BODY, more: str = ""
) -> Result:
    path = folder / "npu.toml"
    path.write_text(TARGET.format(operator=operator, dtype=dtype, body=body, more=more))
    return optimize(onnx.parser.parse_model(MODEL), options=Options(target=path))


def emitted(result: Result) -> bool:
    return "FusedThing" in [node.op_type for node in result.model.graph]


def refusal(result: Result) -> set[str]:
    return {f"{each.condition}: {each.because}" for each in result.missed if each.rule == "vendor-fused-thing"}


def test_an_operator_that_the_file_lists_is_emitted_and_verified_by_its_body(fused_thing: None, tmp_path: Path) -> None:
    result = optimized(tmp_path)
    assert emitted(result) and not result.isolated
    assert result.verification is not None and result.verification.ok


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"operator": "OtherThing"}, "a kernel on the target: none for com.vendor::FusedThing on FLOAT"),
        ({"dtype": "float16"}, "a kernel on the target: none for com.vendor::FusedThing on FLOAT"),
        (
            {"more": 'forbidden = ["com.vendor::FusedThing"]'},
            "a kernel on the target: com.vendor::FusedThing must not be emitted for vendor-npu",
        ),
    ],
)
def test_an_operator_that_the_file_does_not_list_is_refused_with_the_reason(
    given: dict[str, str], reason: str, fused_thing: None, tmp_path: Path
) -> None:
    result = optimized(tmp_path, **given)
    assert not emitted(result) and refusal(result) == {reason}


def test_a_rule_that_the_body_contradicts_is_isolated(fused_thing: None, tmp_path: Path) -> None:
    result = optimized(tmp_path, body=BODY.replace("Mul(x, x)", "Abs(x)"))
    assert not emitted(result) and {each.rule for each in result.isolated} == {"vendor-fused-thing"}


def test_a_rule_that_never_pays_on_the_target_is_left_out(fused_thing: None, tmp_path: Path) -> None:
    path = tmp_path / "npu.toml"
    path.write_text('name = "npu"\nextends = "ort-cpu"\n[profit]\nnever = ["vendor-fused-thing"]\n')
    assert not emitted(optimize(onnx.parser.parse_model(MODEL), options=Options(target=path, verify=False)))
    path.write_text('name = "npu"\nextends = "ort-cpu"\n[profit]\nnever = ["vendor-fused-thin"]\n')
    with pytest.raises(ir.PipelineError, match="target npu: no rule or pass is called 'vendor-fused-thin'; did you"):
        optimize(onnx.parser.parse_model(MODEL), options=Options(target=path, verify=False))


def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "optimize_graph", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=cwd)


def test_the_command_takes_a_file_and_a_configuration_names_it_beside_itself(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "in.onnx")
    (tmp_path / "npu.toml").write_text('name = "npu"\nextends = "ort-cpu"\nforbidden = ["Sum"]\n')
    (tmp_path / "pyproject.toml").write_text('[tool.optimize-graph]\ntarget = "npu.toml"\n')
    done = command(tmp_path / "in.onnx", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["build"]["options"]["target"] == str(tmp_path / "npu.toml")
    done = command(tmp_path / "in.onnx", "--dry-run", "--target", tmp_path / "none.toml")
    assert (done.returncode, "cannot be read" in done.stderr) == (2, True)


def test_targets_are_listed_with_where_they_come_from_and_how_they_are_verified() -> None:
    found = json.loads(command("targets", "--json").stdout)
    assert {"onnx", "ort-cpu", "ort-cuda"} <= found.keys()
    assert found["ort-cpu"]["operators"] > 200 and found["onnx"]["operators"] == "any"
    assert {each["from"] for each in found.values()} == {"built in"}
    assert "ort-cuda" in command("targets").stdout


def test_a_file_is_checked_and_everything_wrong_in_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "npu.toml"
    path.write_text('name = "npu"\nforbidden = ["Ad", "Sigmod"]\n')
    done = command("targets", path)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 2
    assert f"{path}:2: ONNX has no operator 'Sigmod'; did you mean 'Sigmoid'?" in done.stdout
    path.write_text('name = "npu"\nforbidden = ["Sigmoid"]\n')
    assert command("targets", path).returncode == 0
