"""Open sessions, few at a time: each holds the weights of its model, and packed copies of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from ..heap import trim_heap
from .session import Session, open_session, seconds_until
from .session_options import Array, Feeds, Outputs, SessionOptions

SMALL = 2 << 20
"""Bytes of a model of which all sessions stay open: opening them again costs more than they hold."""
MOST_OPEN = 2
"""Sessions of a larger model that are open at once."""


class SessionPool:
    """Keeps the sessions that were used last, and closes the others."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._open: OrderedDict[object, Session] = OrderedDict()

    def get(self, key: object, opener: Callable[[], Session]) -> Session:
        """The session of `key`, opened anew where it is closed."""
        if key not in self._open:
            while self.most is not None and len(self._open) >= self.most:
                self._open.popitem(last=False)
                trim_heap()
            self._open[key] = opener()
        self._open.move_to_end(key)
        return self._open[key]

    def close(self) -> None:
        """Close all sessions; what is run later is opened again."""
        self._open.clear()
        trim_heap()


class Subject:
    """One model in one setting.

    `fresh`: a session for each run, so that every run of a model that draws random numbers draws the same ones.
    `weights` take the place of initializers of the same name.
    """

    def __init__(
        self,
        source: Path | bytes,
        options: SessionOptions,
        pool: SessionPool,
        *,
        fresh: bool = False,
        weights: Mapping[str, Array] | None = None,
    ) -> None:
        self.source, self.options, self.pool, self.fresh, self.weights = source, options, pool, fresh, weights

    def session(self, until: float | None = None) -> Session:
        """The session, loaded where it is not open; loading ends at `until`. Raises what `open_session` raises."""

        def opened() -> Session:
            return open_session(self.source, self.options, self.weights, time_limit_s=seconds_until(until))

        return opened() if self.fresh else self.pool.get(self, opened)

    def run(self, feeds: Feeds, until: float | None = None) -> Outputs:
        """The outputs on `feeds`; loading and running end at `until`, by the monotonic clock.

        Raises what `open_session` and `Session.run` do.
        """
        return self.session(until).run(feeds, seconds_until(until))
