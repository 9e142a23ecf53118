"""Wrong rules beside the catalogue: each is found, isolated, excluded, with a reproducer; the rest is delivered."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from optimize_graph import OptimizeGraphError, Options, Result, optimize
from optimize_graph.cli import main
from optimize_graph.ir import subgraph
from optimize_graph.jobs.optimization import fault_isolation
from optimize_graph.jobs.optimization.fault_isolation import Search
from optimize_graph.passes import REGISTRY
from optimize_graph.runtime import constant_evaluator
from optimize_graph.runtime.ort import session

pytestmark = pytest.mark.slow

with REGISTRY.scope():  # or every test of the same run would see them
    from support import wrong_rules
    from support.wrong_rules import NAMES

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
TEXT = """g (float[N, 6, 8] x, float[N, 8, 8, 8] image) => (float[N, 6, 8] y, float[N, 8, a, b] z) {
    m = MatMul(x, w)  n = Add(m, bias)  r = Relu(n)  s = Softmax<axis = -1>(r)  d = Sub(n, s)
    p = Slice(d, one, five, axis1)  q = Gather<axis = 1>(d, picked)  j = Concat<axis = 1>(p, q)  y = MatMul(j, w)
    c = Conv(image, k, kb)  e = Tanh(c)  z = Conv(e, k, kb) }"""


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """For these tests alone."""
    known = {rule.name: rule for rule in vars(wrong_rules).values() if getattr(rule, "name", None) in NAMES}
    with REGISTRY.scope():
        for rule in known.values():
            REGISTRY.add_rule(rule)
        yield


def test_the_set_names_every_rule_in_it() -> None:
    assert set(NAMES) <= set(REGISTRY.rules)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    made = onnx.parser.parse_model(HEADER + TEXT)
    constants = {
        "w": random.normal(size=(8, 8)).astype(np.float32),
        "bias": random.normal(size=8).astype(np.float32),
        "one": np.array([1]),
        "five": np.array([5]),
        "axis1": np.array([1]),
        "picked": np.array([1, 3]),
        "k": random.normal(size=(8, 8, 3, 3)).astype(np.float32),
        "kb": random.normal(size=8).astype(np.float32),
    }
    made.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in constants.items())
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    return path


def optimized(model: Path, rule: str, **options: object) -> Result:
    others = tuple(name for name in NAMES if name != rule)
    return optimize(model, model.with_name("out.onnx"), Options(disable=others, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", NAMES)
def test_a_wrong_rule_is_excluded_with_a_small_reproducer_and_the_rest_is_delivered(
    model: Path, rule: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = optimized(model, rule)
    assert {each.rule for each in result.isolated} == {rule}
    assert result.verification is not None and result.verification.ok
    assert {each.code for each in result.remarks} == {"isolated"}
    after = onnx.load(model.with_name("out.onnx"))
    onnx.checker.check_model(after)
    assert len(after.graph.node) < 14  # what is right is still done
    program, small, *words = shlex.split(result.isolated[0].reproducer)
    assert program == "optimize-graph"
    assert len(onnx.load(small).graph.node) <= 2
    others = [word for name in NAMES if name != rule for word in ("--disable", name)]
    replays = 5 if rule == "not-the-same-twice" else 1  # what goes wrong by chance may be right twice in a row
    assert 3 in (main([small, *words, *others]) for _ in range(replays))
    assert rule in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["wrong-axis", "abused-tolerance", "not-the-same-twice"])
def test_strict_delivers_nothing(model: Path, rule: str) -> None:
    with pytest.raises(OptimizeGraphError, match=rule):
        optimized(model, rule, strict=True)
    assert not model.with_name("out.onnx").exists()


def test_a_rule_that_is_faulty_once_is_excluded_at_that_value_and_twice_everywhere(model: Path) -> None:
    faulty_rewrites = optimized(model, "lost-bias-of-a-convolution").isolated
    assert [each.whole for each in faulty_rewrites] == [False, True]
    assert [bool(each.reproducer) for each in faulty_rewrites] == [True, False]


def test_a_correct_catalogue_excludes_nothing(model: Path) -> None:
    result = optimized(model, "")
    assert not result.isolated and not result.remarks
    assert not model.with_name("out.onnx.reproducers").exists()


def test_a_model_with_weights_beside_it_has_a_reproducer_that_holds_them(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "external" / "model.onnx"
    path.parent.mkdir()
    onnx.save(onnx.load(model), path, save_as_external_data=True, location="model.data", size_threshold=100)
    faulty = optimized(path, "lost-bias").isolated[0]
    _, small, *words = shlex.split(faulty.reproducer)
    (path.parent / "model.data").unlink()
    others = [word for name in NAMES if name != "lost-bias" for word in ("--disable", name)]
    assert main([small, *words, *others]) == 3
    assert "lost-bias" in capsys.readouterr().err


def test_inputs_of_any_name_are_kept_for_the_reproducer(model: Path) -> None:
    made = onnx.load(model)
    for node in made.graph.node:
        node.input[:] = ["file" if name == "x" else name for name in node.input]
    made.graph.input[0].name = "file"
    onnx.save(made, model)
    faulty = optimized(model, "lost-bias").isolated[0]
    assert "inputs.npz" in faulty.reproducer


def test_a_search_without_time_is_an_error_and_delivers_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Search):
        def __init__(self, *given: object) -> None:
            super().__init__(*given[:3], 0.0)  # type: ignore[arg-type]
            monkeypatch.setattr(time, "monotonic", lambda: 1e12)

    monkeypatch.setattr(fault_isolation, "Search", Late)
    with pytest.raises(OptimizeGraphError, match="the time limit ended the search"):
        optimized(model, "lost-bias")
    assert not model.with_name("out.onnx").exists()


def test_a_model_too_large_for_one_file_is_delivered_without_a_reproducer(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subgraph, "MOST_BYTES", 0)
    result = optimized(model, "abused-tolerance")
    assert [each.reproducer for each in result.isolated] == ["", ""]
    assert result.verification is not None and result.verification.ok
    assert model.with_name("out.onnx").exists()


def test_every_run_and_load_of_a_job_has_a_limit(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    """Also while a faulty rewrite is isolated and its reproducer is cut out."""
    limits: dict[str, list[float | None]] = {"loads": [], "runs": []}
    opened, run = session.open_session, session.Session.run

    def open_session(*args: object, time_limit_s: float | None = None, **more: object) -> session.Session:
        limits["loads"].append(time_limit_s)
        return opened(*args, time_limit_s=time_limit_s, **more)  # type: ignore[arg-type]

    def counted(self: session.Session, feeds: dict[str, object], time_limit_s: float | None = None) -> object:
        if (
            self.options is not constant_evaluator.OrtEvaluator._options
        ):  # what is folded has no inputs of the job's choice
            limits["runs"].append(time_limit_s)
        return run(self, feeds, time_limit_s)  # type: ignore[arg-type]

    for name in (
        "verification.verifier",
        "verification.intermediate_values",
        "inputs.feeds",
        "delta_debug",
        "ort.session_pool",
    ):
        module = __import__(f"optimize_graph.runtime.{name}", fromlist=["x"])
        if hasattr(module, "open_session"):
            monkeypatch.setattr(module, "open_session", open_session)
    monkeypatch.setattr("optimize_graph.runtime.open_session", open_session)
    monkeypatch.setattr(session.Session, "run", counted)
    result = optimized(model, "wrong-axis", verify_timeout=100.0)
    assert {faulty.rule for faulty in result.isolated} == {"wrong-axis"}
    assert result.isolated[0].reproducer
    assert len(limits["loads"]) > 10 and len(limits["runs"]) > 20
    assert all(limit is not None and limit <= 100.0 for limit in [*limits["loads"], *limits["runs"]])
