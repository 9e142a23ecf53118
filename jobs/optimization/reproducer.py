"""Reproducers: the smallest model on which a rewrite goes wrong, its inputs, and the command that shows it again."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ... import ir, runtime
from ...options import Options
from ...passes.pipeline import pipeline_parser
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.pass_ import Pass, PassFailure
from ...passes.pipeline.pipeline import Fixpoint, Pipeline
from ...passes.registry import REGISTRY
from ..model_source import Source
from .evaluation import computes_in_half
from .pipeline_runner import PipelineRunner
from .target_versions import installed_versions

SECONDS = 30.0  # for cutting one out

REPLAYED = "passes target cpu_isa seed plugins custom_ops min_ort threads rtol atol".split()
"""Options that the command of a reproducer repeats."""


def write_reproducer(
    place: Path, before: ir.Model, rule: str, where: str, feeds: runtime.Feeds, runner: PipelineRunner
) -> str:
    """Cut out of `before`, on which `rule` goes wrong at `where`, what shows it; write it to the folder `place`.

    Gives back the command that replays it; empty where `rule` does nothing wrong by itself on any part of the model.
    Raises MachineError when the folder cannot be written.
    """
    options = alone(rule, runner)

    def cut(*, looks_again: bool) -> runtime.Piece | None:
        until = time.monotonic() + SECONDS

        def shows(piece: runtime.Piece) -> bool:
            return goes_wrong(piece, options, looks_again=looks_again, seconds=max(until - time.monotonic(), 0.0))

        return runtime.reduce_model(before, feeds, shows, around=where, options=how(options), seconds=SECONDS)

    try:
        piece = cut(looks_again=False)
        if piece is not None and not goes_wrong(
            piece, options, seconds=SECONDS
        ):  # the command that replays it looks again
            piece = cut(looks_again=True)
    except ir.ModelError:  # the model as it is between two rewrites does not run
        return ""
    if piece is None:
        return ""
    command = ["optimize-graph", str(place / "model.onnx"), "--dry-run", "--strict", "--config", "off"]
    command += options.words(REPLAYED)
    command += ["--inputs", str(place / "inputs.npz")] if piece.feeds else []
    said = {"schema": 1, "rule": rule, "where": where, "nodes": piece.nodes, "model": runner.source.name}
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.onnx").write_bytes(piece.model)
        if piece.feeds:
            runtime.write_feeds(place / "inputs.npz", piece.feeds)
        document = {**said, "command": command, "pipeline": str(runner.pipeline), "versions": installed_versions()}
        (place / "reproducer.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ir.EnvironmentSetupError(ir.Diagnostic("reproducer-not-written", f"{place}: {error.strerror}")) from error
    return shlex.join(command)


def how(options: Options) -> runtime.SessionOptions:
    """Reproducers run on the processor, in one thread."""
    return runtime.SessionOptions(custom_ops=options.custom_ops, seed=options.seed)


def goes_wrong(
    piece: runtime.Piece, options: Options, *, looks_again: bool = True, seconds: float | None = None
) -> bool:
    """Whether the pipeline of `options` raises on a model, makes it compute something else, or is not repeatable.

    `looks_again`: see `runtime.Reference`. What cannot be told in `seconds` counts as right.
    """
    try:
        runner = PipelineRunner(Source(piece.model), options)
        report, again = runner.run(), runner.run()
        if ir.fingerprint(report.model) != ir.fingerprint(again.model):
            return True
        reference = runtime.Reference(
            piece.model,
            how(options),
            runtime.Criteria(
                exact=report.log.exactness is Exactness.EXACT,
                rtol=options.rtol,
                atol=options.atol,
                second_look=looks_again,
                in_fp16=computes_in_half(report),
            ),
        )
        feeds = [runtime.FeedSet(piece.feeds, "the tensors of the whole model")]
        result = ir.to_bytes(report.model)
        return not runtime.check_result(reference, result, feeds, seconds, result_model=report.model).ok
    except PassFailure:
        return True
    except ir.OptimizeGraphError:  # this part of the model is none by itself
        return False


def alone(rule: str, runner: PipelineRunner) -> Options:
    """Options under which one rule or pass runs as it did in the whole pipeline, and nothing else does."""
    text = f"rewrite{{rules={rule}}}"
    if rule not in REGISTRY.rules:
        text = next((pipeline_parser.show(each) for each in _passes(runner.pipeline) if each.name == rule), rule)
    plain = without_interface(runner.options)
    more = replace(plain, compress_constants=False, strip_metadata=False, upcast_fp16=False, fp16=False)
    return replace(more, passes=text, disable=(), max_rewrites=None)


def without_interface(options: Options) -> Options:
    """For a part of the model, whose inputs are others."""
    return replace(options, opset=None, input_shapes={}, dims={}, freeze=(), inputs=())


def _passes(pipeline: Pipeline | Fixpoint) -> Iterator[Pass]:
    for step in pipeline.steps:
        if isinstance(step, Fixpoint):
            yield from _passes(step)
        else:
            yield step
