"""The share of a property's cases that runs by default; `OPTIMIZE_GRAPH_EVERYTHING=1` runs all of them.

The cases are the same for each run, and others for each value of `OPTIMIZE_GRAPH_SAMPLE`. Failures name the case, which
runs again with the same value, or with everything.
"""

from __future__ import annotations

import os
import zlib

EVERYTHING = bool(os.environ.get("OPTIMIZE_GRAPH_EVERYTHING"))
SAMPLE = os.environ.get("OPTIMIZE_GRAPH_SAMPLE", "")


def in_sample(case: object, share: float) -> bool:
    """Whether a case, by its name, is in the share that runs."""
    return EVERYTHING or zlib.crc32(f"{SAMPLE}{case}".encode()) < share * 2**32
