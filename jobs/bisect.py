"""Which rewrite is the first that makes something go wrong."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .. import ir
from ..options import Options
from ..passes.pipeline.pipeline import PipelineResult
from ..passes.pipeline.rewrite_log import Exclusions, Rewrite
from ..passes.registry import REGISTRY
from .model_source import Given, Source
from .optimization.fault_isolation import Search
from .optimization.pipeline_runner import PipelineRunner
from .temporary_folder import workspace


@dataclass(frozen=True)
class BisectResult:
    """The first rewrite that goes wrong, of so many, and what is wrong then; `rewrite` is None where all is well."""

    rewrites: int
    rewrite: Rewrite | None = None
    why: str = ""

    def to_json(self) -> dict[str, object]:
        """The fields with plain JSON values."""
        rewrite = None if self.rewrite is None else self.rewrite.to_json()
        return {"rewrites": self.rewrites, "rewrite": rewrite, "why": self.why}


def bisect(
    model: Given,
    options: Options | None = None,
    *,
    test: str | None = None,
    keep: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> BisectResult:
    """Find the first rewrite after which results differ from the original, or `test` fails.

    `test`: a command in which {} stands for the path of a result; exit code 0 means that it is good. `keep`: a folder
    for `before.onnx` and `after.onnx`, the models on either side of the rewrite.
    Raises VerificationError where something is wrong before any rewrite, and what `optimize` raises.
    """
    options = options or Options()
    with REGISTRY.using(options.plugins), workspace() as folder:
        runner = PipelineRunner(Source.of(model, options), options, tell=progress)
        report = runner.run(on_failure="skip")
        config = runner.default_config.excluding(Exclusions(frozenset(each.faulty for each in report.failures)))
        wrong = _failing(test, folder) if test is not None else _differing(runner, folder, progress)
        search = Search(lambda limit: runner.run(config, limit=limit), wrong, len(report.rewrites))
        progress("bisect")
        if said := wrong(report):
            number = search.first_wrong()
            if number is None:
                raise ir.VerificationError(ir.Diagnostic("wrong-from-the-start", f"before any rewrite: {said}"))
            if keep is not None:
                _keep(keep, search, number)
            return BisectResult(len(report.rewrites), search.run(number).rewrites[-1], search.reasons.get(number, said))
        return BisectResult(len(report.rewrites))


def _keep(folder: Path, search: Search, number: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ir.EnvironmentSetupError(ir.Diagnostic("models-not-kept", f"{folder}: {error.strerror}")) from error
    ir.save(search.run(number - 1).model, folder / "before.onnx")
    ir.save(search.run(number).model, folder / "after.onnx")


def run_test(command: str, model: Path) -> str:
    """What a test command says against a model; empty where it exits with 0.

    Raises PipelineError when it cannot be run.
    """
    try:
        words = [word.replace("{}", str(model)) for word in shlex.split(command)]
    except ValueError as error:
        raise ir.PipelineError(ir.Diagnostic("test-not-run", f"{command!r}: {error}")) from error
    if not words:
        raise ir.PipelineError(ir.Diagnostic("test-not-run", "the command is empty"))
    try:
        done = subprocess.run(words, capture_output=True, check=False)
    except OSError as error:
        raise ir.PipelineError(ir.Diagnostic("test-not-run", f"{words[0]}: {error.strerror}")) from error
    return f"the test exits with {done.returncode}" if done.returncode else ""


def _failing(test: str, folder: Path) -> Callable[[PipelineResult], str]:
    def wrong(report: PipelineResult) -> str:
        path = folder / "result.onnx"
        ir.save(report.model, path)
        return run_test(test, path)

    return wrong


def _differing(runner: PipelineRunner, folder: Path, tell: Callable[[str], None]) -> Callable[[PipelineResult], str]:
    from .optimization.evaluation import Evaluation, as_verification_error

    evaluation = Evaluation(runner.source, runner.options, folder, tell)
    converted = runner.fresh()

    def wrong(report: PipelineResult) -> str:
        path = folder / "result.onnx"
        ir.save(report.model, path)
        with as_verification_error():
            return evaluation.verify(path, report, converted).problem

    return wrong
