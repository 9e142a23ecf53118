"""`--opset` and `--min-ort`: what the result declares, and what the command says when it cannot be."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

import onnx
import onnx.helper
import onnx.parser
import onnxruntime
import pytest
from optimize_graph import ir
from optimize_graph.jobs.optimization.target_versions import convert_versions, installed_release
from optimize_graph.passes.targets.ort_releases import RELEASES, loads_in
from support.command import command

MEAN_17 = """<ir_version: 8, opset_import: ["": 17]> g (float[N,3] x) => (float[N] y) {
    m = ReduceMean<axes = [1], keepdims = 0>(x)  y = Relu(m) }"""
MEAN_23 = """<ir_version: 11, opset_import: ["": 23]> g (float[N,3] x) => (float[N] y) <int64[1] axes = {1}> {
    m = ReduceMean<keepdims = 0>(x, axes)  y = Relu(m) }"""
GELU_21 = '<ir_version: 10, opset_import: ["": 21]> g (float[4] x) => (float[4] y) { y = Gelu(x) }'
BINARIZER_5 = """<ir_version: 10, opset_import: ["": 17, "ai.onnx.ml": 5]> g (float[4] x) => (float[4] y) {
    y = ai.onnx.ml.Binarizer<threshold = 0.5>(x) }"""
FLOAT8_19 = """<ir_version: 9, opset_import: ["": 19]> g (float[4] x) => (float[4] y) {
    c = Cast<to = 17>(x)  y = Cast<to = 1>(c) }"""
FLOAT8_18 = FLOAT8_19.replace('"": 19', '"": 18')


RANDOM_17 = """<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) {
    r = RandomNormal<shape = [2]>()  s = Mul(r, r)  y = Add(x, s) }"""


def read(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def converted(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command with these arguments on a model."""
    onnx.save(onnx.parser.parse_model(text), folder / "in.onnx")
    return command(folder / "in.onnx", folder / "out.onnx", *arguments)


def declared(path: Path) -> tuple[int, int]:
    """The opset and the IR version of a file."""
    proto = onnx.load(path)
    return next(each.version for each in proto.opset_import if each.domain == ""), proto.ir_version


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_converts_verifies_and_says_so(tmp_path: Path) -> None:
    done = converted(tmp_path, MEAN_17, "--opset", "21", "-v")
    assert done.returncode == 0, done.stderr
    assert declared(tmp_path / "out.onnx") == (21, 10)
    assert "converted from opset 17 to 21" in done.stderr
    assert "verified" in done.stdout


def test_the_command_fits_a_model_to_an_older_runtime(tmp_path: Path) -> None:
    done = converted(tmp_path, MEAN_23, "--min-ort", "1.16", "-v")
    assert done.returncode == 0, done.stderr
    assert declared(tmp_path / "out.onnx") == (19, 9)
    assert "converted from opset 23 to 19" in done.stderr
    assert "IR version lowered from 11 to 9" in done.stderr


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (MEAN_17, ["--opset", "21", "--min-ort", "1.16.3"], ["opset 21", "ONNX Runtime 1.16.3", "up to 19"]),
        (MEAN_17, ["--min-ort", "1.2"], ["'1.2'", "1.14 to"]),
        (GELU_21, ["--opset", "19"], ["Gelu cannot be converted from opset 20 to 19", "as far as opset 20"]),
        (GELU_21, ["--opset", "0"], ["opsets 1 to", "not 0"]),
    ],
    ids=["opset above the runtime", "unknown runtime", "impossible", "unknown opset"],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    tmp_path: Path, text: str, arguments: list[str], said: list[str]
) -> None:
    done = converted(tmp_path, text, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert all(each in done.stderr for each in said), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_an_opset_that_is_no_number_is_a_usage_error(tmp_path: Path) -> None:
    assert converted(tmp_path, MEAN_17, "--opset", "new").returncode == 2


@pytest.mark.parametrize("arguments", [[], ["--no-verify"]], ids=["verified", "not verified"])
def test_an_opset_at_which_an_operator_has_no_kernel_is_refused_by_name(tmp_path: Path, arguments: list[str]) -> None:
    done = converted(tmp_path, RANDOM_17, "--opset", "22", *arguments)
    assert done.returncode == 1
    assert "RandomNormal cannot be used at opset 22" in done.stderr and "keep opset 17" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]
    done = converted(tmp_path, RANDOM_17, "--opset", "21", *arguments)
    assert (done.returncode, declared(tmp_path / "out.onnx")[0]) == (0, 21), done.stderr


def test_for_another_runtime_an_opset_without_a_kernel_here_is_a_warning(tmp_path: Path) -> None:
    done = converted(tmp_path, RANDOM_17, "--opset", "22", "--target", "onnx", "--no-verify")
    assert done.returncode == 0, done.stderr
    assert declared(tmp_path / "out.onnx")[0] == 22
    assert "RandomNormal cannot be used at opset 22" in done.stderr


