"""Cut a model down to the smallest part that still goes wrong.

Without --test, that is a part that the optimizer fails on or computes something else of. With --test 'COMMAND {}' the
command is run on each part ({} becomes its path): exit code 0 means that the part still shows what you look for.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="IN.onnx", help="the model to cut down")
    parser.add_argument(
        "output", type=arguments.output_file, metavar="OUT.onnx", help="where the part goes; its inputs go to OUT.npz"
    )
    parser.add_argument("--test", metavar="COMMAND", help="a command that exits with 0 where a part ({}) shows it")
    parser.add_argument("--around", default="", metavar="VALUE", help="look near this value first")
    arguments.add_seconds(parser, 120.0, "time for the search")
    arguments.add_groups(parser, "optimization", "execution")
    arguments.add(parser, "verify_timeout", "rtol", "atol")
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.reduce import reduce
    from ...render.tables import console

    with arguments.progress(given.json) as progress:
        nodes = reduce(
            given.model,
            given.output,
            arguments.options(given),
            test=given.test,
            around=given.around,
            seconds=given.seconds,
            progress=progress,
        )
    console.print_reduction(given.output, *nodes, as_json=given.json)
    return 0
