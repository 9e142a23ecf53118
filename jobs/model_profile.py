"""The profile of a model: operators, where the time goes, and the bytes that are live at each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..runtime import Profile


@dataclass(frozen=True)
class ModelProfile:
    """`operators`: nodes per operator. `live_bytes`: bytes of values that are live while each node runs, in order."""

    operators: Mapping[str, int]
    profile: Profile
    live_bytes: Sequence[int] | None

    def to_json(self) -> dict[str, object]:
        """The profile with plain JSON values."""
        live = None if self.live_bytes is None else list(self.live_bytes)
        return {"operators": dict(self.operators), "profile": self.profile.to_json(), "live_bytes": live}
