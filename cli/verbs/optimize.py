"""Optimize an ONNX model: the same results, faster, verified before it is written."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import DONE, GATE_MISSED, arguments

if TYPE_CHECKING:
    from ...jobs.optimization.result import Result
    from ...options import Options
    from ...passes.pipeline.instruments import Instrument

EPILOG = (
    "Exit codes: 0 done; 1 the model or the pipeline is at fault; 2 usage; 3 not verified, nothing written;\n"
    "4 a gate is missed, nothing written. Options may also stand in pyproject.toml, [tool.optimize-graph]."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="IN.onnx", help="the model to optimize")
    parser.add_argument(
        "output",
        nargs="?",
        type=arguments.output_file,
        metavar="OUT.onnx",
        help="where the result goes; may be IN.onnx",
    )
    arguments.add_groups(parser, "optimization", "verification", "execution", "measurement", "gates", "tuning")
    output = parser.add_argument_group("output")
    output.add_argument("--dry-run", action="store_true", help="do everything but write")
    _add_dump_arguments(output)
    add_report_arguments(output)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if given.output is None and not given.dry_run:
        parser.error("missing OUT.onnx (or pass --dry-run)")
    options = options_of(given, parser, given.model)
    from ...jobs.optimization.optimize import optimize

    def job(options: Options, progress: Callable[[str], None]) -> Result:
        output, instruments = None if given.dry_run else given.output, _instruments(given, options.plugins)
        return optimize(given.model, output, options, progress=progress, instruments=instruments)

    return run_and_print(given, options, job, given.model.name)


def _add_dump_arguments(parser: argparse._ArgumentGroup) -> None:
    """Add what shows the model between passes."""
    for when in ("before", "after"):
        parser.add_argument(
            f"--print-ir-{when}",
            action="append",
            default=[],
            metavar="PASS|all",
            help=f"print the model as text on stderr {when} this pass",
        )
    parser.add_argument("--print-ir-after-change", action="store_true", help="only after passes that changed it")
    parser.add_argument("--dump-dir", type=Path, metavar="DIR", help="write the model after each pass that changed it")


def _instruments(given: argparse.Namespace, plugins: Sequence[str]) -> list[Instrument]:
    """What shows the model between passes. Raises PipelineError for a pass that is not known."""
    from ...ir.diagnostics import Diagnostic, PipelineError, did_you_mean
    from ...passes.pipeline.instruments import ALL, DumpEach, PrintIr
    from ...passes.registry import REGISTRY

    before, after = frozenset(given.print_ir_before), frozenset(given.print_ir_after)
    with REGISTRY.using(plugins):
        for name in sorted((before | after) - {ALL} - REGISTRY.passes.keys()):
            message = f"no pass is called {name!r}{did_you_mean(name, REGISTRY.passes)}"
            raise PipelineError(Diagnostic("unknown-pass", message, hint="see optimize-graph passes"))
    found: list[Instrument] = []
    if before or after or given.print_ir_after_change:
        found.append(PrintIr(_to_stderr, before, after, given.print_ir_after_change))
    return [*found, *([] if given.dump_dir is None else [DumpEach(given.dump_dir)])]


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


def add_report_arguments(parser: argparse._ArgumentGroup) -> None:
    """Add what `run_and_print` reads."""
    parser.add_argument(
        "--report",
        action="append",
        default=[],
        type=_report_file,
        metavar="FILE",
        help="write a report: .json for builds, .html to look at (which measures, too)",
    )
    arguments.add_json(parser)
    arguments.add(parser, "reproducer_dir", "strict", "verify_each")
    arguments.add_config(parser)
    parser.add_argument(
        "--remarks",
        type=arguments.output_file,
        metavar="FILE.jsonl",
        help="write each rewrite, missed rewrite and remark as a line of JSON",
    )
    parser.add_argument("--stats", action="store_true", help="count runs of passes, and where rules fired, on stderr")
    parser.add_argument("--timing", action="store_true", help="the same with seconds")
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="-v: rewrites by rule; -vv: each, and missed rewrites"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but warnings and errors")


def _report_file(text: str) -> Path:
    path = arguments.output_file(text)
    if path.suffix not in (".json", ".html"):
        raise argparse.ArgumentTypeError(f"{path}: the name must end in .json or .html")
    return path


def options_of(given: argparse.Namespace, parser: argparse.ArgumentParser, model: Path) -> Options:
    """The options of the command line and of the configuration for `model`."""
    options = arguments.configured(given, parser, model)
    if options.save_session_options is not None and not options.tune:
        parser.error("--save-session-options requires --tune")
    if any(path.suffix == ".html" for path in given.report):
        options = replace(options, measure=True, model_profile=True)
    return options


def run_and_print(
    given: argparse.Namespace, options: Options, job: Callable[[Options, Callable[[str], None]], Result], title: str
) -> int:
    """Run a job that optimizes; print its result, write its reports, and give the exit code."""
    from ...render.json_report import write_remarks
    from ...render.tables.console import print_result, print_uses
    from ..job import run_job

    flags = shlex.join(["optimize-graph", *sys.argv[1:]])
    with arguments.progress(given.quiet) as progress:
        result, missed = run_job(lambda: job(options, progress), options, given.report, title=title, flags=flags)
    _say_remarks(result, everything=bool(given.verbose))
    if given.json:
        print(json.dumps(result.to_json(), indent=2))
    elif not given.quiet:
        print_result(result, verbosity=given.verbose)
    if given.remarks is not None:
        write_remarks(result, given.remarks)
    if given.timing or given.stats:
        print_uses(result, seconds=given.timing)
    if missed is None:
        return DONE
    print(f"optimize-graph: error: {missed}", file=sys.stderr)
    return GATE_MISSED


def _say_remarks(result: Result, *, everything: bool) -> None:
    """Warnings always, remarks with -v: both on standard error."""
    for remark in result.remarks:
        if everything or remark.severity != "remark":
            print(f"optimize-graph: {remark.severity}: {remark}", file=sys.stderr)
