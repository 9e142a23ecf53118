"""Reproducers: the smallest model on which a rewrite goes wrong, its inputs, and the command that shows it again."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from . import ir, runtime
from .bisection import run_test
from .optimizer import Optimizer
from .options import Options
from .passes.engine import spec
from .passes.engine.exactness import Exactness
from .passes.engine.pass_ import Pass, PassFailure
from .passes.engine.pipeline import Fixpoint, Pipeline
from .passes.engine.registry import REGISTRY
from .proof import Proof, computes_in_half, saying_how_to_go_on
from .source import Given, Source
from .versions import installed_versions

SECONDS = 30.0  # for cutting one out


def write_reproducer(
    place: Path, before: ir.Model, rule: str, where: str, feeds: runtime.Feeds, optimizer: Optimizer
) -> str:
    """Cut out of `before`, on which `rule` goes wrong at `where`, what shows it; write it to the folder `place`.

    Gives back the command that replays it; empty where `rule` does nothing wrong by itself on any part of the model.
    Raises MachineError when the folder cannot be written.
    """
    options = alone(rule, optimizer)
    how = runtime.SessionOptions(custom_ops=options.custom_ops, seed=options.seed)
    try:
        piece = runtime.reduce_model(
            before, feeds, lambda each: goes_wrong(each, options), around=where, options=how, seconds=SECONDS
        )
    except ir.ModelError:  # the model as it is between two rewrites does not run
        return ""
    if piece is None:
        return ""
    command = ["optimize-graph", str(place / "model.onnx"), "--dry-run", "--strict", *words(options)]
    command += ["--inputs", str(place / "inputs.npz")] if piece.feeds else []
    said = {"schema": 1, "rule": rule, "where": where, "nodes": piece.nodes, "model": optimizer.source.name}
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.onnx").write_bytes(piece.model)
        if piece.feeds:
            runtime.write_feeds(place / "inputs.npz", piece.feeds)
        document = {**said, "command": command, "pipeline": str(optimizer.pipeline), "versions": installed_versions()}
        (place / "reproducer.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ir.MachineError(ir.Diagnostic("reproducer-not-written", f"{place}: {error.strerror}")) from error
    return shlex.join(command)


def reduce(
    model: Given,
    output: Path,
    options: Options | None = None,
    *,
    test: str | None = None,
    around: str = "",
    seconds: float = 120.0,
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[int, int]:
    """Write the smallest part of `model` that goes wrong to `output`, and its inputs beside it as `.npz`.

    `test`: a command that exits with 0 where a part, whose path stands for {}, shows what is looked for; by default
    that the pipeline raises on it or makes it compute something else. Gives back the nodes before and after.
    Raises VerificationError where not even the whole model shows it, and what `optimize` raises.
    """
    options = options or Options()
    source = Source.of(model, options)
    if isinstance(source.given, Path) and output.exists() and output.samefile(source.given):
        raise ir.MachineError(ir.Diagnostic("output-is-input", f"{output}: the part would replace the whole model"))
    with tempfile.TemporaryDirectory(prefix="optimize-graph-") as name:
        proof = Proof(source, options, Path(name), progress)
        whole, candidate = source.load(), Path(name) / "part.onnx"
        plain = _without_interface(options)

        def shows(piece: runtime.Piece) -> bool:
            progress(f"{piece.nodes} nodes")
            if test is None:
                return goes_wrong(piece, plain)
            candidate.write_bytes(piece.model)
            return not run_test(test, candidate)

        with saying_how_to_go_on():
            feeds = proof.feeds[0].feeds
            piece = runtime.reduce_model(whole, feeds, shows, around=around, options=proof.how, seconds=seconds)
    if piece is None:
        raise ir.VerificationError(ir.Diagnostic("nothing-to-reduce", "not even the whole model shows it"))
    try:
        output.write_bytes(piece.model)
        runtime.write_feeds(output.with_suffix(".npz"), piece.feeds)
    except OSError as error:
        raise ir.MachineError(ir.Diagnostic("part-not-written", f"{output}: {error.strerror}")) from error
    return sum(1 for _ in whole.graph), piece.nodes


def goes_wrong(piece: runtime.Piece, options: Options) -> bool:
    """Whether the pipeline of `options` raises on a model, makes it compute something else, or is not repeatable."""
    try:
        optimizer = Optimizer(Source(piece.model), options)
        report, again = optimizer.run(), optimizer.run()
        if ir.fingerprint(report.model) != ir.fingerprint(again.model):
            return True
        reference = runtime.Reference(
            piece.model,
            runtime.SessionOptions(custom_ops=options.custom_ops, seed=options.seed),
            exact=report.journal.exactness is Exactness.EXACT,
            rtol=options.rtol,
            atol=options.atol,
            in_half=computes_in_half(report),
        )
        feeds = [runtime.FeedSet(piece.feeds, "the tensors of the whole model")]
        return not reference.verify(ir.to_bytes(report.model), feeds, result_model=report.model).ok
    except PassFailure:
        return True
    except ir.OptimizeGraphError:  # this part of the model is none by itself
        return False


def alone(rule: str, optimizer: Optimizer) -> Options:
    """Options under which one rule or pass runs as it did in the whole pipeline, and nothing else does."""
    text = f"rewrite{{rules={rule}}}"
    if rule not in REGISTRY.rules:
        text = next((spec.show(each) for each in _passes(optimizer.pipeline) if each.name == rule), rule)
    plain = _without_interface(optimizer.options)
    more = replace(plain, shrink=False, strip=False, cpu_fp16_as_fp32=False, fp16=False)
    return replace(more, passes=text, disable=(), limit=None)


def _without_interface(options: Options) -> Options:
    """For a part of the model, whose inputs are others."""
    return replace(options, opset=None, input_shapes={}, dims={}, inputs=())


def _passes(pipeline: Pipeline | Fixpoint) -> Iterator[Pass]:
    for step in pipeline.steps:
        if isinstance(step, Fixpoint):
            yield from _passes(step)
        else:
            yield step


def words(options: Options) -> list[str]:
    """What the command needs to be told of these options."""
    told = ["--passes", options.passes, "--target", options.target, "--seed", str(options.seed)]
    for name, values in (("--plugin", options.plugins), ("--custom-ops", options.custom_ops)):
        for value in values:
            told += [name, str(value)]
    for name, number in (("--min-ort", options.min_ort), ("--rtol", options.rtol), ("--atol", options.atol)):
        told += [] if number is None else [name, str(number)]
    return told
