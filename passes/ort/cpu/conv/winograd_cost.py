"""The cost of a convolution by Winograd's filtering along the rows, as a share of the direct convolution's."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from ....targets.target_schema import usual

PRODUCTS = 6
"""Products for each step, which computes `PRODUCTS + 1 - taps` rows."""

SMALLEST = usual("winograd-pixels")  # with fewer, time goes into reading the weights, which are twice as many
LARGEST = 1 << 24  # bytes of filters, twice the weights: so that files stay of about the same size

_NO_LOSS = 0.95  # of the time, with the most threads
_MOVE, _READ, _START, _START_OF_THREAD = 40, 8, 1_000_000, 3_500_000
"""Costs in multiplications, of which a thread does 5e10 a second (the blocked Conv runs at the CPU's peak): of an
element that is moved; of a weight that is read, for each thread, since they share the memory; of the operators
themselves, with one thread, and for each of several."""
_MOVE_IN_MEMORY, _CACHED, _UNCACHED = 45, 4 << 20, 24 << 20
"""The additional cost of moving an element, for each thread, where no cache holds the images; up to how many bytes of
image and result the caches hold all, and from how many on nothing (with 32 MiB that two CPUs share)."""
USUAL_IMAGES = 8
"""The largest batch that must still lose nothing, where the batch is symbolic."""


@dataclass(frozen=True)
class ConvGeometry:
    """The static dims of a convolution with strides of one.

    `image` and `result` are [channels, height, width], `weight` is [k, c, taps, width], `pads` are top, left, bottom
    and right; `batches` are the smallest and the largest batch that the choice is for.
    """

    image: tuple[int, int, int]
    weight: tuple[int, int, int, int]
    pads: tuple[int, int, int, int]
    batches: tuple[int, int]

    @property
    def result(self) -> tuple[int, int, int]:
        """Channels, height and width of the result."""
        (_, height, width), (top, left, bottom, right) = self.image, self.pads
        outputs, _, taps, window = self.weight
        return outputs, height + top + bottom - taps + 1, width + left + right - window + 1

    @property
    def rows(self) -> int:
        """Rows that each step computes."""
        return PRODUCTS + 1 - self.weight[2]

    @property
    def filter_bytes(self) -> int:
        """The size of the filters of all products."""
        return prod(self.weight) // self.weight[2] * PRODUCTS * 4

    def share(self, threads: int, batch: int) -> float:
        """The expected time as a share of the direct convolution's. For most of 230 measured ones within 0.1."""
        channels, height, width = self.result
        _, inputs, taps, window = self.weight
        weights = channels * inputs * window  # of one row of taps
        outside = sum(pad * (pad + 1) // 2 for pad in (self.pads[0], self.pads[2]))  # taps on the padding are left out
        plain = weights * width * (height * taps - outside)
        filtered = weights * width * PRODUCTS * -(-height // self.rows)
        elements = prod(self.image) + prod(self.result)
        moved = elements * PRODUCTS / (self.rows * 1.5)
        uncached = min(max((elements * 4 * batch - _CACHED) / (_UNCACHED - _CACHED), 0), 1)
        move = _MOVE + _MOVE_IN_MEMORY * threads * uncached
        start = _START if threads == 1 else _START_OF_THREAD * threads
        return (filtered + move * moved + _READ * threads * weights * PRODUCTS + start) / max(plain, 1)

    def is_faster(self, threads: tuple[int, int], gain: float) -> bool:
        """Whether it takes at most a share `gain` of the time with the fewest threads and one batch, and loses nothing
        with more of either.
        """
        (fewest, most), (smallest, largest) = threads, self.batches
        return (
            self.share(fewest, smallest) <= gain
            and self.share(most, smallest) <= _NO_LOSS
            and self.share(fewest, largest) <= _NO_LOSS
        )

    def describe(self, threads: tuple[int, int]) -> str:
        """The expected shares, for the report of a missed rewrite."""
        (fewest, most), (smallest, largest) = threads, self.batches
        points = dict.fromkeys([(fewest, smallest), (most, smallest), (fewest, largest)])
        return ", ".join(f"{self.share(*point):.0%} with {point[0]} threads and {point[1]} images" for point in points)
