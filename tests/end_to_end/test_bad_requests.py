"""What is asked wrongly, what the machine refuses, and what stops a job: a message and an exit code, no traceback."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import EnvironmentSetupError, Options, OptionsError, explain, ir, optimize
from optimize_graph.cli import _Stop, main
from optimize_graph.jobs.optimization import optimize as job
from optimize_graph.render.json_report import failure_document
from optimize_graph.runtime.ort import api

pytestmark = pytest.mark.slow

TEXT = '<ir_version: 10, opset_import: ["": 21]> g (float[N,4] x) => (float[N,4] y) { a = Identity(x)  y = Relu(a) }'
SLOW = '''
import os, time
from pathlib import Path
from optimize_graph.passes import op, rule, values
(x,) = values("x")

@rule(op.Relu(x), source="a test")
def slow_rule(m, op):
    """before: y = Relu(x)
    after: y = Relu(x)"""
    Path(os.environ["STARTED"]).touch()
    time.sleep(60)
'''


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


# --- options from Python ----------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"disable": "dce"}, r"'disable' is 'dce' \(str\), expected a tuple of names .*write \('dce',\)"),
    ({"disable": (3,)}, "'disable' is 3"),
    ({"provider": "tensorrt"}, "'provider' is 'tensorrt' .*expected one of 'cpu', 'cuda'"),
    ({"target": 3}, "expected a name, or a pathlib.Path of a file"),
    ({"cpu_isa": "neon"}, "expected one of 'portable'"),
    ({"inputs": ("x.npz",)}, r"'inputs' is 'x.npz' \(str\), expected a pathlib.Path"),
    ({"inputs": Path("x.npz")}, "expected a tuple of pathlib.Path"),
    ({"custom_ops": ("lib.so",)}, "expected a pathlib.Path"),
    ({"plugins": "acme"}, "expected a tuple of names of modules"),
    ({"freeze": "all"}, "expected a tuple of names of inputs"),
    ({"max_rewrites": -3}, "'max_rewrites' is -3 .*expected an integer from 0"),
    ({"max_rewrites": True}, "'max_rewrites' is True"),
    ({"max_rewrites": 2.5}, "'max_rewrites' is 2.5"),
    ({"opset": "21"}, r"'opset' is '21' \(str\), expected an integer"),
    ({"threads": 100000}, "expected an integer from 0 to 1024"),
    ({"threads": -1}, "expected an integer from 0 to 1024"),
    ({"seed": -1}, "expected an integer from 0"),
    ({"verify_timeout": -1}, "expected a number from 0.001"),
    ({"verify_timeout": float("nan")}, "expected a number from 0.001"),
    ({"measure_seconds": 0}, "expected a number from 0.001"),
    ({"tune_budget": float("inf")}, "expected a number from 0.001"),
    ({"rtol": -1e-3}, "expected a number from 0"),
    ({"atol": "1e-3"}, "expected a number from 0"),
    ({"min_ort": 1.2}, "expected a version"),
    ({"min_ort": "new"}, "expected a version"),
    ({"passes": ""}, "expected a text that is not empty"),
    ({"passes": ["dce"]}, "expected a text"),
    ({"dims": {"N": -1}}, "expected a mapping from names of dims to sizes"),
    ({"dims": [("N", 1)]}, "expected a mapping from names of dims to sizes"),
    ({"input_shapes": {"x": 4}}, "expected a mapping from names of inputs to dims"),
    ({"input_shapes": {"x": "NCHW"}}, "expected a mapping from names of inputs to dims"),
    ({"measure_at": {"N": 4}}, "expected a tuple of mappings"),
    ({"verify": "no"}, r"'verify' is 'no' \(str\), expected True or False"),
    ({"strict": 1}, "expected True or False"),
    ({"tune_cache": "somewhere"}, "expected a pathlib.Path, 'off' or None"),
    ({"reproducer_dir": "folder"}, "expected a pathlib.Path"),
    ({"save_session_options": "file.json"}, "expected a pathlib.Path"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda each: repr(each) if isinstance(each, dict) else "")
def test_a_wrong_value_names_the_field_what_was_given_and_what_is_allowed(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message) as caught:
        Options(**given)
    assert caught.value.diagnostic.code == "invalid-option"


def test_every_field_is_checked() -> None:
    for name in Options.__dataclass_fields__:
        with pytest.raises(OptionsError, match=name):
            Options(**{name: object()})


def test_lists_and_numbers_of_numpy_are_taken() -> None:
    options = Options(disable=["dce"], dims={"N": np.int64(3)}, max_rewrites=np.int32(4), rtol=np.float32(0.5))  # type: ignore[arg-type]
    assert (options.disable, options.dims, options.max_rewrites, options.rtol) == (("dce",), {"N": 3}, 4, 0.5)
    assert type(options.max_rewrites) is int and type(options.rtol) is float


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-rewrites", "-3"], "'-3' is not an integer from 0"),
        (["--max-rewrites", "2.5"], "'2.5' is not an integer"),
        (["--verify-timeout", "-1"], "'-1' is not a number from 0.001"),
        (["--verify-timeout", "nan"], "'nan' is not a number"),
        (["--threads", "100000"], "'100000' is not an integer from 0 to 1024"),
        (["--seed", "-1"], "'-1' is not an integer"),
        (["--rtol", "-0.1"], "'-0.1' is not a number from 0"),
        (["--measure-seconds", "0"], "'0' is not a number"),
        (["--tune-budget", "-5"], "'-5' is not a number"),
        (["--opset", "-1"], "'-1' is not an integer"),
        (["--cpu-isa", "sse"], "invalid choice: 'sse'"),
        (["--report", "-"], "standard output is not supported"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)
def test_numbers_have_ranges_when_they_are_parsed(
    model: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(model), str(model.with_name("out.onnx")), *words])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("version", ["9.9", "0.1"])
def test_a_release_that_is_not_known_is_refused(model: Path, version: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(model), str(model.with_name("out.onnx")), "--min-ort", version]) == 1
    assert f"what ONNX Runtime '{version}' loads is not known" in capsys.readouterr().err
    with pytest.raises(ir.PipelineError, match="is not known"):
        optimize(model, options=Options(min_ort=version))


def test_a_dash_is_no_output(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(model.parent)
    for words in ([str(model), "-"], ["reduce", str(model), "-"]):
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert stopped.value.code == 2
        assert "standard output is not supported" in capsys.readouterr().err
    assert not Path("-").exists()


# --- what the machine refuses -----------------------------------------------------------------------------------------


def test_a_missing_temporary_folder_is_reported(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr("tempfile.mkdtemp", none)
    assert main([str(model), str(model.with_name("out.onnx"))]) == 1
    said = capsys.readouterr().err
    assert "no temporary folder can be made" in said and "TMPDIR" in said and "[no-temporary-folder]" in said
    with pytest.raises(EnvironmentSetupError, match="no temporary folder"):
        explain_free = Options(strict=True)
        optimize(model, options=explain_free)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EACCES, "temporary-folder-failed")])
def test_a_full_temporary_folder_is_reported(
    model: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    def full(self: job._Job) -> None:
        raise OSError(number, os.strerror(number), str(self.folder / "original.onnx"))

    monkeypatch.setattr(job._Job, "run", full)
    with pytest.raises(EnvironmentSetupError, match=f"cannot be written: .*{code}"):
        optimize(model)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a small file system to be mounted")
def test_a_temporary_folder_without_space_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        made = onnx.parser.parse_model(TEXT.replace("Relu(a)", "Add(a, w)"))
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((90000, 4), np.float32), "w"))
        onnx.save(made, tmp_path / "big.onnx")
        for target, env in ((tmp_path / "out.onnx", {"TMPDIR": str(small)}), (small / "out.onnx", {})):
            line = [sys.executable, "-m", "optimize_graph", str(tmp_path / "big.onnx"), str(target), "--measure"]
            line += ["--measure-seconds", "0.1"]
            done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, **env}, check=False)
            assert "Traceback" not in done.stderr
            assert done.returncode in (0, 1)
            assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_folder_without_write_permission_is_reported(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Path.open

    def refuse(self: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
        if "x" in mode:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        return real(self, mode, *rest, **more)

    monkeypatch.setattr(Path, "open", refuse)
    assert main([str(model), str(model.with_name("out.onnx"))]) == 1
    assert "cannot be written: Read-only file system [output-not-writable]" in capsys.readouterr().err


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow(tmp_path: Path) -> dict[str, str]:
    folder, scratch = tmp_path / "plugin", tmp_path / "scratch"
    folder.mkdir()
    scratch.mkdir()
    (folder / "slow_plugin.py").write_text(SLOW)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "TMPDIR": str(scratch), "STARTED": str(tmp_path / "started")}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_no_file_behind(model: Path, slow: dict[str, str], name: str) -> None:
    target = model.with_name("out.onnx")
    line = [sys.executable, "-m", "optimize_graph", str(model), str(target), "--plugin", "slow_plugin", "--json"]
    process = subprocess.Popen(line, env=slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not Path(slow["STARTED"]).exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert "Traceback" not in err and "nothing was written" in err
    assert json.loads(out)["error"]["code"] == "stopped"
    assert not target.exists() and not list(Path(slow["TMPDIR"]).iterdir())
    assert {path.name for path in model.parent.iterdir()} == {"model.onnx", "plugin", "scratch", "started"}


@pytest.mark.parametrize("delay", [0.15, 0.3, 0.6])
def test_an_interrupt_during_imports_has_no_traceback(model: Path, delay: float) -> None:
    line = [sys.executable, "-c", f"import os, signal, threading\nthreading.Timer({delay}, os.kill, (os.getpid(), signal.SIGINT)).start()\nimport sys\nfrom optimize_graph.__main__ import main\nsys.exit(main())"]  # fmt: skip  # noqa: E501
    line += [str(model), str(model.with_name("out.onnx")), "--measure", "--measure-seconds", "20"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr.count("nothing was written")) == (130, 1), done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_waits_until_an_extension_module_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append(number))

    class ExtensionFileLoader:
        def create_module(self, stop: _Stop) -> None:
            stop._stop(signal.SIGINT, sys._getframe())

    stop = _Stop()
    ExtensionFileLoader().create_module(stop)
    until = time.monotonic() + 10
    while not sent and time.monotonic() < until:
        time.sleep(0.01)
    assert sent == [signal.SIGINT]
    with pytest.raises(KeyboardInterrupt):
        stop._stop(signal.SIGINT, sys._getframe())
    stop._stop(signal.SIGINT, sys._getframe())  # files are being removed


# --- failures as documents --------------------------------------------------------------------------------------------


def test_a_failure_is_reported_in_the_schema_of_a_success(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = [tmp_path / "report.json", tmp_path / "report.html"]
    words = [str(model), str(tmp_path / "out.onnx"), "--json", "--disable", "eliminate-nop-identiti"]
    words += [word for path in reports for word in ("--report", str(path))]
    assert main(words) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["error"] == {
        "code": "unknown-rule",
        "severity": "error",
        "message": "no rule or pass is called 'eliminate-nop-identiti'; did you mean 'eliminate-nop-identity'?",
        "where": "",
        "hint": "see optimize-graph passes",
    }
    assert json.loads(reports[0].read_text()) == printed
    assert "unknown-rule" in reports[1].read_text()
    succeeded = optimize(model).to_json()
    assert succeeded["error"] is None
    assert printed.keys() == succeeded.keys()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["missing.onnx", "out.onnx"], "file-not-found"),
        (["measure", "missing.onnx"], "file-not-found"),
        (["inspect", "missing.onnx"], "file-not-found"),
        (["compare", "missing.onnx", "missing.onnx"], "file-not-found"),
        (["explain", "dce", "missing.onnx"], "file-not-found"),
        (["bisect", "missing.onnx"], "file-not-found"),
        (["passes", "--plugin", "no_such_module"], "plugin-import"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_every_job_reports_its_failure_as_json(
    words: list[str], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--json"]) == 1
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["code"] == code and error["message"]
    assert f"[{code}]" in said.err


def test_a_defect_is_reported_and_raised(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(self: job._Job) -> None:
        raise AssertionError("a defect")

    monkeypatch.setattr(job._Job, "run", defect)
    with pytest.raises(AssertionError, match="a defect"):
        main([str(model), str(model.with_name("out.onnx")), "--json"])
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "internal-error"
    assert failure_document(MemoryError(), "out-of-memory", "no")["error"]


# --- what a build is made from ----------------------------------------------------------------------------------------


@pytest.fixture
def clean_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "quiet_plugin.py").write_text(SLOW.replace("op.Relu(x)", "op.Elu(x)").replace("slow", "quiet"))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("quiet_plugin", None)


@pytest.mark.usefixtures("clean_path")
def test_the_report_records_hashes_options_host_and_plugins(model: Path) -> None:
    import hashlib

    given = hashlib.sha256(model.read_bytes()).hexdigest()
    options = Options(plugins=("quiet_plugin",), dims={"N": 2}, disable=("cse",))
    record = optimize(model, model, options).to_json()["build"]
    assert isinstance(record, dict)
    assert record["input"] == {"sha256": given, "data": {}}
    assert record["output"] == {"sha256": hashlib.sha256(model.read_bytes()).hexdigest(), "data": {}}
    assert record["options"]["dims"] == {"N": 2} and record["options"]["disable"] == ["cse"]
    assert set(record["options"]) == set(Options.__dataclass_fields__)
    assert record["host"].keys() == {"system", "machine", "cpu", "vectors", "cpus"}
    assert list(record["plugins"]["quiet_plugin"]) == ["sha256"]
    json.dumps(record)


def test_external_data_is_hashed_too(tmp_path: Path) -> None:
    made = onnx.parser.parse_model(TEXT.replace("Relu(a)", "Add(a, w)"))
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((900, 4), np.float32), "w"))
    onnx.save(made, tmp_path / "in.onnx", save_as_external_data=True, location="in.data")
    result = optimize(tmp_path / "in.onnx", tmp_path / "out.onnx", Options(dims={"N": 900}))
    given, output = result.build["input"], result.build["output"]
    assert isinstance(given, dict) and isinstance(output, dict)
    assert list(given["data"]) == ["in.data"] and len(output["data"]) == 1


@pytest.mark.parametrize("vectors", ["avx2", "avx512f", "", "asimd"])
def test_the_default_result_does_not_depend_on_the_instruction_set_of_the_host(
    vectors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize_graph.jobs.optimization.pipeline_runner.widest_vectors", lambda: vectors)
    random = np.random.default_rng(0)
    graph = "g (float[1,3,6,6] x) => (float[a,b,c,d] y) { c = Conv(x, w) p = MaxPool<kernel_shape = [2, 2]>(c) y = Conv(p, v) }"  # noqa: E501
    made = onnx.parser.parse_model('<ir_version: 10, opset_import: ["": 21]>' + graph)
    for name, dims in (("w", (20, 3, 3, 3)), ("v", (48, 20, 1, 1))):
        made.graph.initializer.append(onnx.numpy_helper.from_array(random.normal(size=dims).astype(np.float32), name))

    def channels(**options: Any) -> set[int]:
        result = optimize(made, options=Options(verify=False, **options))
        return {int(v.shape[0]) for v in result.model.graph.initializers.values() if v.shape and v.shape[1] == 3}  # type: ignore[call-overload]

    assert channels() == {20}
    assert channels(cpu_isa="host") == {{"avx2": 24, "": 20}.get(vectors, 32)}


def test_a_run_leaves_no_trace_of_telemetry(model: Path, tmp_path: Path) -> None:
    """ONNX Runtime writes `.ses` into the temporary folder as soon as it is imported, unless it is told not to."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    line = [sys.executable, "-m", "optimize_graph", str(model), str(model.with_name("out.onnx"))]
    subprocess.run(line, check=True, capture_output=True, env={**env, "TMPDIR": str(scratch)})
    assert list(scratch.iterdir()) == []


def test_telemetry_is_off_before_any_session(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    import onnxruntime

    called: list[str] = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: called.append("off"))
    importlib.reload(api)
    assert called == ["off"]


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explain_says_of_every_rule_whether_its_pass_ran(model: Path) -> None:
    from optimize_graph.passes import REGISTRY

    for name, each in REGISTRY.rules.items():
        if each.phase == "contrib-attention":
            assert explain(name, model).ran, name
            break
    assert explain("eliminate-nop-identity", model).ran
    assert not explain("fold-batchnorm-into-conv", model, Options(passes="dce")).ran
    assert not explain("eliminate-nop-cast", model, Options(passes="rewrite{rules=eliminate-nop-identity}")).ran
