"""Where jobs run: in processes of this machine, or on the workers of a Dask cluster."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ... import ir
from .job_run import CRASHED, JobEnd, perform
from .plan import BuildJob
from .resources import available_memory, cores, job_peak
from .result_cache import ResultCache

DASK = "dask://"


class Executor(Protocol):
    """Runs jobs and gives back how each ended, as they end. When its iterator is closed, what still runs is stopped."""

    def run(self, jobs: Sequence[BuildJob], cache: ResultCache | None) -> Generator[JobEnd, None, None]:
        """Run all jobs. Those that measure run one at a time, after the others."""
        ...


@dataclass(frozen=True)
class Processes:
    """Processes of this machine: as many as it has cores, and as fit into its memory together."""

    width: int | None = None
    memory: int | None = None

    def run(self, jobs: Sequence[BuildJob], cache: ResultCache | None) -> Generator[JobEnd, None, None]:
        """Run the largest first: what is left at the end is short."""
        width = self.width or cores()
        memory = self.memory or available_memory()
        stop = threading.Event()
        peaks = {job.name: job_peak(job) for job in jobs}
        with ThreadPoolExecutor(width) as threads:
            try:
                for measures, limit in ((False, width), (True, 1)):
                    pending = sorted(
                        (job for job in jobs if job.measures == measures), key=lambda job: -peaks[job.name]
                    )
                    running: dict[Future[JobEnd], BuildJob] = {}
                    while pending or running:
                        used = sum(peaks[job.name] for job in running.values())
                        for job in list(pending):
                            fits = memory is None or used + peaks[job.name] <= memory or not running
                            if len(running) < limit and fits:
                                running[threads.submit(perform, job, cache, stop.is_set)] = job
                                pending.remove(job)
                                used += peaks[job.name]
                        for done in wait(running, return_when=FIRST_COMPLETED).done:
                            running.pop(done)
                            yield done.result()
            finally:
                stop.set()


@dataclass(frozen=True)
class Dask:
    """A Dask cluster whose workers see the same folders. What a worker that dies had begun is done by another."""

    address: str

    def run(self, jobs: Sequence[BuildJob], cache: ResultCache | None) -> Generator[JobEnd, None, None]:
        """Submit the jobs; the workers' processes end when the lease, a file beside the results, is gone."""
        try:
            import distributed
        except ImportError as error:
            message = "the package `distributed` is not installed"
            hint = "pip install 'optimize-graph[dask]'"
            raise ir.EnvironmentSetupError(ir.Diagnostic("no-dask", message, hint=hint)) from error
        if not jobs:
            return
        lease = jobs[0].folder / f".build-{secrets.token_hex(4)}.lease"
        try:
            client = distributed.Client(self.address, set_as_default=False)
        except (OSError, ValueError) as error:
            message = f"no Dask scheduler answers at {self.address}: {error}"
            raise ir.EnvironmentSetupError(ir.Diagnostic("no-dask", message)) from error
        lease.touch()
        try:
            with client:
                quiet = [job for job in jobs if not job.measures]
                for batch in (quiet, *([job] for job in jobs if job.measures)):
                    names = {
                        client.submit(
                            _on_worker, job, cache, lease, key=f"{lease.name}-{job.name}", pure=False
                        ): job.name
                        for job in batch
                    }
                    for future in distributed.as_completed(list(names), loop=client.loop, raise_errors=False):
                        problem = future.exception()
                        yield (
                            future.result()
                            if problem is None
                            else JobEnd(names[future], CRASHED, 0.0, said=str(problem))
                        )
        finally:
            lease.unlink(missing_ok=True)


def _on_worker(job: BuildJob, cache: ResultCache | None, lease: Path) -> JobEnd:
    return perform(job, cache, lambda: not lease.exists())


def executor(text: str, width: int | None = None) -> Executor:
    """The executor of `processes` or `dask://HOST:PORT`. Raises OptionsError for another text."""
    if text.startswith(DASK):
        return Dask(f"tcp://{text.removeprefix(DASK)}")
    if text != "processes":
        message = f"executor is {text!r}, expected 'processes' or 'dask://HOST:PORT'"
        raise ir.OptionsError(ir.Diagnostic("invalid-build", message))
    return Processes(width)
