"""Write a package of rules, passes and a target of your own, which passes its own tests at once."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--name", default="", help="name of the package (that of the folder)")


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.new_plugin import new_plugin

    for path in new_plugin(given.folder, given.name):
        print(path)
    return 0
