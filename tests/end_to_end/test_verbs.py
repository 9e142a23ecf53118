"""The verbs beside the main job: explain, bisect, reduce, passes, completion."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import pytest
from optimize_graph import Options
from optimize_graph.cli import main, names, parser_of
from optimize_graph.jobs.model_source import Source
from optimize_graph.jobs.optimization.pipeline_runner import PipelineRunner
from optimize_graph.jobs.optimization.reproducer import goes_wrong
from optimize_graph.passes import REGISTRY, Exactness, op, rule, values
from optimize_graph.runtime import Piece

pytestmark = pytest.mark.slow

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
CHAIN = """g (float[2, 4] x, float[4] u) => (float[2, 4] y) <float[4] w = {1, 2, 3, 4}> {
    a = Identity(x)  b = Exp(a)  c = Add(b, w)  d = Tanh(c)  e = Mul(d, u)  f = Sigmoid(e)  y = Mul(f, u) }"""
(x,) = values("x")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(HEADER + CHAIN), path)
    return path


@pytest.fixture
def wrong() -> Iterator[None]:
    """A rule that forgets the hyperbola of a tangent."""
    with REGISTRY.scope():

        @rule(op.Tanh(x), source="wrong on purpose", exactness=Exactness.ROUNDING)
        def tangent(m, op):  # type: ignore[no-untyped-def]
            """Another function.

            before: Tanh(x)
            after:  Tan(x)
            """
            return op.Tan(m.x)

        yield


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main([str(word) for word in words]) == code
    return capsys.readouterr().out


def test_every_verb_says_what_it_does() -> None:
    assert {"bisect", "compare", "explain", "inspect", "measure", "optimize", "passes", "reduce"} <= set(names())
    for name in names():
        assert parser_of(name).format_help().startswith("usage: optimize-graph")
        assert (parser_of(name).description or "").splitlines()[0].endswith(".")
    for name in set(names()) - {"optimize"}:
        assert name in (parser_of("optimize").epilog or "")


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_tells_where_a_rule_fired(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "explain", "eliminate-nop-identity", model)
    assert "done at 1 places" in out
    found = json.loads(said(capsys, "explain", "eliminate-nop-identity", model, "--json"))
    assert [each["before"] for each in found["rewrites"]] == ["Identity"]
    assert (found["ran"], found["missed"], found["mismatches"]) == (True, [], [])


def test_explain_tells_how_far_a_pattern_fits(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "explain", "recognize-gelu", model, "--json"))
    assert found["rewrites"] == []
    nearest = found["mismatches"][0]
    assert nearest["where"] in ("y", "e")
    assert nearest["because"] == "d: expected Mul, got Tanh of opset 21"


def test_explain_tells_which_condition_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "softmax.onnx"
    text = "g (float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) { y = Softmax<axis = 1>(x) }"
    onnx.save(onnx.parser.parse_model(HEADER + text), path)
    (miss,) = json.loads(said(capsys, "explain", "decompose-softmax-outer-axis", path, "--json"))["missed"]
    assert miss["where"] == "y"
    assert miss["is_profit"]
    assert "many elements after the axis" in said(capsys, "explain", "decompose-softmax-outer-axis", path)


def test_explain_is_told_how_many_threads_there_will_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "conv.onnx"
    text = "g (float[1, 64, 28, 28] x) => (float[1, 64, 26, 26] y) <float[64, 64, 3, 3] w> { y = Conv(x, w) }"
    proto = onnx.parser.parse_model(HEADER + text)
    del proto.graph.value_info[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64, 3, 3), np.float32), "w"))
    onnx.save(proto, path)
    for words, places in (((), 0), (("--threads", "1"), 1), (("--threads", "4"), 0)):
        found = json.loads(said(capsys, "explain", "decompose-conv-winograd", path, "--json", *words))
        assert len(found["rewrites"]) == places


def test_explain_knows_passes_too_and_says_when_nothing_ran_them(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no pass of this pipeline runs it" in said(capsys, "explain", "compress-constants", model)
    assert main(["explain", "no-such-rule", str(model)]) == 1


# --- bisect -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("wrong")
def test_bisect_finds_the_first_rewrite_that_changes_results(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(said(capsys, "bisect", model, "--json", "--keep", tmp_path / "kept"))
    assert found["rewrite"]["rule"] == "tangent"
    assert "instead of" in found["why"]
    before, after = (onnx.load(tmp_path / "kept" / f"{name}.onnx") for name in ("before", "after"))
    assert [node.op_type for node in before.graph.node].count("Tanh") == 1
    assert [node.op_type for node in after.graph.node].count("Tan") == 1


def test_bisect_of_what_is_right_finds_nothing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing goes wrong in" in said(capsys, "bisect", model)


def test_bisect_asks_a_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import onnx, sys; sys.exit(not any(n.op_type == 'Identity' for n in onnx.load(sys.argv[1]).graph.node))"
    test = f'{sys.executable} -c "{code}" {{}}'
    found = json.loads(said(capsys, "bisect", model, "--json", "--test", test))
    assert found["rewrite"]["rule"] == "eliminate-nop-identity"
    assert found["why"] == "the test exits with 1"
    assert main(["bisect", str(model), "--test", "false"]) == 3  # fails before any rewrite
    assert main(["bisect", str(model), "--test", "/no/such/program"]) == 1


@pytest.mark.parametrize(
    ("test", "code"),
    [("", 1), ("no 'end", 1), (f'{sys.executable} -c "import os; os.write(1, bytes([255]))"', 0)],
)
def test_a_test_that_is_no_command_is_reported_and_the_output_of_one_does_not_matter(
    model: Path, test: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bisect", str(model), "--test", test]) == code
    assert ("test-not-run" in capsys.readouterr().err) is bool(code)


@pytest.mark.usefixtures("wrong")
def test_a_folder_that_cannot_hold_the_models_is_reported(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["bisect", str(model), "--keep", str(tmp_path / "file" / "kept")]) == 1
    assert "models-not-kept" in capsys.readouterr().err


# --- reduce -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("wrong")
def test_reduce_leaves_what_goes_wrong(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.onnx"
    assert "7 -> 1 nodes" in said(capsys, "reduce", model, out)
    assert [node.op_type for node in onnx.load(out).graph.node] == ["Tanh"]
    assert main([str(out), "--dry-run", "--strict", "--inputs", str(out.with_suffix(".npz"))]) == 3


def test_reduce_asks_a_command(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import onnx, sys; sys.exit(not any(n.op_type == 'Sigmoid' for n in onnx.load(sys.argv[1]).graph.node))"
    out = tmp_path / "small.onnx"
    found = json.loads(said(capsys, "reduce", model, out, "--json", "--test", f'{sys.executable} -c "{code}" {{}}'))
    assert (found["nodes_before"], found["nodes_after"]) == (7, 1)
    assert [node.op_type for node in onnx.load(out).graph.node] == ["Sigmoid"]


def test_reduce_of_what_goes_right_is_refused(model: Path, tmp_path: Path) -> None:
    assert main(["reduce", str(model), str(tmp_path / "small.onnx")]) == 3
    assert not (tmp_path / "small.onnx").exists()


@pytest.mark.usefixtures("wrong")
def test_reduce_does_not_replace_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    assert main(["reduce", str(model), str(model)]) == 1
    assert "output-is-input" in capsys.readouterr().err
    assert model.read_bytes() == before


def test_a_part_that_is_computed_in_float16_is_compared_as_such() -> None:
    text = "g (float[4, 8] x) => (float[4, 8] y) { a = MatMul(x, w)  y = Tanh(a) }"
    made = onnx.parser.parse_model(HEADER + text)
    random = np.random.default_rng(0)
    made.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=(8, 8)).astype(np.float32), "w"))
    piece = Piece(made.SerializeToString(), {"x": random.normal(size=(4, 8)).astype(np.float32)}, 2)
    options = Options(passes="convert-to-fp16", target="ort-cuda")
    assert PipelineRunner(Source(piece.model), options).run().rewrites
    assert not goes_wrong(piece, options)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_the_catalogue_is_json_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "passes", "--json"))
    assert set(found) == {"presets", "passes", "rules"}
    assert found["rules"].keys() == REGISTRY.rules.keys()


def test_the_main_job_prints_json_when_asked_for(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, model, "--dry-run", "--json"))
    assert found["verification"]["ok"] and found["rewrites"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_shells_get_a_script_that_knows_verbs_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    script = said(capsys, "completion", shell)
    for word in ("bisect", "explain", "tune-budget"):
        assert word in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash is installed")
def test_bash_completes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "completion.sh"
    script.write_text(said(capsys, "completion", "bash"))
    for words, wanted in (("optimize-graph expl", "explain"), ("optimize-graph measure --thr", "--threads")):
        code = f"""source {script}; COMP_WORDS=({words}); COMP_CWORD=$(({len(words.split())} - 1))
            _shtab_optimize_graph; echo "${{COMPREPLY[@]}}" """
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [wanted]


def test_a_terminal_that_lacks_a_letter_gets_its_number(tmp_path: Path) -> None:
    made = onnx.parser.parse_model(HEADER + "g (float[2] x) => (float[2] y) { inner = Identity(x)  y = Exp(inner) }")
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "innen größer"
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    words = [sys.executable, "-m", "optimize_graph", "explain", "eliminate-nop-identity", str(path)]
    done = subprocess.run(words, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"gr\\xf6\\xdfer" in done.stdout
