"""Peak resident memory of a fresh process that loads a model and runs it once; on CUDA that of the device, too.

The device's is what NVML says is used once the model has run, less what was used before: ONNX Runtime keeps what it
took. It counts the CUDA context and what other processes do meanwhile, and is None without the package `nvidia-ml-py`.

The child is `python -P -m optimize_graph.runtime.benchmark.peak_memory`, which imports ONNX Runtime and NumPy and
nothing of `ir`, nor what lies in the folder of an untrusted model.
"""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..ort.session_options import Datum, Feeds, SessionOptions

MIB = 1 << 20


@dataclass(frozen=True)
class Peak:
    """Peak resident bytes: of the process before it loads (Python and ONNX Runtime), after loading, after one run.

    `device`: bytes of device memory that loading and running took; None on the CPU, or without a report.
    """

    start: int
    load: int
    run: int
    device: int | None = None

    def to_json(self) -> dict[str, object]:
        """The fields by name."""
        return asdict(self)

    def summary(self) -> str:
        """One line for a person."""
        return f"{self.run / MIB:.0f} MiB ({self.load / MIB:.0f} MiB once loaded, {self.start / MIB:.0f} MiB empty)"


def peak_memory(model: Path, feeds: Feeds, options: SessionOptions | None = None, *, limit_s: float = 600) -> Peak:
    """Measure in a child process. Raises ModelError (`memory-not-measured`) when the child fails or takes too long."""
    from ... import ir

    options = options or SessionOptions()
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command(model, feeds, options, Path(folder)),
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=True,
            )
            return Peak(**json.loads(done.stdout.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            said = f"it took more than {limit_s:g} s"
        except subprocess.CalledProcessError as error:
            lines = error.stderr.strip().splitlines() or [f"exit code {error.returncode}"]
            said = lines[-1][:300]
    diagnostic = ir.Diagnostic(
        "memory-not-measured", f"the measuring process failed: {said}", ir.Location(file=str(model))
    )
    raise ir.ModelError(diagnostic)


def command(model: Path, feeds: Feeds, options: SessionOptions, folder: Path) -> list[str]:
    """The child's command line; what it is to do lies in `folder`."""
    request = folder / "request.pickle"
    request.write_bytes(pickle.dumps((str(model.resolve()), dict(feeds), options)))
    return [sys.executable, "-P", "-m", "optimize_graph.runtime.benchmark.peak_memory", str(request)]


def resident_peak() -> int:
    """The most bytes of this process that were resident at once."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: `ru_maxrss` would start at what the parent had when it forked
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return _windows_peak()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _windows_peak() -> int:
    import ctypes

    class Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS."""

        _fields_ = [
            ("cb", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            *[(f"size_{index}", ctypes.c_size_t) for index in range(8)],
        ]

    counters = Counters(cb=ctypes.sizeof(Counters))
    windll = getattr(ctypes, "windll")  # noqa: B009 (only Windows has it)
    process = ctypes.c_void_p(-1)  # the pseudo handle of this process
    windll.psapi.GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
    return int(counters.size_0)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take: what is free on the machine, or less where its control group has a limit.

    None where that is not known, as outside Linux. `root`: where `proc` and `sys` are.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None
    return min([free, *(max(limit - used, 0) for limit, used in _group_limits(root))])


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """The limit and the use of each control group that this process is in, those around it included."""
    groups = root / "sys/fs/cgroup"
    try:
        own = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        own = []
    unified = next((path for number, _, path in own if number == "0"), "/")
    place = groups / unified.lstrip("/")
    folders = [folder for folder in (place, *place.parents) if folder == groups or groups in folder.parents]
    files = [(folder / "memory.max", folder / "memory.current") for folder in folders]
    files.append((groups / "memory/memory.limit_in_bytes", groups / "memory/memory.usage_in_bytes"))
    for limit, used in files:
        with suppress(OSError, ValueError):  # "max": no limit
            yield int(limit.read_text()), int(used.read_text())


def device_used() -> int | None:
    """Bytes of the first CUDA device that are in use; None where NVML or its Python package is not to be had."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        return int(nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(0)).used)
    except nvml.NVMLError:
        return None


def _child(request: Path) -> None:
    model, feeds, options = pickle.loads(request.read_bytes())
    from ..ort import api

    wanted: dict[str, Datum] = feeds
    start, device = resident_peak(), device_used() if options.provider == "cuda" else None
    session = api.create(Path(model), options)
    load = resident_peak()
    api.prepare(session, wanted)()
    run, taken = resident_peak(), device_used() if device is not None else None
    more = None if device is None or taken is None else max(taken - device, 0)
    print(json.dumps(asdict(Peak(start, load, run, more))))


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
