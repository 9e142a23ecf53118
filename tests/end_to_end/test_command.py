"""The command as its users meet it: exit codes, what is written, what is said."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.command import command

EXAMPLES = Path(__file__).parents[2] / "examples"
HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'
CHAIN = HEADER + "g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  b = Relu(a)  c = Identity(b)  y = Neg(c) }"

WRONG_RULES = '''
from optimize_graph.passes import op, rule, values

(x,) = values("x")


@rule(op.Relu(x), source="nowhere", keeps_type=True)
def relu_does_nothing(m, op):
    """Wrong on purpose.

    before:  x -> Relu -> y
    after:   x
    """
    return m.x.value


@rule(op.Neg(x), source="nowhere")
def negation_raises(m, op):
    """Raises on purpose.

    before:  x -> Neg -> y
    after:   nothing
    """
    raise RuntimeError("on purpose")
'''


def process(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    line = [sys.executable, "-m", "optimize_graph", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env={**os.environ, **environment})


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    path = tmp_path / "chain.onnx"
    onnx.save(onnx.parser.parse_model(CHAIN), path)
    return path


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module `wrong_rules` can be imported."""
    (tmp_path / "wrong_rules.py").write_text(WRONG_RULES)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("wrong_rules", None)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


def test_a_trained_model_is_optimized_verified_and_written(tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    done = process(EXAMPLES / "digits.onnx", out, "--inputs", EXAMPLES / "digits.inputs.npz")
    assert done.returncode == 0, done.stderr
    assert "verified: agrees on 3 input sets" in done.stdout
    assert len(onnx.load(out).graph.node) < 60
    assert done.stderr == ""


def test_optimizing_the_result_again_changes_no_byte(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    command(EXAMPLES / "digits.onnx", first, "--no-verify")
    done = command(first, second, "--no-verify", "-v")
    assert first.read_bytes() == second.read_bytes()
    assert len(done.stdout.strip().splitlines()) == 4  # the table and 'not verified': no rule fired


def test_the_result_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.onnx"
        process(EXAMPLES / "digits.onnx", out, "--no-verify", PYTHONHASHSEED=seed)
    assert (tmp_path / "1.onnx").read_bytes() == (tmp_path / "2.onnx").read_bytes()


def test_the_result_is_for_the_instruction_set_of_the_option(tmp_path: Path) -> None:
    graph = (
        "g (float[1,3,6,6] x) => (float[a,b,c,d] y) <float[20,3,3,3] w, float[48,20,1,1] v> "
        "{ c = Conv(x, w)  p = MaxPool<kernel_shape = [2, 2]>(c)  y = Conv(p, v) }"
    )
    model = onnx.parser.parse_model(HEADER + graph)
    for value in model.graph.value_info:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        weight = np.random.default_rng(0).normal(size=dims).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weight, value.name))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "in.onnx")
    filled = {}
    for vectors in ("avx2", "avx512"):
        target = tmp_path / f"{vectors}.onnx"
        done = command(tmp_path / "in.onnx", target, "--cpu-isa", vectors)
        assert done.returncode == 0, done.stderr
        filled[vectors] = {tensor.dims[0] for tensor in onnx.load(target).graph.initializer if tensor.dims[1] == 3}
    assert filled == {"avx2": {24}, "avx512": {32}}


def test_the_result_may_take_the_place_of_the_model(chain: Path) -> None:
    assert command(chain, chain).returncode == 0
    assert operators(chain) == ["Relu", "Neg"]


def test_a_dry_run_writes_nothing(chain: Path) -> None:
    before = chain.read_bytes()
    done = command(chain, "--dry-run")
    assert done.returncode == 0
    assert "verified" in done.stdout
    assert [path.name for path in chain.parent.iterdir()] == ["chain.onnx"]
    assert chain.read_bytes() == before


def test_a_faulty_rewrite_is_isolated_and_excluded_and_the_rest_is_delivered(chain: Path, plugin: None) -> None:
    out = chain.with_name("out.onnx")
    done = command(chain, out, "--plugin", "wrong_rules", "--disable", "negation-raises")
    assert done.returncode == 0
    assert "relu-does-nothing at" in done.stderr and "makes the result wrong" in done.stderr
    assert operators(out) == ["Relu", "Neg"]
    assert {each.name for each in chain.parent.glob("out.onnx*")} == {"out.onnx", "out.onnx.reproducers"}


@pytest.mark.parametrize(("kept", "said"), [("negation-raises", "on purpose"), ("relu-does-nothing", "instead of")])
def test_the_printed_command_reproduces_an_excluded_rewrite(chain: Path, plugin: None, kept: str, said: str) -> None:
    out = chain.with_name("out.onnx")
    (other,) = {"negation-raises", "relu-does-nothing"} - {kept}
    done = command(chain, out, "--plugin", "wrong_rules", "--disable", other)
    assert done.returncode == 0
    replay = shlex.split(done.stderr.partition("to reproduce: optimize-graph ")[2].partition(") [")[0])
    assert operators(Path(replay[0])) == [{"negation-raises": "Neg", "relu-does-nothing": "Relu"}[kept]]
    again = command(*replay)
    assert again.returncode == 3
    assert kept in again.stderr and said in again.stderr


