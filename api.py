"""The public face: `optimize` takes a model and gives back one that computes the same, with the evidence."""

from __future__ import annotations

import logging
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import ir
from .options import TARGETS, Options
from .passes.engine.exactness import Exactness
from .passes.engine.instruments import Instrument, Progress, VerifyEach
from .passes.engine.pass_ import PassFailure, Settings
from .passes.engine.pipeline import Pipeline, Report, seconds_by_pass
from .passes.engine.registry import REGISTRY
from .passes.targets.onnxruntime import loads_in
from .result import Result, size_of
from .versions import Fitted, fit_versions, installed_release

if TYPE_CHECKING:
    import onnx


HALVING = "compute-in-float16"  # the pass after which results are compared as float16
LOG = logging.getLogger("optimize_graph")


def optimize(
    model: str | Path | bytes | onnx.ModelProto | ir.Model,
    output: str | Path | None = None,
    options: Options | None = None,
    *,
    progress: Callable[[str], None] = lambda step: None,
    instruments: Sequence[Instrument] = (),
) -> Result:
    """Optimize a model; write the result to `output` when it is given, and only once it is verified.

    `progress` is told what is being done. `model` is left as it is, unless `output` is its own path.
    Raises ModelError, PipelineError, MachineError or VerificationError; each carries a Diagnostic.
    """
    return _Job(model, output, options or Options(), progress, instruments).run()


