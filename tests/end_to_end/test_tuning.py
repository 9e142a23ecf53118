"""Choices of profit are tried one by one; clocks are played by numbers here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx.parser
import pytest
from optimize_graph import Options, ir, optimize, runtime
from optimize_graph.cli import main
from optimize_graph.jobs.model_source import Source
from optimize_graph.jobs.optimization import tune
from optimize_graph.jobs.optimization.evaluation import Evaluation
from optimize_graph.jobs.optimization.pipeline_runner import PipelineRunner
from optimize_graph.jobs.optimization.run_config import RunConfig
from optimize_graph.jobs.optimization.tune import Choices, Tuner, Tuning
from optimize_graph.jobs.optimization.tuning_cache import TuningCache, cache_key
from optimize_graph.passes import REGISTRY, Exclusions
from optimize_graph.passes.pipeline.pipeline import PipelineResult
from optimize_graph.runtime import Ratio, SessionOptions

pytestmark = pytest.mark.slow

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[2, 4, 16] x, float[2, 4, 16] y) => (float[2, 4, 16] z) <
    float[16] w = {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}, float half = {0.5},
    float one = {1}, float root = {1.4142135}> {
    a = Add(x, y)  b = LayerNormalization(a, w)
    c = Div(b, root)  d = Erf(c)  e = Add(d, one)  f = Mul(b, e)  g = Mul(f, half)
    h = Add(g, x)  z = LayerNormalization(h, w) }"""


def count(path: Path, operator: str) -> int:
    return sum(node.op_type == operator for node in onnx.load(path).graph.node)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """Let models take as long as their operators cost, with narrow intervals."""

    def play(costs: dict[str, float]) -> None:
        def cost(path: Path) -> float:
            return 10 + sum(costs.get(node.op_type, 0.0) for node in onnx.load(path).graph.node)

        def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **_: object) -> list[Ratio]:
            first = cost(candidates[0].path)
            speeds = [first / cost(each.path) for each in candidates]
            return [Ratio(speed, speed - 0.01, speed + 0.01, 10, 6) for speed in speeds]

        monkeypatch.setattr(Tuner, "compare", compare)

    return play


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def tuned(model: Path, **options: object) -> Tuning:
    asked = Options(tune=True, tune_cache=model.parent / "cache", **options)  # type: ignore[arg-type]
    result = optimize(model, model.with_name("out.onnx"), asked)
    assert result.tuning is not None
    assert result.verification is not None and result.verification.ok
    return result.tuning


def test_what_is_faster_without_a_rule_is_delivered_without_it(
    model: Path, played: Callable[[dict[str, float]], None]
) -> None:
    played({"Gelu": 5, "Sum": -1})
    found = tuned(model)
    out = model.with_name("out.onnx")
    assert {rule for rule, _ in found.choices.left_out} == {"recognize-gelu"}
    assert (count(out, "Gelu"), count(out, "Erf"), count(out, "Sum")) == (0, 1, 2)
    assert [each.what for each in found.trials if each.kept] == ["without recognize-gelu"]


def test_what_pays_stays(model: Path, played: Callable[[dict[str, float]], None]) -> None:
    played({"Gelu": -5, "Sum": -1})
    found = tuned(model)
    assert not found.choices
    assert found.speed.is_faster
    assert count(model.with_name("out.onnx"), "Gelu") == 1


def test_a_single_group_of_a_rule_may_be_excluded(model: Path) -> None:
    runner = PipelineRunner(Source.of(model, Options()), Options())
    report = runner.run()
    groups = {each.group for each in report.rewrites if each.rule == "add-to-sum-before-norm"}
    assert len(groups) == 1  # both additions look alike
    rewrites = runner.run(RunConfig(Exclusions(groups=frozenset(groups)))).rewrites
    assert "add-to-sum-before-norm" not in {each.rule for each in rewrites}


def test_the_second_run_remembers(model: Path, played: Callable[[dict[str, float]], None]) -> None:
    played({"Gelu": 5})
    first, second = tuned(model), tuned(model)
    assert (first.is_cached, second.is_cached) == (False, True)
    assert second.choices == first.choices and second.speed == first.speed
    assert count(model.with_name("out.onnx"), "Gelu") == 0
    assert not tuned(model, threads=2).is_cached
    assert not tuned(model, disable=("cse",)).is_cached


