"""Traits of the standard's operators that several analyses ask for."""

from __future__ import annotations

from typing import Final

MOVEMENT: Final = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Slice Split Gather GatherElements GatherND "
    "DepthToSpace SpaceToDepth".split()
)
"""Operators whose results hold elements of their first input and no others."""
