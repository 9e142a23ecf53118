"""Traits of the standard's operators that several analyses ask for."""

from __future__ import annotations

from typing import Final

VIEWS: Final = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""Operators that give the elements of their first input other dims; Identity apart."""

REDUCTIONS: Final = tuple(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)

MOVEMENT: Final = frozenset(
    "Identity Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Slice Split Gather GatherElements GatherND "
    "DepthToSpace SpaceToDepth".split()
)
"""Operators whose results hold elements of their first input and no others."""
