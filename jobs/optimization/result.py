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
    from ...runtime import Profile, Verification
    from ..measure import Measurement
    from .fault_isolation import FaultyRewrite
    from .tune import Tuning


@dataclass(frozen=True)
class Size:
    """How large a model is: nodes in all scopes (Constant nodes apart), and bytes of weights."""

    nodes: int
    weight_bytes: int


@dataclass(frozen=True)
class ModelProfile:
    """A model from inside: nodes of each operator, where the time goes, and what lives while each node runs (bytes)."""

    operators: Mapping[str, int]
    profile: Profile
    live_bytes: Sequence[int] | None

    def to_json(self) -> dict[str, object]:
        live = None if self.live_bytes is None else list(self.live_bytes)
        return {"operators": dict(self.operators), "profile": self.profile.to_json(), "live_bytes": live}


@dataclass
class Result:
    """What `optimize` gives back. `model` reads its weights from the delivered file, or from memory.

    `quarantined`: rewrites and rules that went wrong and were left out. `build`: hashes of input and output, options,
    host and plugins, as the report has them.
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
    build: Mapping[str, object] = field(default_factory=dict, repr=False)


def size_of(model: ir.Model) -> Size:
    """The size of `model`, without looking into anything."""
    return Size(node_count(model), weight_bytes(model))
