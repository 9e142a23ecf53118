"""List the targets, or check a target file: what is wrong in it, where, and what to do."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.toml", help="the target file to check")
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...render.tables import targets

    if given.file is None:
        targets.print_targets(as_json=given.json)
        return 0
    return int(targets.print_check(given.file, as_json=given.json))
