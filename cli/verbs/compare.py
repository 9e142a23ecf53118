"""Compare two models: numbers, interface, structure; exit code 3 when numbers or interfaces differ."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import DONE, UNVERIFIED, arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("first", type=Path, metavar="A.onnx", help="the reference")
    parser.add_argument("second", type=Path, metavar="B.onnx", help="what is compared with it")
    arguments.add(parser, "verify_timeout", "rtol", "atol")
    arguments.add(parser, *arguments.PER_MODEL)
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.compare import compare
    from ...render.tables.differences import print_comparison

    options = arguments.options(given)
    with arguments.progress(given.json) as progress:
        found = compare(
            given.first,
            given.second,
            inputs=options.inputs,
            options=arguments.session_options(options),
            rtol=options.rtol,
            atol=options.atol,
            seconds=options.verify_timeout,
            follow_symlinks=options.follow_symlinks,
            progress=progress,
        )
    if given.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_comparison(found, given.first.stem, given.second.stem)
    return DONE if found.agrees else UNVERIFIED
