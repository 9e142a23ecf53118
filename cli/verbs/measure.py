"""Measure models side by side: latency, load time, size and memory; the first is the reference."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx", help="the first is the reference")
    arguments.add(parser, "measure_at")
    arguments.add_seconds(parser, 6.0, "the most time for latencies, per --at")
    arguments.add(parser, *arguments.PER_MODEL)
    arguments.add_config(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.measure import measure
    from ...render.tables.measurements import print_measurement

    options = arguments.configured(given, parser, given.models[0])
    with arguments.progress(given.json) as progress:
        found = measure(
            given.models,
            at=options.measure_at,
            inputs=options.inputs,
            options=arguments.session_options(options),
            seconds=given.seconds,
            follow_symlinks=options.follow_symlinks,
            progress=progress,
        )
    if given.json:
        print(json.dumps({"models": [str(path) for path in given.models], **found.to_json()}, indent=2))
    else:
        print_measurement(found, [path.stem for path in given.models])
    return 0
