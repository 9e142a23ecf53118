"""`--tune`: choices of profit are measured on the user's own machine, model and inputs.

The search starts from what the target's table says and changes one thing at a time, for good only where that is faster
with confidence (coordinate descent with early stopping). What was learned is remembered for the next build.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ... import ir, runtime
from ...passes.pipeline.pipeline import PipelineResult
from ...passes.pipeline.rewrite_log import Exclusions, Group
from ...passes.registry import REGISTRY
from .evaluation import Evaluation
from .pipeline_runner import PipelineRunner
from .run_config import RunConfig

LAST_SHARE = 0.25
"""Of the budget, for comparing the best with the original and with where the search began."""
ENOUGH_SESSIONS = 6
LEAST_TRIAL_S, MOST_TRIAL_S = 1.0, 8.0
FUSIONS = tuple(
    """SkipLayerNormFusion BiasGeluFusion GeluFusionL2 LayerNormFusionL2 MatMulAddFusion GemmActivationFusion
    ConvActivationFusion ConvAddActivationFusion NchwcTransformer QuickGeluFusion FastGeluFusion AttentionFusion
    MatMulScaleFusion MatmulTransposeFusion SimplifiedLayerNormFusion TransposeOptimizer BiasSoftmaxFusion
    DynamicQuantizeMatMulFusion""".split()
)
"""Fusions of ONNX Runtime, as onnxruntime/core/runner/graph_transformer_utils.cc names them."""


@dataclass(frozen=True)
class Choices:
    """What differs from the target's table.

    `left_out`: groups of rewrites. `eager`: rules that do also what is not expected to pay. `disabled`: fusions of ONNX
    Runtime that are switched off where the model runs.
    """

    left_out: frozenset[Group] = frozenset()
    force: frozenset[str] = frozenset()
    disabled: frozenset[str] = frozenset()

    def __or__(self, other: Choices) -> Choices:
        return Choices(self.left_out | other.left_out, self.force | other.force, self.disabled | other.disabled)

    def __bool__(self) -> bool:
        return bool(self.left_out or self.force or self.disabled)

    @property
    def exclusions(self) -> Exclusions:
        """The rewrites that runs exclude."""
        return Exclusions(groups=self.left_out)

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {
            "left_out": sorted(map(list, self.left_out)),
            "force": sorted(self.force),
            "disabled": sorted(self.disabled),
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Choices:
        """Raises KeyError, TypeError or ValueError for what `to_json` never wrote."""
        groups = frozenset((str(rule), str(signature)) for rule, signature in found["left_out"])
        return cls(groups, frozenset(map(str, found["force"])), frozenset(map(str, found["disabled"])))


@dataclass(frozen=True)
class Trial:
    """One thing that was tried. `speed`: how much faster than the best so far, with its 95 % interval."""

    what: str
    speed: runtime.Ratio
    kept: bool

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "not kept"
        return f"{self.what}: x{self.speed.median:.3f} [{self.speed.low:.3f}, {self.speed.high:.3f}], {verdict}"


@dataclass(frozen=True)
class Tuning:
    """What came of it. `speed`: the best against the original; `gain`: against what the target's table gives.

    `is_complete`: everything was tried before the time was up or the user interrupted. `is_cached`: an earlier run's.
    """

    choices: Choices
    trials: Sequence[Trial]
    speed: runtime.Ratio
    gain: runtime.Ratio | None = None
    seconds: float = 0.0
    is_complete: bool = True
    is_cached: bool = False

    @property
    def keeps_original(self) -> bool:
        """Whether the original is faster, with confidence, than all that was tried."""
        return self.speed.is_slower

    def write_session_options(self, path: Path) -> None:
        """What to tell ONNX Runtime where the model runs. Raises MachineError when the file cannot be written."""
        disabled = [] if self.keeps_original else sorted(self.choices.disabled)
        try:
            path.write_text(
                json.dumps({"schema": 1, "disabled_optimizers": disabled}, indent=2) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise ir.EnvironmentSetupError(
                ir.Diagnostic("session-options-not-written", f"{path}: {error.strerror}")
            ) from error

    def summary(self) -> str:
        """One line for a person."""
        low, high = self.speed.low, self.speed.high
        said = f"x{self.speed.median:.2f} [{low:.2f}, {high:.2f}] of the original's speed"
        if self.keeps_original:
            said = f"slower than the original, {said}"
        elif not self.speed.is_faster:
            said = f"not shown to be faster than the original: {said}"
        kept = [each.what for each in self.trials if each.kept] if self.choices else []
        how = "remembered" if self.is_cached else f"{len(self.trials)} things tried in {self.seconds:.0f} s"
        end = "" if self.is_complete else ", not all there was to try"
        return f"{said}; {how}{end}; kept: {', '.join(kept) or 'the defaults'}"

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        return {**asdict(self), "choices": self.choices.to_json()}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Tuning:
        """Raises KeyError, TypeError or ValueError for what `to_json` never wrote."""
        trials = tuple(Trial(str(each["what"]), _ratio(each["speed"]), bool(each["kept"])) for each in found["trials"])
        gain = None if found["gain"] is None else _ratio(found["gain"])
        seconds, flags = float(found["seconds"]), (bool(found["is_complete"]), bool(found["is_cached"]))
        return cls(Choices.from_json(found["choices"]), trials, _ratio(found["speed"]), gain, seconds, *flags)


def _ratio(found: dict[str, Any]) -> runtime.Ratio:
    """Raises KeyError, TypeError or ValueError for what is none."""
    median, low, high = (float(found[name]) for name in ("median", "low", "high"))
    return runtime.Ratio(median, low, high, int(found["pairs"]), int(found["sessions"]))


@dataclass(frozen=True)
class _Candidate:
    choices: Choices
    path: Path

    def remove(self) -> None:
        """Its files: a search tries dozens of models, which may be large."""
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Tuner:
    """One search. `without`: what is left out for other reasons. `folder`: for the models that are tried."""

    def __init__(
        self,
        runner: PipelineRunner,
        evaluation: Evaluation,
        exclusions: Exclusions,
        folder: Path,
        *,
        budget_s: float,
        with_session: bool = False,
        tell: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.runner, self.evaluation, self.exclusions, self.folder = runner, evaluation, exclusions, folder
        self.budget_s, self.with_session, self.tell = budget_s, with_session, tell
        self.trials: list[Trial] = []
        self.seen: set[str] = set()
        self.numbers = itertools.count()

    def run(self) -> Tuning:
        """Search until everything was tried, the budget is spent, or the user interrupts: the best so far is kept."""
        start = time.monotonic()
        until = start + self.budget_s * (1 - LAST_SHARE)
        report = self.rewritten(Choices())
        moves = self.moves(report)
        first = self.saved(Choices(), report)
        assert first is not None
        del report  # the model that it holds
        build_s = time.monotonic() - start
        best, is_complete = first, True
        try:
            for rest, move in zip(range(len(moves), 0, -1), moves, strict=True):
                left = until - time.monotonic()
                if left < build_s + LEAST_TRIAL_S:
                    is_complete = False
                    break
                self.show(len(self.trials), rest)
                best = self.tried(best, move, min(max(left / rest - build_s, LEAST_TRIAL_S), MOST_TRIAL_S))
        except KeyboardInterrupt:
            is_complete = False
        try:
            return self.judged(first, best, start, self.budget_s, is_complete)
        except KeyboardInterrupt:
            if not is_complete:  # the second time, it is meant
                raise
            return self.judged(first, best, start, 0.0, is_complete=False)

    def moves(self, report: PipelineResult) -> list[tuple[str, Choices]]:
        """What can be changed, what concerns most places first; whole rules before single groups of theirs."""
        groups = Counter(each.group for each in report.rewrites if _is_choice(each.rule))
        rules: dict[str, list[Group]] = {}
        for group in groups:
            rules.setdefault(group[0], []).append(group)
        whole = sorted(rules, key=lambda rule: (-sum(groups[each] for each in rules[rule]), rule))
        force = sorted({each.rule for each in report.missed if each.is_profit})
        found = [(f"without {rule}", Choices(frozenset(rules[rule]))) for rule in whole]
        found += [(f"{rule} wherever it is legal", Choices(force=frozenset({rule}))) for rule in force]
        if self.with_session:
            found += [(f"without {name} of ONNX Runtime", Choices(disabled=frozenset({name}))) for name in FUSIONS]
        single = [group for group, _ in groups.most_common() if len(rules[group[0]]) > 1]
        return found + [(f"without {rule} at {where}", Choices(frozenset({(rule, where)}))) for rule, where in single]

    def rewritten(self, choices: Choices) -> PipelineResult:
        """The original rewritten with these choices."""
        config = RunConfig(self.exclusions | choices.exclusions, choices.force)
        return self.runner.run(config, on_failure="skip")

    def saved(self, choices: Choices, report: PipelineResult) -> _Candidate | None:
        """The model that some choices made; None where it was tried already."""
        found = _Candidate(choices, self.folder / f"tuned-{next(self.numbers)}" / "model.onnx")
        found.path.parent.mkdir()
        ir.save(report.model, found.path)
        mark = f"{ir.fingerprint(report.model)} {self.shaped(found)}"
        if mark in self.seen:
            found.remove()
            return None
        self.seen.add(mark)
        return found

    def shaped(self, found: _Candidate) -> str:
        """How ONNX Runtime's own optimizations leave the model, where choices are about them."""
        if not self.with_session:
            return ""
        shaped = found.path.with_name("shaped.onnx")
        try:
            runtime.save_optimized(found.path, shaped, self.options(found.choices))
            return ir.fingerprint(ir.load(shaped))
        except ir.ModelError:  # above 2 GiB: then equal candidates are not recognized
            return repr(sorted(found.choices.disabled))
        finally:
            shaped.unlink(missing_ok=True)

    def options(self, choices: Choices) -> runtime.SessionOptions:
        """The session options of a candidate."""
        return replace(self.evaluation.how, disabled_optimizers=tuple(sorted(choices.disabled)))

    def tried(self, best: _Candidate, move: tuple[str, Choices], seconds: float) -> _Candidate:
        """The best candidate after a move was tried: the new one where it is faster."""
        what, choices = move
        if choices.left_out and choices.left_out <= best.choices.left_out:
            return best
        together = best.choices | choices
        candidate = None
        try:
            candidate = self.saved(together, self.rewritten(together))
            if candidate is None:
                return best
            speed = self.compare([best, candidate], seconds, is_decided=_is_decided)[1]
        except ir.ModelError:  # ONNX Runtime refuses it
            if candidate is not None:
                candidate.remove()
            return best
        self.trials.append(Trial(what, speed, speed.is_faster))
        if not speed.is_faster:
            candidate.remove()
            return best
        if best.choices:  # the first is needed at the end
            best.remove()
        return candidate

    def compare(
        self,
        candidates: Sequence[_Candidate],
        seconds: float,
        *,
        is_decided: Callable[[runtime.Ratio], bool] = lambda speed: False,
    ) -> list[runtime.Ratio]:
        """How much faster than the first each one is."""
        timings = runtime.time_models(
            [each.path for each in candidates],
            self.evaluation.timed_feeds.feeds,
            [self.options(each.choices) for each in candidates],
            budget_s=seconds,
            is_decided=is_decided,
            seed=self.runner.options.seed,
        )
        return [each.speed for each in timings]

    def judged(self, first: _Candidate, best: _Candidate, start: float, budget_s: float, is_complete: bool) -> Tuning:
        """The best against the original, and against where the search began: luck in single trials is no gain.

        `budget_s`: for search and judgement together.
        """
        self.tell("tune: the best against the original")
        original = _Candidate(Choices(), self.evaluation.original)
        racers = [original, first] if best is first else [original, first, best]
        seconds = max((start + budget_s - time.monotonic()) / (1 if best is first else 2), LEAST_TRIAL_S)
        speeds = self.compare(racers, seconds)
        gain = None
        if best is not first:
            gain = self.compare([first, best], seconds)[1]
            if not gain.is_faster:
                best = first
        speed = speeds[racers.index(best)]
        return Tuning(best.choices, self.trials, speed, gain, time.monotonic() - start, is_complete)

    def show(self, done: int, rest: int) -> None:
        """Tell how far the search is."""
        ratio = 1.0
        for each in self.trials:
            ratio *= each.speed.median if each.kept else 1.0
        filled = 20 * done // (done + rest)
        self.tell(f"tune {'█' * filled}{'░' * (20 - filled)} {done} of {done + rest}, best so far x{ratio:.2f}")


def _is_decided(speed: runtime.Ratio) -> bool:
    """A loss is believed early, a gain after more sessions: many are tried, and one of them may be lucky."""
    return speed.is_slower or (speed.is_faster and speed.sessions >= ENOUGH_SESSIONS)


def _is_choice(name: str) -> bool:
    found = REGISTRY.rules.get(name) or REGISTRY.passes.get(name)
    return found is not None and found.is_heuristic
