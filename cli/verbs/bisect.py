"""Find the first rewrite that makes the result wrong, or that makes a command of yours fail.

Without --test, results are compared with the original as the main job does it. With --test 'COMMAND {}' the command is
run on each result ({} becomes its path): exit code 0 means that the result is good.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="IN.onnx", help="the model to optimize")
    parser.add_argument("--test", metavar="COMMAND", help="a command that exits with 0 for a good result, {} its path")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the models right before and right after it")
    arguments.add_groups(parser, "optimization", "execution")
    arguments.add(parser, "verify_timeout", "rtol", "atol")
    arguments.add_config(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.bisect import bisect
    from ...render.tables import console

    with arguments.progress(given.json) as progress:
        found = bisect(
            given.model,
            arguments.configured(given, parser, given.model),
            test=given.test,
            keep=given.keep,
            progress=progress,
        )
    console.print_finding(found, as_json=given.json)
    return 0
