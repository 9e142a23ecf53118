"""A pool keeps the sessions that were used last, and gives the memory of closed ones back."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from optimize_graph.runtime.heap import trim_heap
from optimize_graph.runtime.ort.session_pool import SessionPool


def test_the_session_that_was_not_used_for_longest_is_closed() -> None:
    pool, opened = SessionPool(2), list[str]()

    def get(key: str) -> None:
        pool.get(key, lambda: opened.append(key))  # type: ignore[arg-type, return-value]  # no session is needed here

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert opened == ["a", "b", "c", "b"]


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_free_pages_inside_of_the_heap_go_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    blocks = [np.ones(1 << 13) for _ in range(1 << 10)]  # 64 KiB each, below the size that is mapped on its own
    kept = blocks[::64]
    before = resident()
    del blocks
    trim_heap()
    assert resident() < before - (48 << 20)
    assert all(block[0] == 1 for block in kept)