def test_nothing_is_kept_or_remembered_in_a_cache_that_is_off(
    model: Path, played: Callable[[dict[str, float]], None]
) -> None:
    played({"Gelu": 5})
    for _ in range(2):
        result = optimize(model, None, Options(tune=True, tune_cache="off"))
        assert result.tuning is not None and not result.tuning.is_cached


@pytest.mark.parametrize("strict", [False, True])
def test_a_model_that_is_slower_in_every_form_is_delivered_as_it_came(
    model: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **_: object) -> list[Ratio]:
        return [Ratio(1, 1, 1, 10), *[Ratio(0.9, 0.88, 0.92, 10)] * (len(candidates) - 1)]

    monkeypatch.setattr(Tuner, "compare", compare)
    said = model.with_name("session.json")
    asked = Options(tune=True, tune_cache="off", strict=strict, save_session_options=said)
    result = optimize(model, model.with_name("out.onnx"), asked)
    assert json.loads(said.read_text())["disabled_optimizers"] == []  # those were measured with other models
    assert [each.code for each in result.remarks] == ["original-is-faster"]
    before, after = onnx.load(model), onnx.load(model.with_name("out.onnx"))
    assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
    assert result.verification is not None and result.verification.ok


def test_an_interrupted_search_keeps_the_best_so_far(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **_: object) -> list[Ratio]:
        calls.append(len(candidates))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [Ratio(1, 1, 1, 10), *[Ratio(1.2, 1.1, 1.3, 10)] * (len(candidates) - 1)]

    monkeypatch.setattr(Tuner, "compare", compare)
    found = tuned(model)
    assert not found.is_complete
    assert len(found.trials) == 1 and found.choices == found.choices | Choices(found.choices.left_out)
    assert found.choices.left_out


def test_an_interrupted_judgement_is_made_again_in_short(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **how: object) -> list[Ratio]:
        if "is_decided" not in how:
            given.append(seconds)
            if len(given) == 1:
                raise KeyboardInterrupt
        return [Ratio(1, 1, 1, 10), *[Ratio(1.2, 1.1, 1.3, 10)] * (len(candidates) - 1)]

    monkeypatch.setattr(Tuner, "compare", compare)
    found = tuned(model)
    assert not found.is_complete and found.choices and given[1] == tune.LEAST_TRIAL_S


def test_what_was_tried_in_vain_does_not_fill_the_disk(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = []

    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **_: object) -> list[Ratio]:
        left.append(len(list(self.folder.glob("tuned-*/*"))))
        assert all(each.path.exists() for each in candidates)
        return [Ratio(1, 1, 1, 10), *[Ratio(0.9, 0.8, 0.99, 10)] * (len(candidates) - 1)]

    monkeypatch.setattr(Tuner, "compare", compare)
    assert len(tuned(model).trials) > 1
    assert max(left) == 2


@pytest.mark.parametrize("budget", [2, 4])
def test_a_search_ends_before_a_trial_that_would_not_fit(
    model: Path, monkeypatch: pytest.MonkeyPatch, budget: float
) -> None:
    now = [0.0]

    def rewritten(self: Tuner, choices: Choices) -> PipelineResult:
        now[0] += 0.5
        return run(self, choices)

    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **_: object) -> list[Ratio]:
        now[0] += seconds
        return [Ratio(1, 1, 1, 10), *[Ratio(1.2, 1.1, 1.3, 10)] * (len(candidates) - 1)]

    run = Tuner.rewritten
    monkeypatch.setattr(Tuner, "rewritten", rewritten)
    monkeypatch.setattr(Tuner, "compare", compare)
    monkeypatch.setattr(tune.time, "monotonic", lambda: now[0])
    found = tuned(model, tune_budget=budget)
    assert not found.is_complete
    assert now[0] <= max(budget, 0.5 + tune.LEAST_TRIAL_S)


def test_a_gain_that_does_not_show_again_is_no_gain(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **how: object) -> list[Ratio]:
        lucky = Ratio(1.1, 1.05, 1.15, 10) if "is_decided" in how else Ratio(1.0, 0.98, 1.02, 10)
        return [Ratio(1, 1, 1, 10), *[lucky] * (len(candidates) - 1)]

    monkeypatch.setattr(Tuner, "compare", compare)
    found = tuned(model)
    assert any(each.kept for each in found.trials)
    assert not found.choices
    assert "not shown to be faster" in found.summary()


