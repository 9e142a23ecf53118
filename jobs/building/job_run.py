"""One job of a build: restored from the cache, or done by a fresh process. The same wherever it runs."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .cache_key import cache_key
from .plan import BuildJob
from .result_cache import ResultCache

STATUS = {0: "done", 1: "failed", 2: "usage", 3: "not verified", 4: "gate missed"}
CRASHED, STOPPED = "crashed", "stopped"
GRACE_S = 20.0  # in which a job that is told to stop removes its files
_POLL_S = 0.05
_SAID = 2000  # characters of what a process that crashed wrote last


@dataclass(frozen=True)
class JobEnd:
    """How a job ended. `said`: the error in one line, or the last that a process wrote before it crashed."""

    name: str
    status: str
    seconds: float
    is_cached: bool = False
    said: str = ""
    peak_bytes: int | None = None


def perform(job: BuildJob, cache: ResultCache | None, is_stopped: Callable[[], bool]) -> JobEnd:
    """Restore the result of a job, or run it and remember what it delivered."""
    begin = time.monotonic()
    key = None if cache is None else cache_key(job)
    if cache is not None and key is not None and cache.restore(key, job):
        return JobEnd(job.name, STATUS[0], time.monotonic() - begin, is_cached=True)
    if is_stopped():
        return JobEnd(job.name, STOPPED, 0.0)
    for folder in (job.output.parent, job.report.parent):
        folder.mkdir(parents=True, exist_ok=True)
    status, said, peak = _run(job, is_stopped)
    if cache is not None and key is not None and status == STATUS[0] and cache_key(job) == key:
        cache.keep(key, job)  # the model is the same as when it was begun
    return JobEnd(job.name, status, time.monotonic() - begin, said=said, peak_bytes=peak)


def _run(job: BuildJob, is_stopped: Callable[[], bool]) -> tuple[str, str, int | None]:
    """Run the main job in a fresh process, which ends with this one: its standard input is open as long."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(each)) for each in sys.path)))}
    command = [sys.executable, "-P", "-m", f"{__name__.partition('.')[0]}.cli.job"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environment, start_new_session=True
        )
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(pickle.dumps(job))
                process.stdin.flush()
            while process.poll() is None:
                if is_stopped():
                    _end(process)
                    return STOPPED, "", None
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_S)
        finally:
            _end(process)
            with suppress(BrokenPipeError):
                process.stdin.close()
        out.seek(0)
        err.seek(0)
        said = err.read().decode(errors="replace").strip()
        peak = out.read().split()
    code = process.returncode
    if code not in STATUS or (code == 1 and "Traceback" in said):
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return CRASHED, f"{name}: {said[-_SAID:]}".strip(), None
    errors = [line for line in said.splitlines() if line.startswith("optimize-graph: error: ")]
    said = errors[-1].removeprefix("optimize-graph: error: ") if errors else ""
    return STATUS[code], said, int(peak[-1]) if peak else None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
