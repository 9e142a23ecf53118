"""What `optimize` gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ... import ir
from ...passes.analyses.model_stats import node_count, weight_bytes
from ...passes.pipeline.exactness import Exactness
from ...passes.pipeline.rewrite_log import MissedRewrite, Rewrite

if TYPE_CHECKING:
    from ...runtime import Verification
    from ..measure import Measurement
    from ..model_profile import ModelProfile
    from ..partitions import Partitions
    from .fault_isolation import FaultyRewrite
    from .gates import Gate
    from .tune import Tuning


@dataclass(frozen=True)
class Size:
    """How large a model is: nodes in all scopes (Constant nodes apart), and bytes of weights and of its files.

    `file_bytes`: external data included; None for an original of onnx-ir, which has no file.
    """

    nodes: int
    weight_bytes: int
    file_bytes: int | None


@dataclass
class Result:
    """What `optimize` gives back. `model` reads its weights from the delivered file, or from memory.

    `partitions`: before and after, on a target that takes part of a model. `isolated`: rewrites and rules that were
    faulty and are excluded. `build`: hashes of input and output, options, host and plugins, as the report has them.
    """

    model: ir.Model = field(repr=False)
    before: Size
    after: Size
    rewrites: Sequence[Rewrite] = field(default=(), repr=False)
    missed: Sequence[MissedRewrite] = field(default=(), repr=False)
    remarks: Sequence[ir.Diagnostic] = ()
    isolated: Sequence[FaultyRewrite] = ()
    exactness: Exactness = Exactness.EXACT
    pipeline: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    verification: Verification | None = None
    measurement: Measurement | None = None
    tuning: Tuning | None = None
    model_profile: tuple[ModelProfile, ModelProfile] | None = None
    partitions: tuple[Partitions, Partitions] | None = None
    gates: Sequence[Gate] = ()
    build: Mapping[str, object] = field(default_factory=dict, repr=False)


def size_of(model: ir.Model, file_bytes: int | None) -> Size:
    """The size of `model`, without looking into anything."""
    return Size(node_count(model), weight_bytes(model), file_bytes)