def test_what_is_not_expected_to_pay_is_tried_wherever_it_is_legal(tmp_path: Path) -> None:
    graph = "g (float[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) { y = Softmax<axis = 1>(x) }"
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {graph}'), path)
    runner = PipelineRunner(Source.of(path, Options()), Options())
    report = runner.run()
    assert [(each.rule, each.is_profit) for each in report.missed] == [("decompose-softmax-outer-axis", True)]
    evaluation = Evaluation(runner.source, Options(), tmp_path, lambda step: None)
    tuner = Tuner(runner, evaluation, Exclusions(), tmp_path, budget_s=1)
    assert [what for what, _ in tuner.moves(report)] == ["decompose-softmax-outer-axis wherever it is legal"]
    forced = runner.run(RunConfig(force=frozenset({"decompose-softmax-outer-axis"})))
    assert [each.rule for each in forced.rewrites] == ["decompose-softmax-outer-axis"]


def test_fusions_of_the_runtime_are_tried_when_their_file_is_asked_for(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compare(self: Tuner, candidates: Sequence[tune._Candidate], seconds: float, **_: object) -> list[Ratio]:
        speeds = [1.2 if "SkipLayerNormFusion" in each.choices.disabled else 1.0 for each in candidates]
        return [Ratio(each, each - 0.01, each + 0.01, 10) for each in speeds]

    monkeypatch.setattr(Tuner, "compare", compare)
    said = model.with_name("session.json")
    found = tuned(model, save_session_options=said, disable=("add-to-sum-before-norm",))
    assert found.choices.disabled == {"SkipLayerNormFusion"}
    assert '"disabled_optimizers": [\n    "SkipLayerNormFusion"\n  ]' in said.read_text()


def test_session_options_without_a_search_are_a_mistake(model: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(model), "--dry-run", "--save-session-options", str(model.with_name("session.json"))])
    assert caught.value.code == 2


def test_a_cache_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    cache = TuningCache(tmp_path / "cache")
    tuning = Tuning(Choices(frozenset({("a", "b")}), frozenset({"c"})), (), Ratio(1.1, 1.0, 1.2, 9), seconds=4.0)
    assert cache.find("key", 60) is None
    cache.keep("key", tuning)
    assert cache.find("key", 60) == Tuning(tuning.choices, (), tuning.speed, seconds=4.0, is_cached=True)
    (file,) = (tmp_path / "cache").iterdir()
    good = file.read_text()
    for content in (
        "",
        "[]",
        '{"schema": 1}',
        good.replace("left_out", "other"),
        good.replace('"median": 1.1', '"median": "fast"'),
    ):
        file.write_text(content)
        assert cache.find("key", 60) is None


def test_a_cache_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    cache = TuningCache(tmp_path)
    (tmp_path / "key.json" / "in the way").mkdir(parents=True)
    cache.keep("key", Tuning(Choices(), (), Ratio(1, 1, 1, 9)))
    assert [each.name for each in tmp_path.iterdir()] == ["key.json"]


def test_other_rules_are_another_key(model: Path, tmp_path: Path) -> None:
    runner = PipelineRunner(Source.of(model, Options()), Options())

    def key() -> str:
        return cache_key(runner, runner.fresh().model, {}, SessionOptions(), with_session=False)

    first = key()
    with REGISTRY.scope():
        REGISTRY.add_rule(replace(REGISTRY.rules["eliminate-nop-identity"], name="another"))
        assert key() != first
    assert key() == first


def test_a_model_that_the_runtime_cannot_write_is_tried_all_the_same(
    model: Path, monkeypatch: pytest.MonkeyPatch, played: Callable[[dict[str, float]], None]
) -> None:
    def refuse(*_: object) -> None:
        raise ir.ModelError(ir.Diagnostic("onnxruntime-refuses-model", "too large"))

    played({"Gelu": 5})
    monkeypatch.setattr(runtime, "save_optimized", refuse)
    assert tuned(model, save_session_options=model.with_name("session.json")).choices.left_out


def test_a_search_that_had_little_time_is_done_again_with_more(tmp_path: Path) -> None:
    cache = TuningCache(tmp_path)
    cache.keep("key", Tuning(Choices(), (), Ratio(1, 1, 1, 9), seconds=10.0, is_complete=False))
    assert cache.find("key", 10) is not None
    assert cache.find("key", 60) is None


def test_a_rewrite_says_what_others_of_its_kind_share(model: Path) -> None:
    report = PipelineRunner(Source.of(model, Options()), Options()).run()
    gelu = next(each for each in report.rewrites if each.rule == "recognize-gelu")
    assert gelu.group == ("recognize-gelu", "Div, Erf, Add, Mul, Mul FLOAT[2, 4, 16]")
    assert ir.text(report.model)
