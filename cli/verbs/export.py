"""Export a torch module to ONNX, check it against the module, and optimize it.

    optimize-graph export models:encoder encoder.onnx --input 'ids=int64[2,16]:30522' --dynamic ids=0:batch,1:length

The module is exported as it is, in evaluation mode, and what ONNX Runtime computes is compared with it, in its own
precision and in float64, at two sizes of every dynamic dim. Then it is optimized and verified as the main command does,
with its options.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .. import DONE, arguments
from . import optimize

if TYPE_CHECKING:
    from ...jobs.optimization.result import Result
    from ...options import Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "module",
        metavar="MODULE:ATTRIBUTE|FILE.pt2",
        help="a torch module, or a function that gives one (or it and its example inputs); or torch.export.save's file",
    )
    parser.add_argument("output", type=arguments.output_file, metavar="OUT.onnx", help="where the result goes")
    export = parser.add_argument_group("export")
    export.add_argument(
        "--input",
        action="append",
        default=[],
        type=_random_input,
        metavar="NAME=TYPE[DIMS]",
        help="an example input, drawn: x=float32[1,3,9,9]; ids=int64[1,16]:1000 (below), mask=int64[1,16]:1..2",
    )
    export.add_argument(
        "--example", action="append", default=[], type=Path, metavar="FILE.npz", help="example inputs by name"
    )
    export.add_argument(
        "--dynamic",
        action="append",
        default=[],
        type=_dynamic,
        metavar="NAME=AXIS:SYMBOL,…",
        help="dims that stay open: x=0:batch,2:length",
    )
    export.add_argument(
        "--state", type=Path, metavar="FILE", help="weights to load first: .safetensors, or torch's own"
    )
    export.add_argument(
        "--exporter", choices=("dynamo", "torchscript"), default="dynamo", help="torch's exporter (dynamo)"
    )
    export.add_argument("--exporter-opset", type=int, metavar="N", help="the opset to export at (the exporter's own)")
    export.add_argument("--input-name", action="append", metavar="NAME", help="a name of an input, in order")
    export.add_argument("--output-name", action="append", metavar="NAME", help="a name of an output, in order")
    export.add_argument("--no-optimize", action="store_true", help="write what was exported")
    arguments.add_groups(parser, "optimization", "verification", "execution", "measurement", "gates", "tuning")
    optimize.add_report_arguments(parser.add_argument_group("output"))


def _random_input(text: str) -> object:
    from ...jobs.export.module_source import RandomInput

    return arguments.argparse_type(RandomInput.parse)(text)


def _dynamic(text: str) -> object:
    from ...jobs.export.module_source import parse_dynamic

    return arguments.argparse_type(parse_dynamic)(text)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    options = optimize.options_of(given, parser, given.output)
    import warnings

    from ...jobs.export.export import Exported, ExporterOptions, export
    from ...jobs.export.module_source import example_inputs, load_module

    def run_export(options: Options | None, progress: Callable[[str], None]) -> Exported:
        progress("load the module")
        module, inputs = load_module(given.module)
        if given.input or given.example:
            inputs = example_inputs(given.input, given.example, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of the check are remarks of the result
            return export(
                module,
                inputs,
                given.output,
                dynamic_shapes=dict(given.dynamic) or None,
                exporter=ExporterOptions(given.exporter, given.exporter_opset, given.input_name, given.output_name),
                state=given.state,
                optimize=options,
                progress=progress,
            )

    seed = options.seed
    if given.no_optimize:
        with arguments.progress(given.quiet) as progress:
            exported = run_export(None, progress)
        for remark in [] if given.quiet else exported.check.remarks():
            print(f"optimize-graph: {remark.severity}: {remark}", file=sys.stderr)
        return DONE

    def job(options: Options, progress: Callable[[str], None]) -> Result:
        result = run_export(options, progress).optimization
        assert result is not None, "it was asked for"
        return result

    return optimize.run_and_print(given, options, job, str(given.module))