class _Job:
    """One call of `optimize`."""

    def __init__(
        self,
        source: str | Path | bytes | onnx.ModelProto | ir.Model,
        output: str | Path | None,
        options: Options,
        progress: Callable[[str], None],
        instruments: Sequence[Instrument],
    ) -> None:
        self.source = Path(source) if isinstance(source, str) else source
        self.output = Path(output) if output is not None else None
        self.options = options
        self.tell = progress
        self.instruments = instruments

    def progress(self, step: str) -> None:
        LOG.debug(step)
        self.tell(step)

    def run(self) -> Result:
        if self.options.cpu_fp16_as_fp32 and self.options.target != "ort-cpu":
            raise ir.PipelineError(
                ir.Diagnostic("wrong-target", "computing float16 in float32 is for the target ort-cpu alone")
            )
        if self.options.fp16 and self.options.target != "ort-cuda":
            raise ir.PipelineError(
                ir.Diagnostic("wrong-target", "computing float32 in float16 is for the target ort-cuda alone")
            )
        if self.options.target not in TARGETS:
            raise ir.PipelineError(
                ir.Diagnostic("unknown-target", f"no target is called {self.options.target!r}", hint=", ".join(TARGETS))
            )
        for plugin in self.options.plugins:
            REGISTRY.plug_in(plugin)
        pipeline = Pipeline.parse(self._pipeline_text())
        self._refuse_unknown_names()
        self.progress("load")
        given = self._load()
        before = size_of(given)
        fitted = self._fit(given)
        model = fitted.model
        remarks = [*ir.load_remarks(given), *fitted.remarks]
        if lost := ir.not_representable(model):
            remarks.append(_unchanged(lost))
            return self._deliver(Result(model, before, before, remarks=remarks, pipeline=str(pipeline)), lossless=False)
        report = self._optimize(model, pipeline)
        remarks += [*report.remarks, *(self._left_out(each.culprit, each.reason) for each in report.failures)]
        result = Result(
            report.model,
            before,
            size_of(report.model),
            report.rewrites,
            report.refusals,
            remarks,
            max(report.journal.exactness, Exactness.ROUNDING if fitted.converted else Exactness.EXACT),
            str(pipeline),
            seconds_by_pass(report.results),
        )
        return self._deliver(result, lossless=True)

    def _pipeline_text(self) -> str:
        given = self.options
        asked = [name for name, wanted in (("shrink", given.shrink), ("strip", given.strip)) if wanted]
        steps = [given.passes, *asked]
        if given.cpu_fp16_as_fp32:
            steps = ["compute-in-float32", *steps, "store-as-float16"]
        if given.fp16:
            steps += ["compute-in-float16", "fixpoint(canonicalize,fold,cse,dedup,dce)"]
        return ",".join(steps)

    # --- the steps --------------------------------------------------------------------------------------------------

    def _load(self) -> ir.Model:
        """The model as it was given, each time afresh."""
        if isinstance(self.source, Path):
            model = ir.load(self.source, follow_links=self.options.follow_links)
        elif isinstance(self.source, ir.Model):
            model = self.source.clone()
            ir.stamp_versions(model)
        else:
            model = ir.from_proto(self.source)
        if problems := ir.verify(model):
            raise ir.ModelError(problems[0])
        ir.fix_input_dims(model, self.options.input_shapes)
        ir.fix_dims(model, self.options.dims)
        return model

    def _fit(self, model: ir.Model) -> Fitted:
        return fit_versions(model, self.options.opset, self.options.min_ort)

    def _highest_opset(self) -> int:
        """What passes may raise the opset to: what was asked for stays as it was asked."""
        if self.options.opset is not None or self.options.target == "onnx":
            return 0
        return loads_in(self.options.min_ort or installed_release()).opset

    def _optimize(self, model: ir.Model, pipeline: Pipeline) -> Report:
        from .runtime.evaluator import OrtEvaluator

        checks = [VerifyEach()] if self.options.check_each_pass else []
        try:
            return pipeline.run(
                model,
                [Progress(self.progress), *checks, *self.instruments],
                evaluator=OrtEvaluator(),
                settings=Settings(
                    self.options.target,
                    highest_opset=self._highest_opset(),
                    release=self.options.min_ort or installed_release(),
                    fp16=self.options.fp16,
                ),
                disabled=self.options.disable,
                limit=self.options.limit,
                on_failure="raise" if self.options.strict else "skip",
                restore=lambda: self._fit(self._load()).model,
            )
        except PassFailure as failure:
            raise ir.PipelineError(
                ir.Diagnostic("pass-failed", str(failure), hint=f"leave it out: --disable {failure.culprit}")
            ) from failure

    def _deliver(self, result: Result, *, lossless: bool) -> Result:
        """Write beside the place, verify and measure the very file that was written, then rename it."""
        with tempfile.TemporaryDirectory(prefix="optimize-graph-") as name:
            folder = Path(name)
            target = self.output or folder / "result.onnx"
            self.progress("write")
            with self._stage(result.model, target, lossless) as staged:
                if self.options.verify or self.options.measure:
                    with _saying_how_to_go_on():
                        self._examine(result, self._original(folder), staged.path)
                if self.output is not None:
                    staged.commit()
        return result

    def _stage(self, model: ir.Model, target: Path, lossless: bool) -> ir.Staged:
        if lossless:
            return ir.stage(model, target)
        if isinstance(self.source, Path):
            return ir.stage_unchanged(self.source, target, ir.data_files(model))
        return ir.stage_bytes(self._source_bytes(), target)

    def _source_bytes(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source
        if isinstance(self.source, (Path, ir.Model)):
            raise TypeError("only bytes and protobuf models are written as they came")
        data: bytes = self.source.SerializeToString(deterministic=True)
        return data

    def _original(self, folder: Path) -> Path:
        """A file that ONNX Runtime can open with what the user gave."""
        if isinstance(self.source, Path):
            return self.source
        path = folder / "original.onnx"
        if isinstance(self.source, ir.Model):
            ir.save(self.source.clone(), path)
        else:
            path.write_bytes(self._source_bytes())
        return path

    def _examine(self, result: Result, original: Path, staged: Path) -> None:
        from . import runtime

        runtime.check_installation()
        how = runtime.SessionOptions(
            provider=self.options.provider,
            threads=self.options.threads,
            custom_ops=self.options.custom_ops,
            seed=self.options.seed,
        )
        self.progress("inputs")
        until = time.monotonic() + self.options.verify_seconds / 2
        model = self._load()
        feeds = runtime.usable_feeds(
            runtime.open_session(original, replace(how, optimize=False)),
            model,
            self.options.inputs,
            seed=self.options.seed,
            proceed=lambda: time.monotonic() < until,
        )
        if self.options.verify:
            self.progress("verify")
            result.verification = runtime.verify(
                original,
                staged,
                feeds,
                how,
                exact=result.exactness is Exactness.EXACT,
                rtol=self.options.rtol,
                atol=self.options.atol,
                time_limit_s=self.options.verify_seconds,
                model=model,
                in_half=any(rewrite.rule == HALVING for rewrite in result.rewrites),
            )
            if not result.verification.ok:
                raise _rejected(result)
        if self.options.measure:
            from .measuring import Subject, measure_on, point_feeds

            subjects = [Subject(original, model), Subject(staged, result.model)]
            points = self.options.measure_at
            sets = point_feeds(subjects[0], at=points, options=how) if points else feeds[:1]
            result.measurement = measure_on(
                sets, subjects, how, seconds=self.options.measure_seconds, progress=self.progress
            )

    # --- what is said -----------------------------------------------------------------------------------------------

    def _refuse_unknown_names(self) -> None:
        known = {*REGISTRY.passes, *REGISTRY.rules}
        for name in self.options.disable:
            if name not in known:
                raise ir.PipelineError(
                    ir.Diagnostic(
                        "unknown-rule", f"no rule or pass is called {name!r}", hint="see optimize-graph passes"
                    )
                )

    def _left_out(self, culprit: str, reason: str) -> ir.Diagnostic:
        """A pass that failed, and the command that shows it again."""
        replay = ["optimize-graph", str(self.source) if isinstance(self.source, Path) else "MODEL.onnx", "--dry-run"]
        replay += ["--no-verify", "--strict", "--check-each-pass", "--passes", self._pipeline_text()]
        for plugin in self.options.plugins:
            replay += ["--plugin", plugin]
        for name in self.options.disable:
            replay += ["--disable", name]
        return ir.Diagnostic(
            "pass-left-out",
            f"{culprit} failed and was left out: {reason}",
            hint=f"to see it again: {shlex.join(replay)}",
            severity=ir.Severity.WARNING,
        )


@contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    """What ONNX Runtime does not run cannot be verified, and so is not written."""
    try:
        yield
    except ir.ModelError as error:
        found = error.diagnostic
        if found.code not in ("onnxruntime-refuses-model", "run-failed", "no-usable-inputs"):
            raise
        hint = "nothing was written; --inputs, --custom-ops or --no-verify may help"
        raise ir.VerificationError(replace(found, hint=f"{found.hint}; {hint}" if found.hint else hint)) from error


def _unchanged(lost: Sequence[str]) -> ir.Diagnostic:
    return ir.Diagnostic(
        "passed-through",
        f"the model has {', '.join(lost)}, which rewriting would lose: it is written as it came",
        severity=ir.Severity.WARNING,
    )


def _rejected(result: Result) -> ir.VerificationError:
    verification = result.verification
    assert verification is not None
    suspects = ", ".join(dict.fromkeys(rewrite.rule for rewrite in result.rewrites)) or "none"
    return ir.VerificationError(
        ir.Diagnostic(
            "verification-failed",
            verification.summary(),
            hint=f"nothing was written; rules that fired: {suspects}; --disable leaves one out",
        )
    )
