"""Verify that a result computes what the original computes, on several sets of inputs."""

from __future__ import annotations

from collections.abc import Sequence

from ..inputs.feeds import FeedSet
from ..ort.session_options import SessionOptions
from .reference import Criteria, Reference, Source
from .result import Verification
from .result_check import check_result


def verify(
    original: Source,
    result: Source,
    feed_sets: Sequence[FeedSet],
    options: SessionOptions | None = None,
    criteria: Criteria | None = None,
    time_limit_s: float | None = None,
) -> Verification:
    """Compare the outputs of two models on `feed_sets`, with ONNX Runtime's optimizations off and on.

    At least one set is compared, within the time limit or not.
    Raises ModelError when the original does not run, EnvironmentSetupError when ONNX Runtime lacks something.
    """
    return check_result(Reference(original, options, criteria), result, feed_sets, time_limit_s)
