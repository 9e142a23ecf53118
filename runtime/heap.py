"""Freed memory goes back to the system: what a closed session held would else count as this process's own."""

from __future__ import annotations

import ctypes
import sys


def trim_heap() -> None:
    """Give free pages inside of the heap back to the system, where the C library can (glibc's malloc_trim).

    glibc keeps them, and takes blocks of up to 32 MiB from the heap once one of that size was freed (mallopt(3)).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
