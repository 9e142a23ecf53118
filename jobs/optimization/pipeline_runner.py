"""The pipeline that some options ask for, ready to be run on the original any number of times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from ... import ir
from ...options import Options
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.instruments import Instrument, Progress, VerifyEach
from ...passes.pipeline.pass_ import Settings
from ...passes.pipeline.pipeline import Pipeline, PipelineResult
from ...passes.pipeline.rewrite_log import Exclusions
from ...passes.registry import REGISTRY
from ...passes.targets.ort_releases import loads_in
from ...passes.targets.target import NCHWC_BLOCKS, USUAL_THREADS, Target
from ...runtime.ort.device import widest_vectors
from ..model_source import Source
from .run_config import RunConfig
from .target_versions import ConvertedModel, installed_release, verify_target


class PipelineRunner:
    """Runs are independent of each other: each starts from the original as it was given.

    `instruments` see whole runs, not the prefixes that fault isolation replays.
    The plugins of `options` must be in force (`REGISTRY.using`) when one is made and when it runs.
    Raises PipelineError for a target, rule or pipeline that is not known.
    """

    def __init__(
        self,
        source: Source,
        options: Options,
        *,
        tell: Callable[[str], None] = lambda step: None,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        _validate_options(options)
        self.source, self.options, self.tell, self.instruments = source, options, tell, instruments
        self.pipeline = Pipeline.parse(pipeline_text(options))
        target = Target(
            options.target,
            release=options.min_ort or installed_release(),
            threads=(options.threads, options.threads) if options.threads else USUAL_THREADS,
            nchwc_blocks=NCHWC_BLOCKS[_host_isa() if options.cpu_isa == "host" else options.cpu_isa],
        )
        self.settings = Settings(
            target,
            verify_target=Target(name) if (name := verify_target(options)) else None,
            highest_opset=_highest_opset(options),
            fp16=options.fp16,
            force=target.file.always,
        )

    def fresh(self) -> ConvertedModel:
        """The original at the versions that were asked for."""
        return self.source.convert(self.source.load())

    @property
    def default_config(self) -> RunConfig:
        """What the options exclude."""
        return RunConfig(Exclusions(frozenset({*self.options.disable, *self.settings.target.file.never})))

    def run(
        self,
        config: RunConfig | None = None,
        converted: ConvertedModel | None = None,
        *,
        limit: int | None = None,
        on_failure: Literal["raise", "skip"] = "raise",
    ) -> PipelineResult:
        """Run on `converted`, which is used up, or on a fresh original. Raises PassFailure with on_failure="raise"."""
        from ...runtime.constant_evaluator import OrtEvaluator

        config = config or self.default_config
        model = (converted or self.fresh()).model
        checks = [VerifyEach()] if self.options.verify_each else []
        return self.pipeline.run(
            model,
            [Progress(self.tell), *checks, *(self.instruments if limit is None else ())],
            evaluator=OrtEvaluator(),
            settings=replace(self.settings, force=self.settings.force | config.force),
            exclusions=config.exclusions,
            limit=self.options.max_rewrites if limit is None else limit,
            on_failure=on_failure,
            restore=lambda: self.fresh().model,
        )


def _host_isa() -> str:
    """The `--cpu-isa` of this CPU: only AVX and AVX2 have NCHWc blocks of 8."""
    widest = widest_vectors()
    return {"avx": "avx2", "avx2": "avx2", "": "portable"}.get(widest, "avx512")


def pipeline_text(options: Options) -> str:
    """The pipeline in text form, with what the options add to `passes`."""
    asked = [
        name
        for name, wanted in (
            ("compress-constants", options.compress_constants),
            ("strip-metadata", options.strip_metadata),
        )
        if wanted
    ]
    steps = [options.passes, *asked]
    if options.upcast_fp16:
        steps = ["upcast-fp16", *steps, "store-weights-fp16"]
    if options.fp16:
        steps += ["convert-to-fp16", "fixpoint(canonicalize,constant-fold,cse,dedup-initializers,dce)"]
    return ",".join(steps)


def exactness_of(report: PipelineResult, converted: ConvertedModel) -> Exactness:
    """How much a result may differ: a conversion of opsets may round otherwise too."""
    return max(report.log.exactness, Exactness.ROUNDING if converted.is_converted else Exactness.EXACT)


def _highest_opset(options: Options) -> int:
    """What passes may raise the opset to: what was asked for stays as it was asked."""
    if options.opset is not None or not Target(options.target).is_onnxruntime:
        return 0
    return loads_in(options.min_ort or installed_release()).opset


def _validate_options(options: Options) -> None:
    target = Target(options.target)
    if options.upcast_fp16 and not target.is_cpu:
        raise _error("wrong-target", f"computing float16 in float32 is for ONNX Runtime's CPU provider, not {target}")
    if options.fp16 and not target.is_cuda:
        raise _error("wrong-target", f"computing float32 in float16 is for ONNX Runtime's CUDA provider, not {target}")
    known = {*REGISTRY.passes, *REGISTRY.rules}
    for name in (*options.disable, *sorted(target.file.always | target.file.never)):
        if name not in known:
            where = "" if name in options.disable else f"target {target}: "
            message = f"{where}no rule or pass is called {name!r}{ir.did_you_mean(name, known)}"
            raise _error("unknown-rule", message, "see optimize-graph passes")


def _error(code: str, message: str, hint: str = "") -> ir.PipelineError:
    return ir.PipelineError(ir.Diagnostic(code, message, hint=hint))
