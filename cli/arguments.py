"""Arguments that several verbs share, and what they become."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..options import CPU_ISAS, PROVIDERS, RANGES, TARGETS, Options

if TYPE_CHECKING:
    from ..runtime import SessionOptions


def add_job(parser: argparse.ArgumentParser) -> None:
    """What is done to a model."""
    what = parser.add_argument_group("optimization")
    what.add_argument("--target", default="ort-cpu", choices=TARGETS, help="what it is optimized for (ort-cpu)")
    what.add_argument(
        "--cpu-isa",
        default="portable",
        choices=CPU_ISAS,
        help="CPU instruction set to optimize for: what suits all (portable), or this CPU's (host)",
    )
    what.add_argument(
        "--min-ort", type=_release, metavar="VERSION", help="the oldest ONNX Runtime that must load the result"
    )
    what.add_argument("--opset", type=number("opset"), metavar="N", help="convert the model to this opset first")
    what.add_argument(
        "--passes", default="default", metavar="TEXT", help="a preset or pipeline: 'fixpoint(fold,cse),dce'"
    )
    what.add_argument("--disable", action="append", default=[], metavar="RULE", help="leave out a rule or pass")
    what.add_argument("--max-rewrites", type=number("max_rewrites"), metavar="N", help="stop after N rewrites")
    add_dims(what)
    what.add_argument(
        "--freeze",
        action="append",
        default=[],
        metavar="NAME|all",
        help="make an input that has a default a constant, out of the interface",
    )
    what.add_argument(
        "--upcast-fp16", action="store_true", help="compute float16 in float32 inside: faster on processors"
    )
    what.add_argument(
        "--fp16", action="store_true", help="compute float32 in float16 inside, where that is safe: for ort-cuda"
    )
    what.add_argument(
        "--compress-constants", action="store_true", help="write constants of one repeated value as operators"
    )
    what.add_argument(
        "--strip-metadata", action="store_true", help="drop what the exporter noted on nodes: stack traces, docs"
    )
    what.add_argument(
        "--plugin", action="append", default=[], metavar="MODULE", help="import a module of rules or passes"
    )


def add_proven_job(parser: argparse.ArgumentParser) -> None:
    """What is done to a model, how results are compared, and how models are run."""
    add_job(parser)
    verification = parser.add_argument_group("verification")
    add_tolerance(verification)
    add_session(verification)


def add_dims(parser: argparse._ActionsContainer) -> None:
    """Sizes for open dims."""
    parser.add_argument(
        "--input-shape", action="append", default=[], type=_input_shape, metavar="NAME:1,3,224,224", help="fix an input"
    )
    parser.add_argument("--dim", action="append", default=[], type=_dim, metavar="NAME=8", help="fix a symbolic dim")


def add_points(parser: argparse._ActionsContainer, dest: str = "at") -> None:
    """Where models are measured."""
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        type=_point,
        dest=dest,
        metavar="DIM=8,DIM=128",
        help="measure at these sizes of symbolic dims; may be repeated",
    )


def add_tolerance(parser: argparse._ActionsContainer) -> None:
    """How results are compared."""
    parser.add_argument(
        "--verify-timeout", type=number("verify_timeout"), default=120.0, metavar="S", help="time limit (120)"
    )
    parser.add_argument("--rtol", type=number("rtol"), help="relative tolerance instead of the model's own noise floor")
    parser.add_argument("--atol", type=number("atol"), help="absolute tolerance instead of the model's own noise floor")


def add_session(parser: argparse._ActionsContainer) -> None:
    """How models are run."""
    parser.add_argument("--inputs", action="append", default=[], type=Path, metavar="FILE.npz", help="your own inputs")
    add_threads(parser)
    parser.add_argument("--provider", default="cpu", choices=PROVIDERS, help="where it runs (cpu)")
    parser.add_argument("--custom-ops", action="append", default=[], type=Path, metavar="LIB", help="custom operators")
    parser.add_argument("--seed", type=number("seed"), default=0, metavar="N", help="seed of the made inputs (0)")
    parser.add_argument("--follow-symlinks", action="store_true", help="follow links to the model and its data")


def add_threads(parser: argparse._ActionsContainer) -> None:
    """What models are chosen for, and run with."""
    parser.add_argument(
        "--threads",
        type=number("threads"),
        metavar="N",
        help="threads that ONNX Runtime will have, 0 for its own number (measured with 1, chosen for 1 to 4)",
    )


def add_json(parser: argparse._ActionsContainer) -> None:
    """For verbs that print a table."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def session_options(given: argparse.Namespace) -> SessionOptions:
    """How models are run, as `add_session` asks."""
    from ..runtime import SessionOptions

    threads = 1 if given.threads is None else given.threads
    return SessionOptions(provider=given.provider, threads=threads, custom_ops=tuple(given.custom_ops), seed=given.seed)


def options(given: argparse.Namespace) -> Options:
    """What the arguments of `add_job`, `add_tolerance` and `add_session` ask for; verbs without some keep defaults."""
    words = vars(given)
    fields = {name: value for name, value in words.items() if name in Options.__dataclass_fields__}
    fields |= {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    if "input_shape" in words:
        fields |= {"input_shapes": dict(given.input_shape), "dims": dict(given.dim)}
    if "plugin" in words:
        fields["plugins"] = tuple(given.plugin)
    return Options(**fields)


@contextmanager
def progress(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Says on a terminal what is being done; silent elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status("load") as status:
        yield status.update


def _input_shape(text: str) -> tuple[str, tuple[int | str, ...]]:
    name, colon, dims = text.rpartition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:1,3,224,224")
    parts = [part.strip() for part in dims.split(",")] if dims.strip() else []
    if not all(part.isdigit() or part.isidentifier() for part in parts):
        raise argparse.ArgumentTypeError(f"{dims!r} is not a list of sizes or names")
    return name, tuple(int(part) if part.isdigit() else part for part in parts)


def number(name: str) -> Callable[[str], float]:
    """The parser of a numeric option, which refuses what lies outside of its range (`options.RANGES`)."""
    allowed = RANGES[name]

    def parse(text: str) -> float:
        try:
            given = int(text) if allowed.is_integer else float(text)
        except ValueError:
            given = float("nan")
        if not allowed.has(given):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return given

    return parse


def output_file(text: str) -> Path:
    """The path of a file to be written. `-` is refused: a model and its data are verified as files."""
    if text in ("", "-"):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a file; standard output is not supported")
    return Path(text)


def _release(text: str) -> str:
    """A release of ONNX Runtime that is known, or the installed one. Raises PipelineError."""
    from ..jobs.optimization.target_versions import check_release

    check_release(text)
    return text


def _point(text: str) -> dict[str, int]:
    return dict(_dim(part.strip()) for part in text.split(","))


def _dim(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not equals or not name or not size.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=8")
    return name, int(size)
