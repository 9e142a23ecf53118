"""Tell every place that a rule or pass considered, with the reason why it did or did not do something there."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rule", metavar="RULE", help="a rule or pass (see: optimize-graph passes)")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="the model")
    arguments.add_groups(parser, "optimization")
    arguments.add(parser, "threads", "follow_symlinks")
    arguments.add_config(parser)
    arguments.add_json(parser)


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from ...jobs.explain import explain
    from ...render.tables import console

    console.print_explanation(
        explain(given.rule, given.model, arguments.configured(given, parser, given.model)), as_json=given.json
    )
    return 0
