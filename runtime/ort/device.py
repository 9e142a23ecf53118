"""The device that models run on."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from .session_options import Provider

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
    name = _processor().get("model name") or platform.processor() or platform.machine()
    return ", ".join(filter(None, (name, _VECTORS.get(widest_vectors(), ""))))


@cache
def widest_vectors() -> str:
    """The flag of the widest vectors that this processor has; "" where that is not known, as outside Linux."""
    flags = (_processor().get("flags") or _processor().get("Features") or "").split()  # as x86 and ARM call them
    return next((flag for flag in _VECTORS if flag in flags), "")


@cache
def _processor() -> Mapping[str, str]:
    information = Path("/proc/cpuinfo")
    text = information.read_text(errors="replace") if information.exists() else ""
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}
