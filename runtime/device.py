"""What models run on."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

from .options import Provider

_VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sve": "SVE", "asimd": "NEON"}
"""The widest first, by the flag that stands for them."""


@cache
def device_name(provider: Provider = "cpu") -> str:
    """The name of the processor and its widest vectors, or of the first GPU as its driver gives it.

    Virtual machines of one processor differ in the vectors that they are let use, and ONNX Runtime in its kernels.
    """
    if provider == "cuda":
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
            return done.stdout.splitlines()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            return "a GPU without a name"
    information = Path("/proc/cpuinfo")
    if not information.exists():  # outside Linux
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in information.read_text(errors="replace").splitlines())
    known = {key.strip(): value.strip() for key, _, value in lines}
    flags = known.get("flags", known.get("Features", "")).split()  # as x86 and ARM call them
    vectors = next((name for flag, name in _VECTORS.items() if flag in flags), "")
    return ", ".join(filter(None, (known.get("model name", platform.machine()), vectors)))
