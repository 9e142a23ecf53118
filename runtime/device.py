"""What models run on."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from pathlib import Path

from .options import Provider


@cache
def device_name(provider: Provider = "cpu") -> str:
    """The name of the processor, or of the first GPU as its driver gives it."""
    if provider == "cuda":
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            done = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
            return done.stdout.splitlines()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            return "a GPU without a name"
    information = Path("/proc/cpuinfo")
    if information.exists():  # Linux: `platform` says nothing there
        for line in information.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
