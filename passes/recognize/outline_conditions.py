"""What a call wants of its inputs that the standard's body for it does not say."""

from __future__ import annotations

from collections.abc import Sequence

from ... import ir
from ..analyses import Shapes


def unfit(op_type: str, inputs: Sequence[ir.Value | None], shapes: Shapes) -> str | None:
    return None
