"""Numbers as people read them."""

from __future__ import annotations

from rich.console import Console

from ..runtime import Latency, Ratio


def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error. A terminal wraps what is too wide for it; files and pipes get whole lines."""
    made = Console(highlight=False, soft_wrap=True, stderr=stderr)
    if not made.is_terminal:
        made.width = 1000
    return made


def size(count: int) -> str:
    """`54.3 KiB`."""
    found = float(count)
    for unit in ("B", "KiB", "MiB"):
        if found < 1024:
            return f"{found:.0f} {unit}" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1024
    return f"{found:.2f} GiB"


def amount(count: int) -> str:
    """`1.59 G`."""
    found = float(count)
    for unit in ("", " k", " M", " G"):
        if found < 1000:
            return f"{found:.3g}{unit}"
        found /= 1000
    return f"{found:.3g} T"


def milliseconds(latency: Latency) -> str:
    """The median."""
    return f"{latency.median_ms:.3g} ms"


def faster(ratio: Ratio) -> str:
    """How much faster, with the interval."""
    return f"x{ratio.median:.2f} faster [{ratio.low:.2f}, {ratio.high:.2f}]"


def times(after: float | None, before: float | None) -> str:
    """How many times the one is the other."""
    return "" if after is None or not before else f"x{after / before:.2f}"
