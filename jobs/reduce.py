"""Cutting a model down to the smallest part that still goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import ir, runtime
from ..options import Options
from ..passes.registry import REGISTRY
from .bisect import run_test
from .model_source import Given, Source
from .optimization.evaluation import Evaluation, as_verification_error
from .optimization.reproducer import goes_wrong, without_interface
from .temporary_folder import workspace


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
        raise ir.EnvironmentSetupError(
            ir.Diagnostic("output-is-input", f"{output}: the part would replace the whole model")
        )
    with REGISTRY.using(options.plugins), workspace() as folder:
        evaluation = Evaluation(source, options, folder, progress)
        whole, candidate = source.load(), folder / "part.onnx"
        plain = without_interface(options)

        def shows(piece: runtime.Piece) -> bool:
            progress(f"{piece.nodes} nodes")
            if test is None:
                return goes_wrong(piece, plain)
            candidate.write_bytes(piece.model)
            return not run_test(test, candidate)

        with as_verification_error():
            feeds = evaluation.feeds[0].feeds
            piece = runtime.reduce_model(whole, feeds, shows, around=around, options=evaluation.how, seconds=seconds)
    if piece is None:
        raise ir.VerificationError(ir.Diagnostic("nothing-to-reduce", "not even the whole model shows it"))
    try:
        output.write_bytes(piece.model)
        runtime.write_feeds(output.with_suffix(".npz"), piece.feeds)
    except OSError as error:
        raise ir.EnvironmentSetupError(ir.Diagnostic("part-not-written", f"{output}: {error.strerror}")) from error
    return sum(1 for _ in whole.graph), piece.nodes
