"""The opsets and IR versions that each release of ONNX Runtime loads.

A release refuses an IR version above its own, and an opset above the last official one of the onnx that it was built
with. "Ran" means: a model at that opset or IR version was loaded by that release (the first patch of it that the Python
package index still has), and one above it was refused. "Page" is ONNX Runtime's compatibility page,
https://onnxruntime.ai/docs/reference/compatibility.html (it ends at 1.20). Where the two differ, the lower one stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ... import ir


@dataclass(frozen=True)
class Support:
    """The highest versions that a release loads, and the evidence."""

    release: str
    opset: int
    ml_opset: int
    ir_version: int
    source: str


# 1.18 to 1.20 load ai.onnx.ml 5, but have no kernel for its TreeEnsemble; 1.21 has (ran 1.18.0, 1.20.0, 1.21.0).
RELEASES = (
    Support("1.14", 18, 3, 8, "page; not run"),
    Support("1.15", 19, 3, 8, "page; ran 1.15.0, which loads IR 9, too"),
    Support("1.16", 19, 3, 9, "page; ran 1.16.0"),
    Support("1.17", 20, 4, 9, "page; ran 1.17.0"),
    Support("1.18", 21, 4, 10, "page; ran 1.18.0, which loads ai.onnx.ml 5, too"),
    Support("1.19", 21, 4, 10, "page; ran 1.19.0, which loads ai.onnx.ml 5, too"),
    Support("1.20", 21, 4, 10, "page; ran 1.20.0, which loads ai.onnx.ml 5, too"),
    Support("1.21", 22, 5, 10, "onnx 1.17 (microsoft/onnxruntime#21897); ran 1.21.0"),
    Support("1.22", 22, 5, 10, "ran 1.22.0"),
    Support("1.23", 23, 5, 11, "onnx 1.18 (microsoft/onnxruntime#24449); ran 1.23.0"),
    Support("1.24", 25, 5, 13, "ran 1.24.1"),
    Support("1.25", 26, 5, 13, "ran 1.25.0"),
    Support("1.26", 26, 5, 13, "ran 1.26.0"),
    Support("1.27", 26, 5, 13, "ran 1.27.0"),
    Support("1.28", 26, 5, 13, "ran 1.28.0"),
    Support("1.29", 26, 5, 13, "ran 1.29.0"),
    Support("1.30", 26, 5, 13, "ran 1.30.0"),
    Support("1.31", 26, 5, 13, "ran 1.31.0 and onnxruntime-gpu 1.31.1"),
    Support("1.32", 28, 5, 14, "ran 1.32.0"),
)


def loads_in(version: str) -> Support:
    """The support of ONNX Runtime `version` (`1.20`, `1.20.1`); that of the newest known release for a newer one.

    Raises PipelineError (`unknown-onnxruntime`) for one that is too old, or no version at all.
    """
    wanted = release_number(version)
    known = [row for row in RELEASES if release_number(row.release) <= wanted]
    if not known:
        message = f"what ONNX Runtime {version!r} loads is not known"
        hint = f"known are {RELEASES[0].release} to {RELEASES[-1].release}"
        raise ir.PipelineError(ir.Diagnostic("unknown-onnxruntime", message, hint=hint))
    return known[-1]


LATER = {("Attention", 25): ("1.32", "1.31.1 and 1.32.0 ran: the older refuses its attributes")}
"""Definitions (operator, opset) that releases before the one named do not load, whatever opsets they load."""


def knows(release: str, op_type: str, since: int) -> bool:
    """Whether ONNX Runtime `release` (the newest known where empty) loads this definition of an operator."""
    first, _ = LATER.get((op_type, since), ("", ""))
    return not first or not release or release_number(release) >= release_number(first)


def release_number(version: str) -> tuple[int, int]:
    """The release of a version (`1.20`, `1.20.1`) as a comparable pair; (0, 0) for a malformed version."""
    found = re.fullmatch(r"(\d+)\.(\d+)([.+-].*)?", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
