"""The main job with its reports: for the main command, and for the processes of a build.

`python -P -m optimize_graph.cli.job` is such a process: the job comes by standard input, which stays open as long as
the build lives. The exit code and the messages are those of the main command; the peak memory goes to standard output.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import DONE, GATE_MISSED, guarded

if TYPE_CHECKING:
    from ..jobs.optimization.gates import GateError
    from ..jobs.optimization.result import Result
    from ..options import Options
    from . import Failure


def run_job(
    job: Callable[[], Result], options: Options, reports: Sequence[Path], *, title: str, flags: str = ""
) -> tuple[Result, GateError | None]:
    """Run a job and write its reports; the gate that is missed, too, where nothing is delivered for it."""
    from ..jobs.optimization.gates import GateError
    from ..passes.registry import REGISTRY
    from ..render.json_report import write_json

    missed: GateError | None = None
    try:
        result = job()
    except GateError as error:
        missed, result = error, error.result
    for path in reports:
        if path.suffix == ".html":
            from ..render.html_report import write_page  # late, as templates are

            with REGISTRY.using(options.plugins):  # the page quotes what rules say of themselves
                write_page(result, path, title=title, flags=flags)
        else:
            write_json(result, path)
    return result, missed


def main() -> int:
    """Run the job that standard input describes."""
    return guarded(_run)


def _run(failure: Failure) -> int:
    import pickle
    import resource

    from ..jobs.building.plan import BuildJob
    from ..jobs.optimization.optimize import optimize

    job: BuildJob = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    reports = (job.report, job.page)
    failure.given = argparse.Namespace(report=reports)
    flags = f"optimize-graph build: {job.source} {job.output}"
    optimized = partial(optimize, job.source, job.output, job.options)
    _, missed = run_job(optimized, job.options, reports, title=job.source.name, flags=flags)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    if missed is None:
        return DONE
    print(f"optimize-graph: error: {missed}", file=sys.stderr)
    return GATE_MISSED


def _end_with_parent() -> None:
    """Stop as by SIGTERM when standard input ends: the build, or the worker of a cluster, has died."""
    while os.read(sys.stdin.fileno(), 1 << 16):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
