"""Show what is in a model: interface, operators, parameters, FLOPs, bytes, and where the time goes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the model to look into")
    parser.add_argument("--profile", action="store_true", dest="timed", help="run it under ONNX Runtime's profiler")
    arguments.add(parser, "target", "measure_at")
    arguments.add(parser, *arguments.PER_MODEL)
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    options = arguments.options(given)
    if len(options.measure_at) + len(options.inputs) > 1:
        parser.error("one --at or one --inputs is enough")
    from ...jobs.inspect import inspect
    from ...render.tables.inspection import print_inspection

    with arguments.progress(given.json) as progress:
        found = inspect(
            given.model,
            at=options.measure_at[0] if options.measure_at else None,
            inputs=options.inputs[0] if options.inputs else None,
            timed=given.timed,
            target=options.target,
            options=arguments.session_options(options),
            follow_symlinks=options.follow_symlinks,
            progress=progress,
        )
    if given.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_inspection(found)
    return 0
