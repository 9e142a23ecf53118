"""Measure on this machine from which sizes on heuristic rewrites pay, and write a target file that says so."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", type=arguments.output_file, metavar="OUT.toml", help="the target file to write")
    arguments.add(parser, "target", "threads")
    arguments.add_seconds(parser, 2.0, "the most time for each size of each rewrite")
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.calibrate import calibrate, target_text

    options = arguments.options(given)
    output: Path = given.output
    base = options.target.absolute() if isinstance(options.target, Path) else options.target
    threads = 1 if options.threads is None else options.threads
    with arguments.progress(given.json) as progress:
        found = calibrate(base, threads=threads, seconds=given.seconds, progress=progress)
    output.write_text(target_text(output.stem, base, found, threads=threads), encoding="utf-8")
    if given.json:
        print(json.dumps([each.to_json() for each in found], indent=2))
    else:
        for each in found:
            print(f"{each.entry} = {'never' if each.threshold is None else each.threshold}  ({each})")
    return 0
