"""Exactness classes: how much a rewrite may change what a model computes."""

from __future__ import annotations

from enum import IntEnum


class Exactness(IntEnum):
    """Ordered: a pipeline is as exact as its least exact rewrite that fired."""

    EXACT = 0
    """Bit for bit, on every input that the model accepts."""
    ROUNDING = 1
    """Equal over the reals; floating-point results may round otherwise.

    Where the original gives a finite number other than 0, so does the result, up to the ends of the range (numbers
    that are subnormal excepted). Where the original overflows, the result may be finite.
    """
    SPECIAL_VALUES = 2
    """As ROUNDING for usual numbers; of infinities, NaN, zeros with a sign it may make another value.

    So it may near the ends of the range, where a sum overflows that is finite in the order of the original.
    """
    APPROXIMATE = 3
    """Changes the function, or cannot say."""

    def __str__(self) -> str:
        return {0: "bit for bit", 1: "up to rounding", 2: "up to rounding but for special values", 3: "approximate"}[
            self.value
        ]
