"""What does a model compute, how fast, in how much memory? Knows models and numbers, never passes.

Names are imported on first use: ONNX Runtime takes a moment, and most of the command does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .check import Reference, verify
    from .comparison import EXACT, Element, Tolerance, Verdict, compare
    from .device import device_name
    from .evaluator import OrtEvaluator
    from .feeds import TYPICAL, Budget, FeedSet, feed_sets, make_feeds, read_feeds, usable_feeds, write_feeds
    from .measure import Latency, Race, Ratio, Timing, bytes_of, race, time_models
    from .memory import Peak, peak_memory
    from .options import Datum, Feeds, Outputs, SessionOptions
    from .profiling import Profile, Spent, profile
    from .reduce import Piece, reduce_model
    from .session import Port, Session, check_installation, is_out_of_time, open_session, save_optimized
    from .tolerance import Floor, Noise, noise_floor
    from .verification import Verification

_MODULES = {
    "check": ("Reference", "verify"),
    "comparison": ("EXACT", "Element", "Tolerance", "Verdict", "compare"),
    "evaluator": ("OrtEvaluator",),
    "feeds": ("TYPICAL", "Budget", "FeedSet", "feed_sets", "make_feeds", "read_feeds", "usable_feeds", "write_feeds"),
    "device": ("device_name",),
    "measure": ("Latency", "Race", "Ratio", "Timing", "bytes_of", "race", "time_models"),
    "memory": ("Peak", "peak_memory"),
    "options": ("Datum", "Feeds", "Outputs", "SessionOptions"),
    "reduce": ("Piece", "reduce_model"),
    "profiling": ("Profile", "Spent", "profile"),
    "session": ("Port", "Session", "check_installation", "is_out_of_time", "open_session", "save_optimized"),
    "tolerance": ("Floor", "Noise", "noise_floor"),
    "verification": ("Verification",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "EXACT",
    "TYPICAL",
    "Budget",
    "Datum",
    "Element",
    "FeedSet",
    "Feeds",
    "Floor",
    "Latency",
    "Noise",
    "OrtEvaluator",
    "Outputs",
    "Peak",
    "Piece",
    "Port",
    "Profile",
    "Race",
    "Ratio",
    "Reference",
    "Session",
    "SessionOptions",
    "Spent",
    "Timing",
    "Tolerance",
    "Verdict",
    "Verification",
    "bytes_of",
    "check_installation",
    "compare",
    "device_name",
    "feed_sets",
    "is_out_of_time",
    "make_feeds",
    "noise_floor",
    "open_session",
    "peak_memory",
    "profile",
    "race",
    "read_feeds",
    "reduce_model",
    "save_optimized",
    "time_models",
    "usable_feeds",
    "verify",
    "write_feeds",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