# --- the rule ---------------------------------------------------------------------------------------------------------


def test_a_model_stays_at_its_versions_when_nothing_is_asked() -> None:
    model = read(MEAN_23)
    fitted = convert_versions(model)
    assert fitted.model is model
    assert (fitted.is_converted, list(fitted.remarks)) == (False, [])
    assert (ir.standard_opset(model), model.ir_version) == (23, 11)


def test_a_runtime_that_loads_the_model_changes_nothing() -> None:
    model = read(MEAN_23)
    assert convert_versions(model, min_ort="1.23").model is model
    assert (ir.standard_opset(model), model.ir_version) == (23, 11)


def test_conversion_raises_the_ir_version_no_higher_than_the_runtime_reads() -> None:
    # The page says IR version 8 for 1.15, onnx pairs opset 19 with 9.
    fitted = convert_versions(read(MEAN_17), opset=19, min_ort="1.15").model
    assert (ir.standard_opset(fitted), fitted.ir_version) == (19, 8)


def test_the_installed_runtime_bounds_the_opset() -> None:
    highest = loads_in(installed_release()).opset
    with pytest.raises(ir.PipelineError) as caught:
        convert_versions(read(MEAN_17), opset=highest + 1)
    assert caught.value.diagnostic.code == "opset-above-runtime"
    assert installed_release() in str(caught.value)


def test_a_type_that_needs_the_ir_version_is_named() -> None:
    with pytest.raises(ir.ModelError, match=r"FLOAT8E4M3FN.* needs 9") as caught:
        convert_versions(read(FLOAT8_18), min_ort="1.14")
    assert caught.value.diagnostic.code == "newer-than-runtime"


def test_a_type_that_an_older_opset_lacks_is_refused() -> None:
    with pytest.raises(ir.ModelError, match="Cast cannot be converted from opset 19 to 18"):
        convert_versions(read(FLOAT8_19), min_ort="1.14")


def test_an_ml_opset_is_lowered_when_the_operators_are_the_same() -> None:
    fitted = convert_versions(read(BINARIZER_5), min_ort="1.20").model
    assert fitted.opset_imports["ai.onnx.ml"] == 4
    assert ir.verify(fitted) == []


def test_an_ml_operator_that_is_too_new_is_named() -> None:
    proto = onnx.parser.parse_model(BINARIZER_5)
    proto.graph.node[0].op_type = "TreeEnsemble"
    with pytest.raises(ir.ModelError, match="TreeEnsemble needs 5"):
        convert_versions(ir.from_proto(proto), min_ort="1.20")


def test_a_model_that_passes_unchanged_is_refused_where_it_would_have_to_change() -> None:
    proto = onnx.parser.parse_model(MEAN_17)
    proto.training_info.add()
    proto.ir_version = 11
    with pytest.raises(ir.ModelError, match="training_info"):
        convert_versions(ir.from_proto(proto), min_ort="1.17")


# --- the data ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "release"),
    [("1.20", "1.20"), ("1.20.1", "1.20"), ("1.20.1+cu12", "1.20"), ("1.23.0.dev20250101", "1.23")],
)
def test_a_version_is_looked_up_by_its_release(version: str, release: str) -> None:
    assert loads_in(version).release == release


@pytest.mark.parametrize("version", ["1.999", "2.0", "17.3.1"])
def test_a_newer_version_than_is_known_loads_what_the_newest_known_does(version: str) -> None:
    assert loads_in(version) is RELEASES[-1]


@pytest.mark.parametrize("version", ["1.13.1", "1.2", "0.5", "", "1", "latest", "1.x", "1.20abc"])
def test_a_version_that_is_not_known_names_those_that_are(version: str) -> None:
    with pytest.raises(ir.PipelineError, match=r"1\.14 to 1\.\d+"):
        loads_in(version)


def test_no_release_loads_less_than_the_one_before() -> None:
    versions = [(row.opset, row.ml_opset, row.ir_version) for row in RELEASES]
    for older, newer in pairwise(versions):
        assert all(old <= new for old, new in zip(older, newer, strict=True))


def test_the_installed_runtime_loads_what_its_row_says_and_no_higher_opset() -> None:
    row = loads_in(installed_release())
    assert installed_release() == onnxruntime.__version__

    def loads(opset: int, ir_version: int) -> bool:
        proto = onnx.parser.parse_model(MEAN_17.replace("ReduceMean<axes = [1], keepdims = 0>", "Neg"))
        proto.graph.output[0].type.CopyFrom(proto.graph.input[0].type)
        proto.opset_import[0].version, proto.ir_version = opset, ir_version
        try:
            onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:
            return False
        return True

    assert loads(row.opset, row.ir_version)
    if row.release in installed_release():  # a newer one than is known may load more
        assert not loads(row.opset + 1, row.ir_version)
        assert not loads(row.opset, row.ir_version + 1)
