"""How many jobs run at once: cores and memory, with the limits of cgroups."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from optimize_graph.jobs.building import executors
from optimize_graph.jobs.building.executors import Processes
from optimize_graph.jobs.building.job_run import JobEnd
from optimize_graph.jobs.building.plan import BuildJob
from optimize_graph.jobs.building.resources import JOB_CONSTANT, available_memory, cores, job_peak
from optimize_graph.options import Options

GIB = 1 << 30


def test_the_limit_of_a_cgroup_counts_and_what_it_can_reclaim_is_free(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable: 8388608 kB\n")
    assert available_memory(tmp_path, meminfo) == int(8 * GIB * 0.9)
    for name, text in (("max", 4 * GIB), ("current", 2 * GIB), ("stat", f"inactive_file {GIB}")):
        (tmp_path / f"memory.{name}").write_text(str(text))
    assert available_memory(tmp_path, meminfo) == int(3 * GIB * 0.9)
    (tmp_path / "memory.max").write_text("max")
    assert available_memory(tmp_path, meminfo) == int(8 * GIB * 0.9)
    assert available_memory(tmp_path / "none", tmp_path / "none") is None


def test_a_quota_of_processor_time_counts(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    assert cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cores(tmp_path) == cores(tmp_path / "none")


def test_a_peak_that_an_earlier_build_saw_counts(tmp_path: Path) -> None:
    job = BuildJob("m", tmp_path / "none.onnx", tmp_path, Options())
    assert job_peak(job) == JOB_CONSTANT
    assert job_peak(BuildJob("m", job.source, tmp_path, Options(), known_peak=GIB)) == GIB


@pytest.mark.parametrize(
    ("width", "memory", "measure", "most"),
    [(3, None, False, 3), (3, 2 * JOB_CONSTANT, False, 2), (3, 1, False, 1), (3, None, True, 1)],
)
def test_no_more_jobs_run_than_cores_memory_and_measuring_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, memory: int | None, measure: bool, most: int
) -> None:
    lock, running, seen = threading.Lock(), [0], [0]

    def perform(job: BuildJob, *_: object) -> JobEnd:
        with lock:
            running[0] += 1
            seen[0] = max(seen[0], running[0])
        threading.Event().wait(0.02)
        with lock:
            running[0] -= 1
        return JobEnd(job.name, "done", 0.0)

    monkeypatch.setattr(executors, "perform", perform)
    monkeypatch.setattr(executors, "available_memory", lambda: memory)
    jobs = [BuildJob(str(n), tmp_path / "none.onnx", tmp_path, Options(measure=measure)) for n in range(9)]
    ended = [end.name for end in Processes(width).run(jobs, None)]
    assert sorted(ended) == [str(n) for n in range(9)]
    assert seen[0] <= most
