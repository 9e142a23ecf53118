"""Optimize many models: in processes, by cores and memory, with a cache, one table and one index page.

Models and options stand in [tool.optimize-graph] (`sources`, `output-dir`), or on the command line. A model that fails
stops no other. Exit code: that of the worst job, in the order 2, 1, 3, 4, 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from .. import arguments, configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", nargs="*", metavar="MODEL", help="models, folders or globs (sources of the file)")
    arguments.add_build(parser)
    parser.add_argument("--no-cache", action="store_true", help="neither take results of earlier builds nor keep any")
    arguments.add_config(parser)
    arguments.add_json(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but warnings and errors")
    arguments.add_groups(parser, "optimization", "verification", "execution", "measurement", "gates", "tuning")
    arguments.add(parser, "reproducer_dir", "strict", "verify_each")


def run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    config = configuration.load(given.config)
    settings: dict[str, Any] = dict(config.build())
    for key in configuration.BUILD:
        if value := getattr(given, key.replace("-", "_"), None):
            settings[key] = value
    if given.models:
        settings["sources"] = given.models
    if not settings.get("sources"):
        parser.error("missing models: name them, or set `sources` in [tool.optimize-graph]")
    if "output-dir" not in settings:
        parser.error("missing --output-dir (or `output-dir` in [tool.optimize-graph])")
    from ...jobs.building.build import build
    from ...jobs.building.executors import executor
    from ...jobs.building.plan import plan
    from ...jobs.building.result_cache import LIMIT, ResultCache
    from ...render.build_page import write_index
    from ...render.tables.build import Progress, print_build

    folder = settings["output-dir"]
    jobs = plan(settings["sources"], folder, lambda model: arguments.options(given, config.options(model)))
    cache = None
    if not given.no_cache and (place := settings.get("cache-dir")) != "off":
        cache = ResultCache(place, settings.get("cache-size", LIMIT))
    runs = executor(settings.get("executor", "processes"), settings.get("jobs"))
    with Progress(len(jobs), is_quiet=given.quiet) as progress:
        done = build(jobs, runs, cache, on_end=progress.tell)
    write_index(done, folder / "index.html")
    if given.json:
        print(json.dumps(done.to_json(), indent=2))
    elif not given.quiet:
        print_build(done)
    for row in done.rows:
        if row.end.said:
            print(f"optimize-graph: error: {row.job.name}: {row.end.said}", file=sys.stderr)
    return done.exit_code
