"""List presets, passes and rules, with the first line of what each says of itself."""

from __future__ import annotations

import argparse

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plugin", action="append", default=[], metavar="MODULE", help="import a module first")
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...render.tables import console

    console.print_passes(given.plugin, as_json=given.json)
    return 0
