"""Evaluate a model in float64 with the reference evaluator, where it is available and can be trusted."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from ... import ir
from ...ir.standard import reference_evaluator
from ...ir.subgraph import tapped
from ..arrays import is_inexact
from ..ort.session_options import Datum, Feeds, Outputs
from .comparison import Tolerance, compare, scale_of

MOST_BYTES = 512 << 20  # of weights: they are held twice, and twice as wide
ALIKE = 1e-3  # of an output's scale: within this, the evaluator's float32 and ONNX Runtime's mean the same


def truth(model: ir.Model, feeds: Feeds, plain: Outputs, *, seconds: float = 60.0) -> Outputs | None:
    """The outputs of `model` in float64, rounded to the types of `plain`; None where they cannot be had or trusted.

    `plain`: what ONNX Runtime gives with its optimizations off. The evaluator is trusted where its float32 agrees with
    that on this very model and these inputs. Only tensors are compared, and floats alone are trusted. `seconds`: for
    all of it.
    """
    until = time.monotonic() + seconds
    if ir.encoded_bytes(model) or ir.content_bytes(model) > MOST_BYTES:  # the evaluator makes Python's numbers of lists
        return None
    if not all(map(_is_tensor, plain.values())):
        return None
    if not any(is_inexact(np.asarray(each)) for each in plain.values()):
        return None
    found = _in_child(model, feeds, until)
    if found is None:
        return None
    single, double = found
    if not _means(plain, single) or not all(map(_is_tensor, double.values())):
        return None
    with np.errstate(over="ignore"):
        rounded: Outputs = {
            name: np.asarray(double[name]).astype(np.asarray(want).dtype)
            for name, want in plain.items()
            if name in double
        }
    return rounded if _means(plain, rounded) else None


def _is_tensor(datum: Datum) -> bool:
    return isinstance(datum, np.ndarray)


def _means(plain: Outputs, other: Outputs) -> bool:
    """Whether the two are the same but for roundings; whole numbers may flip where those do."""
    if list(plain) != list(other):
        return False
    for want, got in zip(plain.values(), other.values(), strict=True):
        ours, theirs = np.asarray(want), np.asarray(got)
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return False
        if is_inexact(ours) and not compare({"": ours}, {"": theirs}, Tolerance(0.0, ALIKE * scale_of(ours))):
            return False
    return True


def _in_child(model: ir.Model, feeds: Feeds, until: float) -> tuple[Outputs, Outputs] | None:
    """The outputs in the model's own types and in float64."""
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.pickle", Path(folder) / "answer.pickle"
        command = [sys.executable, "-P", reference_evaluator.__file__, str(request), str(answer)]
        try:
            request.write_bytes(pickle.dumps((tapped(model, []), dict(feeds))))
            subprocess.run(command, capture_output=True, timeout=max(until - time.monotonic(), 0.0), check=True)
            found: tuple[Outputs, Outputs] = pickle.loads(answer.read_bytes())
        except (OSError, subprocess.SubprocessError, ir.ModelError):  # too large, too slow, or a kernel is missing
            return None
        return found
