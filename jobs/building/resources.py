"""How many jobs a machine takes at once: cores and memory, as far as the limits of cgroups allow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import floor
from pathlib import Path

from ... import ir
from .plan import BuildJob

MIB = 1 << 20
JOB_CONSTANT = 350 * MIB
JOB_FACTOR = 5
"""A job's peak, as `benchmarks/job_peak_memory.py` sees it: what Python and the libraries take, and a multiple of the
model's bytes for sessions of the original and of the result. Models that take more, for
large activations or weights that operators make, are known by the next build."""

_SHARE = 0.9  # of the available memory: what else runs needs some
_CGROUP = Path("/sys/fs/cgroup")


def job_peak(job: BuildJob) -> int:
    """The estimated peak memory of a job: what it took before, or more by the size of the model with external data."""
    size, source = 0, job.source
    with suppress(OSError, ir.OptimizeGraphError):  # the job will say what is wrong
        size = source.stat().st_size
        names = ir.data_files(ir.load(source, follow_symlinks=job.options.follow_symlinks))
        size += sum((source.parent / name).stat().st_size for name in names)
    return max(JOB_CONSTANT + JOB_FACTOR * size, job.known_peak)


def cores(root: Path = _CGROUP) -> int:
    """The cores that this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in _quotas(root):
        count = min(count, max(1, floor(quota / period)))
    return count


def available_memory(root: Path = _CGROUP, meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that jobs may take together; None where nothing says it."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        found.append(int(line.split()[1]) << 10)
    files = (
        ("memory.max", "memory.current", "inactive_file"),  # version 2
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    )
    for limit, used, inactive in files:
        with suppress(OSError, ValueError):  # "max": no limit
            reclaimable = _field((root / limit).with_name("memory.stat"), inactive)
            found.append(int((root / limit).read_text()) - int((root / used).read_text()) + reclaimable)
    return floor(max(0, min(found)) * _SHARE) if found else None


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _quotas(root: Path) -> Iterator[tuple[int, int]]:
    with suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        yield int(quota), int(period)
    with suppress(OSError, ValueError):
        quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
        if int(quota) > 0:
            yield int(quota), int((root / "cpu" / "cpu.cfs_period_us").read_text())
