"""How much a rewrite may change what a model computes: part of every rule's and every pass's type."""

from __future__ import annotations

from enum import IntEnum


class Exactness(IntEnum):
    """Ordered: a pipeline is as exact as its least exact rewrite that fired."""

    EXACT = 0
    """Bit for bit, on every input that the model accepts."""
    ROUNDING = 1
    """Equal over the reals; floating-point results may round otherwise, and overflow at the ends of the range."""
    SPECIAL_VALUES = 2
    """As ROUNDING for finite numbers; of infinities, NaN, zeros with a sign or their like it may make another value."""
    APPROXIMATE = 3
    """Changes the function, or cannot say."""

    def __str__(self) -> str:
        return {0: "bit for bit", 1: "up to rounding", 2: "up to rounding but for special values", 3: "approximate"}[
            self.value
        ]
