"""Sessions: what goes in and comes out, and errors that say what is wrong."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import onnx.parser
import pytest
from optimize_graph import ir
from optimize_graph.runtime import SessionOptions, check_installation, open_session
from optimize_graph.runtime.ort import session


def model(text: str, opsets: str = '"": 21') -> bytes:
    return onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{opsets}]> {text}").SerializeToString()


X = np.array([1.0, 2.0], np.float32)


def test_outputs_come_by_name_in_the_model_s_order() -> None:
    opened = open_session(model("g (float[N] x) => (float[N] b, float[N] a) { b = Relu(x) a = Neg(x) }"))
    outputs = opened.run({"x": X})
    assert list(outputs) == ["b", "a"]
    np.testing.assert_array_equal(outputs["a"], -X)
    assert [(port.name, port.type, port.shape) for port in opened.inputs] == [("x", "tensor(float)", ("N",))]


@pytest.mark.parametrize(
    "code, dtype",
    [(16, ml_dtypes.bfloat16), (17, ml_dtypes.float8_e4m3fn), (21, ml_dtypes.uint4), (22, ml_dtypes.int4)],
)
def test_types_that_onnxruntime_s_run_refuses_go_in_and_out(code: int, dtype: type) -> None:
    name = {16: "bfloat16", 17: "float8e4m3fn", 21: "uint4", 22: "int4"}[code]
    values = np.array([1, 2, 3, 5, 7], np.float32)
    there = open_session(model(f"g (float[5] x) => ({name}[5] y) {{ y = Cast<to = {code}>(x) }}"))
    narrow = there.run({"x": values})["y"]
    assert isinstance(narrow, np.ndarray) and narrow.dtype == dtype
    back = open_session(model(f"g ({name}[5] x) => (float[5] y) {{ y = Cast<to = 1>(x) }}"))
    np.testing.assert_array_equal(back.run({"x": narrow})["y"], narrow.astype(np.float32))


def test_sequences_optionals_maps_and_strings_come_out() -> None:
    text = "g (float[2] x) => (seq(float[2]) s, optional(float[2]) o) { s = SequenceConstruct(x, x) o = Optional(x) }"
    outputs = open_session(model(text)).run({"x": X})
    assert [item.tolist() for item in outputs["s"]] == [[1, 2], [1, 2]]
    np.testing.assert_array_equal(outputs["o"], X)
    text = "g (float[1,2] x) => (seq(map(int64, float)) z) { z = ai.onnx.ml.ZipMap<classlabels_int64s = [5, 6]>(x) }"
    zipped = open_session(model(text, '"": 21, "ai.onnx.ml": 3')).run({"x": X[None]})
    assert zipped["z"] == [{5: 1.0, 6: 2.0}]
    strings = open_session(model("g (string[2] x) => (string[4] y) { y = Concat<axis = 0>(x, x) }"))
    assert strings.run({"x": np.array(["a", "é"], object)})["y"].tolist() == ["a", "é", "a", "é"]


def test_an_optional_input_may_be_absent() -> None:
    opened = open_session(model("g (optional(float[2]) x) => (bool y) { y = OptionalHasElement(x) }"))
    assert not opened.run({"x": None})["y"]


def test_a_refused_model_is_one_line_that_names_the_operator() -> None:
    with pytest.raises(ir.ModelError) as caught:
        open_session(model("g (float[2] x) => (float[2] y) { y = Foo(x) }"))
    assert caught.value.diagnostic.code == "onnxruntime-refuses-model"
    assert "Foo" in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(ir.ModelError, match="onnxruntime-refuses-model"):
        open_session(b"junk")


def test_a_failing_run_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model("g (float[N] x, int64[K] s) => (float[M] y) { y = Reshape(x, s) }"))
    with pytest.raises(ir.ModelError) as caught:
        open_session(path).run({"x": X, "s": np.array([7])})
    assert caught.value.diagnostic.code == "run-failed"
    assert str(path) in str(caught.value) and "onnxruntime_src" not in str(caught.value)


@pytest.mark.parametrize("feeds", [{}, {"x": X, "y": X}, {"x": X.astype(np.float64)}, {"x": X[None]}])
def test_inputs_that_do_not_fit_are_an_error_of_ours(feeds: dict[str, np.ndarray]) -> None:
    opened = open_session(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"))
    with pytest.raises(ir.ModelError, match="run-failed"):
        opened.run(feeds)


def test_cuda_that_cannot_be_had_is_an_error_and_no_silent_cpu_session(capfd: pytest.CaptureFixture[str]) -> None:
    from optimize_graph.runtime.ort import api

    text = model("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    if api.is_built_in("cuda") and api.has_provider(api.create(text, SessionOptions(provider="cuda")), "cuda"):
        pytest.skip("this machine has CUDA")
    capfd.readouterr()
    with pytest.raises(ir.EnvironmentSetupError) as caught:
        open_session(text, SessionOptions(provider="cuda"))
    assert caught.value.diagnostic.code == "provider-unavailable"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("tf32", "wanted"), [(True, "1"), (False, "0")])
def test_cuda_is_told_whether_products_may_be_rounded(monkeypatch: pytest.MonkeyPatch, tf32: bool, wanted: str) -> None:
    from optimize_graph.runtime.ort import api

    asked: list[object] = []
    monkeypatch.setattr(api.ort, "InferenceSession", lambda *_, providers, **__: asked.extend(providers))
    api.create(b"", SessionOptions(provider="cuda", tf32=tf32))
    assert asked == [("CUDAExecutionProvider", {"use_tf32": wanted}), "CPUExecutionProvider"]


def test_a_custom_operator_library_that_is_missing_is_an_error(tmp_path: Path) -> None:
    options = SessionOptions(custom_ops=(tmp_path / "missing.so",))
    with pytest.raises(ir.EnvironmentSetupError, match="custom-ops-unavailable"):
        open_session(model("g (float[2] x) => (float[2] y) { y = Relu(x) }"), options)


def installed(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    def distribution(name: str) -> SimpleNamespace:
        if name.replace("-", "_") not in files:
            raise importlib.metadata.PackageNotFoundError(name)
        return SimpleNamespace(files=[importlib.metadata.PackagePath(files[name.replace("-", "_")])])

    monkeypatch.setattr(session.importlib.metadata, "distribution", distribution)
    check_installation.cache_clear()


@pytest.fixture(autouse=True)
def fresh_installation_check():
    yield
    check_installation.cache_clear()


def test_two_distributions_of_onnxruntime_are_an_error_that_says_what_to_uninstall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, onnxruntime="onnxruntime/__init__.py", onnxruntime_gpu="onnxruntime/__init__.py")
    with pytest.raises(ir.EnvironmentSetupError) as caught:
        check_installation()
    assert caught.value.diagnostic.code == "two-onnxruntimes"
    assert "pip uninstall --yes onnxruntime onnxruntime-gpu" in caught.value.diagnostic.hint


def test_one_distribution_or_an_alias_without_files_of_its_own_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, onnxruntime_gpu="onnxruntime/__init__.py")
    check_installation()
    installed(monkeypatch, onnxruntime_gpu="onnxruntime/__init__.py", onnxruntime="onnxruntime-1.dist-info/METADATA")
    check_installation()


def test_importing_the_runtime_imports_no_onnxruntime() -> None:
    code = "import sys, optimize_graph.runtime as r; dir(r); assert 'onnxruntime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_can_be_had() -> None:
    import optimize_graph.runtime as runtime

    assert all(getattr(runtime, name) is not None for name in runtime.__all__)
    with pytest.raises(AttributeError):
        runtime.no_such_name  # noqa: B018
