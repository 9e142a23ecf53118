"""The command: `optimize-graph IN OUT`. Parses, wires, prints; the work is in `api`.

Exit codes: 0 done; 1 the model or the pipeline is at fault; 2 usage; 3 verification could not be satisfied. Nothing but
results goes to standard output. Everything heavy is imported late: `--help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import Options, Result

DONE, AT_FAULT, USAGE, UNVERIFIED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives back the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list_passes:
        return _guarded(lambda: _list_passes(given.plugin))
    if given.model is None:
        parser.error("the model to optimize is missing")
    if given.output is None and not given.dry_run:
        parser.error("the place for the result is missing (or --dry-run)")
    return _guarded(lambda: _optimize(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="optimize-graph",
        description="Optimize an ONNX model: the same results, faster, verified before it is written.",
        epilog="Exit codes: 0 done; 1 the model or the pipeline is at fault; 2 usage; 3 not verified, nothing written.",
    )
    parser.add_argument("model", nargs="?", type=Path, metavar="IN.onnx", help="the model to optimize")
    parser.add_argument(
        "output", nargs="?", type=Path, metavar="OUT.onnx", help="where the result goes; may be IN.onnx"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('optimize-graph')}")

    what = parser.add_argument_group("what is done")
    what.add_argument(
        "--target",
        default="ort-cpu",
        choices=("ort-cpu", "ort-cuda", "onnx"),
        help="what it is optimized for (ort-cpu)",
    )
    what.add_argument("--min-ort", metavar="VERSION", help="the oldest ONNX Runtime that must load the result")
    what.add_argument("--opset", type=int, metavar="N", help="convert the model to this opset first")
    what.add_argument(
        "--passes", default="default", metavar="TEXT", help="a preset or pipeline: 'fixpoint(fold,cse),dce'"
    )
    what.add_argument("--disable", action="append", default=[], metavar="RULE", help="leave out a rule or pass")
    what.add_argument("--limit", type=int, metavar="N", help="stop after N rewrites")
    what.add_argument(
        "--input-shape", action="append", default=[], type=_input_shape, metavar="NAME:1,3,224,224", help="fix an input"
    )
    what.add_argument("--dim", action="append", default=[], type=_dim, metavar="NAME=8", help="fix a symbolic dim")
    what.add_argument(
        "--cpu-fp16-as-fp32", action="store_true", help="compute float16 in float32 inside: faster on processors"
    )
    what.add_argument(
        "--fp16", action="store_true", help="compute float32 in float16 inside, where that is safe: for ort-cuda"
    )
    what.add_argument("--shrink", action="store_true", help="write constants of one repeated value as operators")
    what.add_argument("--strip", action="store_true", help="drop what the exporter noted on nodes: stack traces, docs")
    what.add_argument(
        "--plugin", action="append", default=[], metavar="MODULE", help="import a module of rules or passes"
    )
    what.add_argument("--list-passes", action="store_true", help="print presets, passes and rules, and stop")

    proof = parser.add_argument_group("proof")
    proof.add_argument("--inputs", action="append", default=[], type=Path, metavar="FILE.npz", help="your own inputs")
    proof.add_argument("--no-verify", action="store_true", help="write the result without comparing it")
    proof.add_argument("--verify-seconds", type=float, default=120.0, metavar="S", help="time limit (120)")
    proof.add_argument("--rtol", type=float, help="relative tolerance instead of the model's own noise floor")
    proof.add_argument("--atol", type=float, help="absolute tolerance instead of the model's own noise floor")
    proof.add_argument("--measure", action="store_true", help="measure latency, load time and memory, before and after")
    proof.add_argument("--measure-seconds", type=float, default=6.0, metavar="S", help="time for the latency pairs (6)")
    proof.add_argument("--threads", type=int, default=1, metavar="N", help="threads of ONNX Runtime (1)")
    proof.add_argument("--provider", default="cpu", choices=("cpu", "cuda"), help="where it runs (cpu)")
    proof.add_argument("--custom-ops", action="append", default=[], type=Path, metavar="LIB", help="custom operators")
    proof.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the made inputs (0)")

    files = parser.add_argument_group("files and output")
    files.add_argument("--follow-links", action="store_true", help="follow links to the model and its data")
    files.add_argument("--dry-run", action="store_true", help="do everything but write")
    files.add_argument("--report", type=Path, metavar="FILE.json", help="write what was done as JSON")
    files.add_argument("--strict", action="store_true", help="a pass that fails is an error; else it is left out")
    files.add_argument("--check-each-pass", action="store_true", help="check the model after each pass (slow)")
    files.add_argument(
        "-v", "--verbose", action="count", default=0, help="-v: rewrites by rule; -vv: each, and near misses"
    )
    files.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    return parser


def _input_shape(text: str) -> tuple[str, tuple[int | str, ...]]:
    name, colon, dims = text.rpartition(":")
    if not colon or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:1,3,224,224")
    parts = [part.strip() for part in dims.split(",")] if dims.strip() else []
    if not all(part.isdigit() or part.isidentifier() for part in parts):
        raise argparse.ArgumentTypeError(f"{dims!r} is not a list of sizes or names")
    return name, tuple(int(part) if part.isdigit() else part for part in parts)


def _dim(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not equals or not name or not size.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=8")
    return name, int(size)


def _options(given: argparse.Namespace) -> Options:
    from .api import Options

    return Options(
        target=given.target,
        passes=given.passes,
        disable=tuple(given.disable),
        limit=given.limit,
        opset=given.opset,
        min_ort=given.min_ort,
        input_shapes=dict(given.input_shape),
        dims=dict(given.dim),
        shrink=given.shrink,
        cpu_fp16_as_fp32=given.cpu_fp16_as_fp32,
        fp16=given.fp16,
        strip=given.strip,
        inputs=tuple(given.inputs),
        verify=not given.no_verify,
        verify_seconds=given.verify_seconds,
        rtol=given.rtol,
        atol=given.atol,
        measure=given.measure,
        measure_seconds=given.measure_seconds,
        threads=given.threads,
        provider=given.provider,
        custom_ops=tuple(given.custom_ops),
        follow_links=given.follow_links,
        plugins=tuple(given.plugin),
        strict=given.strict,
        check_each_pass=given.check_each_pass,
        seed=given.seed,
    )


def _optimize(given: argparse.Namespace) -> int:
    from .api import optimize
    from .report import print_result, write_json

    with _progress(given.quiet) as progress:
        result = optimize(given.model, None if given.dry_run else given.output, _options(given), progress=progress)
    if given.report:
        write_json(result, given.report)
    _say_remarks(result, everything=bool(given.verbose))
    if not given.quiet:
        print_result(result, verbosity=given.verbose)
    return DONE


def _say_remarks(result: Result, *, everything: bool) -> None:
    """Warnings always, remarks with -v: both on standard error."""
    for remark in result.remarks:
        if everything or remark.severity != "remark":
            print(f"optimize-graph: {remark.severity}: {remark}", file=sys.stderr)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Says on a terminal what is being done; silent elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console

    with Console(stderr=True).status("load") as status:
        yield status.update


def _list_passes(plugins: Sequence[str]) -> int:
    from .report import print_passes

    print_passes(plugins)
    return DONE


def _guarded(work: Callable[[], int]) -> int:
    """Run `work`; what goes wrong becomes one message and an exit code, never a traceback."""
    from .ir.diagnostics import OptimizeGraphError, VerificationError

    try:
        return work()
    except VerificationError as error:
        return _fail(error, UNVERIFIED)
    except OptimizeGraphError as error:
        return _fail(error, AT_FAULT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read the output has gone
        return DONE
    except KeyboardInterrupt:
        print("optimize-graph: interrupted; nothing was written", file=sys.stderr)
        return 130
    except MemoryError:
        print("optimize-graph: error: out of memory; nothing was written", file=sys.stderr)
        return AT_FAULT


def _fail(error: Exception, code: int) -> int:
    print(f"optimize-graph: error: {error}", file=sys.stderr)
    return code
