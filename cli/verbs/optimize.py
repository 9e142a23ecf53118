"""Optimize an ONNX model: the same results, faster, verified before it is written."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import DONE, GATE_MISSED, arguments, configuration

if TYPE_CHECKING:
    from ...jobs.optimization.result import Result

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
    output.add_argument(
        "--report",
        action="append",
        default=[],
        type=arguments.output_file,
        metavar="FILE",
        help="write a report: .json for builds, .html to look at (which measures, too)",
    )
    arguments.add_json(output)
    arguments.add(output, "reproducer_dir", "strict", "verify_each")
    arguments.add_config(output)
    output.add_argument(
        "-v", "--verbose", action="count", default=0, help="-v: rewrites by rule; -vv: each, and missed rewrites"
    )
    output.add_argument("-q", "--quiet", action="store_true", help="print nothing but warnings and errors")


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if given.output is None and not given.dry_run:
        parser.error("missing OUT.onnx (or pass --dry-run)")
    options = arguments.options(given, configuration.read(given.config, given.model))
    if options.save_session_options is not None and not options.tune:
        parser.error("--save-session-options requires --tune")
    from ...render.json_report import to_json
    from ...render.tables.console import print_result
    from ..job import run_job

    wrong = [path for path in given.report if path.suffix not in (".json", ".html")]
    if wrong:
        parser.error(f"--report {wrong[0]}: the name must end in .json or .html")
    if any(path.suffix == ".html" for path in given.report):
        options = replace(options, measure=True, model_profile=True)
    flags = shlex.join(["optimize-graph", *sys.argv[1:]])
    output = None if given.dry_run else given.output
    with arguments.progress(given.quiet) as progress:
        result, missed = run_job(given.model, output, options, given.report, flags=flags, progress=progress)
    _say_remarks(result, everything=bool(given.verbose))
    if given.json:
        print(json.dumps(to_json(result), indent=2))
    elif not given.quiet:
        print_result(result, verbosity=given.verbose)
    if missed is None:
        return DONE
    print(f"optimize-graph: error: {missed}", file=sys.stderr)
    return GATE_MISSED


def _say_remarks(result: Result, *, everything: bool) -> None:
    """Warnings always, remarks with -v: both on standard error."""
    for remark in result.remarks:
        if everything or remark.severity != "remark":
            print(f"optimize-graph: {remark.severity}: {remark}", file=sys.stderr)
