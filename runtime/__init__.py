"""Run models in ONNX Runtime: feeds, verification, latency, peak memory. Knows models and arrays, never passes.

Names are imported on first use: ONNX Runtime takes a moment to load, and most of the command does without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .benchmark.latency import Latency, Race, Ratio, Timing, bytes_of, race, time_models
    from .benchmark.peak_memory import Peak, peak_memory
    from .benchmark.profiler import Profile, Spent, profile
    from .constant_evaluator import OrtEvaluator
    from .delta_debug import Piece, reduce_model
    from .inputs.feed_files import write_feeds
    from .inputs.feed_plans import TYPICAL
    from .inputs.feed_trials import Budget, TrialOptions
    from .inputs.feeds import FeedSet, feed_sets, make_feeds, read_feeds, typical_shapes, usable_feeds
    from .ort.device import device_name
    from .ort.session import Port, Session, check_installation, is_out_of_time, open_session, save_optimized
    from .ort.session_options import Datum, Feeds, Outputs, SessionOptions
    from .verification.comparison import EXACT, Element, Tolerance, Verdict, compare
    from .verification.noise_floor import Floor, Noise, noise_floor
    from .verification.reference import Criteria, Reference
    from .verification.result import Verification
    from .verification.result_check import check_result
    from .verification.verifier import verify

_MODULES = {
    "verification.reference": ("Criteria", "Reference"),
    "verification.verifier": ("verify",),
    "verification.comparison": ("EXACT", "Element", "Tolerance", "Verdict", "compare"),
    "constant_evaluator": ("OrtEvaluator",),
    "inputs.feed_files": ("write_feeds",),
    "inputs.feed_plans": ("TYPICAL",),
    "inputs.feed_trials": ("Budget", "TrialOptions"),
    "inputs.feeds": ("FeedSet", "feed_sets", "make_feeds", "read_feeds", "typical_shapes", "usable_feeds"),
    "ort.device": ("device_name",),
    "benchmark.latency": ("Latency", "Race", "Ratio", "Timing", "bytes_of", "race", "time_models"),
    "benchmark.peak_memory": ("Peak", "peak_memory"),
    "ort.session_options": ("Datum", "Feeds", "Outputs", "SessionOptions"),
    "delta_debug": ("Piece", "reduce_model"),
    "benchmark.profiler": ("Profile", "Spent", "profile"),
    "ort.session": ("Port", "Session", "check_installation", "is_out_of_time", "open_session", "save_optimized"),
    "verification.noise_floor": ("Floor", "Noise", "noise_floor"),
    "verification.result": ("Verification",),
    "verification.result_check": ("check_result",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "EXACT",
    "TYPICAL",
    "Budget",
    "Criteria",
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
    "TrialOptions",
    "Verdict",
    "Verification",
    "bytes_of",
    "check_installation",
    "check_result",
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
    "typical_shapes",
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
