"""Plans for generated feeds: sizes, values and masks, the strictest test first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .attention_masks import MaskKind
from .bind_dims import Sizing

# A batch of one, odd sizes that are no multiple of a block, and one position at a time. All are small: verification
# takes the time and the memory of some dozen runs.
SIZINGS = (
    Sizing(batch=1, length=32, samples=1000),
    Sizing(batch=2, length=17, past=5, image=96, samples=1500),
    Sizing(batch=3, length=1, past=11, image=80, samples=1250),
)
TYPICAL = Sizing(image=224)  # for latency: what a user is likely to run
MASKS = (MaskKind.PLAIN, MaskKind.MIXED, MaskKind.EXTREME)


@dataclass(frozen=True)
class FeedPlan:
    """The parameters of one generated set of inputs.

    `values`: `normal`, `unit` (0 to 1, for models that take logarithms and roots) or `ones`. `absent`: pass None for
    inputs of optional type. `rank`: that of inputs of unknown rank. `chosen`: fixed sizes of symbols. `solved`: whether
    sizes satisfy the model's dim constraints, as far as they are known.
    """

    sizing: Sizing
    values: str = "normal"
    absent: bool = False
    masks: MaskKind = MaskKind.PLAIN
    rank: int | None = None
    chosen: tuple[tuple[str, int], ...] = ()
    solved: bool = True

    def with_size(self, symbol: str, size: int) -> FeedPlan:
        """The plan with one more symbol fixed."""
        return replace(self, chosen=tuple({**dict(self.chosen), symbol: size}.items()))


def plans(nth: int, first: Sizing | None = None) -> Iterator[FeedPlan]:
    """Plans for the set at index `nth`, the strictest test first; more models accept the later ones.

    `first` takes the place of the set's own sizing.
    """
    sizing = first or SIZINGS[nth % len(SIZINGS)]
    masks = MASKS[nth % len(MASKS)]
    yield FeedPlan(sizing, absent=nth == 1, masks=masks)
    yield FeedPlan(sizing, masks=masks)
    yield FeedPlan(sizing)
    for other in (
        replace(sizing, apart=False),
        replace(sizing, apart=False, samples=576, image=48),
        replace(sizing, apart=False, length=64, samples=16000, past=64),
        replace(sizing, batch=1, apart=False, length=16, image=256, samples=512, past=0),
        Sizing(batch=1, length=128, image=224, samples=1024, apart=False),
        Sizing(batch=1, length=1, past=1, image=32, samples=64, apart=False),
        Sizing(batch=4, length=4, past=4, image=128, samples=4, apart=False),
        Sizing(batch=16, length=16, past=16, image=640, samples=16, apart=False),
    ):
        yield FeedPlan(other)
    yield FeedPlan(sizing, "unit", masks=masks)
    yield FeedPlan(replace(sizing, apart=False), "unit")
    yield FeedPlan(replace(sizing, batch=1, apart=False), "ones")