@pytest.mark.parametrize("kept", ["negation-raises", "relu-does-nothing"])
def test_a_rewrite_that_goes_wrong_is_an_error_when_strict(chain: Path, plugin: None, kept: str) -> None:
    out = chain.with_name("out.onnx")
    (other,) = {"negation-raises", "relu-does-nothing"} - {kept}
    done = command(chain, out, "--strict", "--plugin", "wrong_rules", "--disable", other)
    assert done.returncode == 3
    assert kept in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


def test_what_onnx_runtime_refuses_is_not_written_unless_verification_is_waived(tmp_path: Path) -> None:
    path, out = tmp_path / "custom.onnx", tmp_path / "out.onnx"
    node = helper.make_node("Mystery", ["a"], ["y"], domain="com.acme")
    inner = helper.make_node("Identity", ["x"], ["a"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([inner, node], "g", values[:1], values[1:])
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("com.acme", 1)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=10), path)
    refused = command(path, out)
    assert refused.returncode == 3
    assert "--custom-ops" in refused.stderr
    assert "--no-verify" in refused.stderr
    assert not out.exists()
    assert command(path, out, "--no-verify").returncode == 0
    assert operators(out) == ["Mystery"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"hello, this is no model at all, only text\n" * 9, "not-onnx"),
        (b"PK\x03\x04" + bytes(300), "not-onnx"),
    ],
)
def test_a_file_that_is_no_model_is_one_line_of_error(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "in.onnx"
    path.write_bytes(content)
    done = command(path, tmp_path / "out.onnx")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out.onnx").exists()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    done = command(tmp_path / "none.onnx", tmp_path / "out.onnx")
    assert done.returncode == 1
    assert "none.onnx" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("in.onnx",),
        ("a", "b", "c"),
        ("a", "b", "--input-shape", "x"),
        ("a", "b", "--target", "tpu"),
        ("a", "b", "--threads", "-1"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    assert command(*arguments).returncode == 2


def test_a_fault_in_the_pipeline_is_pointed_at(chain: Path) -> None:
    done = command(chain, "--dry-run", "--passes", "fixpoint(cse,nonsense),dce")
    assert done.returncode == 1
    assert "             ^" in done.stderr
    assert "nonsense" in done.stderr


def test_an_input_shape_narrows_the_interface_as_asked(chain: Path) -> None:
    out = chain.with_name("out.onnx")
    assert command(chain, out, "--input-shape", "x:3,4").returncode == 0
    dims = [dim.dim_value for dim in onnx.load(out).graph.output[0].type.tensor_type.shape.dim]
    assert dims == [3, 4]
    wrong = command(chain, out, "--input-shape", "x:3,5")
    assert wrong.returncode == 1
    assert "dim 1 of 'x' is 4" in wrong.stderr


def test_cuda_that_cannot_be_had_is_an_error_and_no_silent_fallback(chain: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine has CUDA")
    done = command(chain, chain.with_name("out.onnx"), "--provider", "cuda")
    assert done.returncode == 1
    assert "provider-unavailable" in done.stderr
    assert not chain.with_name("out.onnx").exists()


def test_the_report_has_stable_keys(chain: Path) -> None:
    report = chain.with_name("report.json")
    done = command(chain, "--dry-run", "--report", report, "--measure", "--measure-seconds", "0.2")
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    assert found["schema"] == 1
    assert (found["before"]["nodes"], found["after"]["nodes"]) == (4, 2)
    assert found["rewrites_by_rule"] == {"eliminate-nop-identity": 2}
    assert found["verification"]["ok"] is True
    assert found["measurement"]["speed"]["pairs"] > 0
    assert found["measurement"]["memory_after"]["run"] > 1 << 20


def test_results_alone_go_to_standard_output(chain: Path) -> None:
    done = process(chain, chain.with_name("out.onnx"), "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_passes_rules_and_presets_are_listed() -> None:
    done = command("passes")
    assert done.returncode == 0
    for name in ("default", "canonicalize", "fold-batchnorm-into-conv", "eliminate-nop-identity"):
        assert name in done.stdout


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(4096))
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "in.onnx"
    model = onnx.parser.parse_model(HEADER + "g (float[1024] x) => (float[1024] y) { y = Add(x, w) }")
    tensor = numpy_helper.from_array(np.zeros(1024, np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    model.graph.initializer.append(tensor)
    onnx.save(model, path)
    done = command(path, tmp_path / "out.onnx")
    assert done.returncode == 1
    assert "outside" in done.stderr
    assert not (tmp_path / "out.onnx").exists()
