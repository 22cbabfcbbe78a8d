"""Windows of conversations, folded once and caught up by version."""

from collections import OrderedDict
from dataclasses import replace
from typing import Final

from app.log import Log
from app.mapper import revive
from app.store import VERSION_MAX
from projections.window import Window, evolve

# Windows hold whole texts, so fewer are kept than states.
WINDOWS_CACHED_MAX: Final = 512


class Windows:
    """The newest window of each conversation that somebody looks at."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._cached: OrderedDict[str, Window] = OrderedDict()

    async def newest(self, stream: str) -> Window:
        """Give the window at the stream's newest fact; deltas are none."""
        window = self._cached.get(stream, Window())
        window = await self._caught_up(stream, window, VERSION_MAX)
        newer = self._cached.get(stream)
        if newer is None or newer.at <= window.at:
            self._remember(stream, window)
        return window

    async def at(self, stream: str, offset: int) -> Window:
        """Give the window at any offset."""
        cached = self._cached.get(stream, Window())
        base = cached if cached.at <= offset else Window()
        return replace(await self._caught_up(stream, base, offset), at=offset)

    async def _caught_up(self, stream: str, window: Window, upto: int) -> Window:
        """Read and fold in a reader's thread: a long conversation must not hold the loop."""

        def caught_up() -> Window:
            newer = window
            for row in self._log.store.read(stream, after=window.at, upto=upto, deltas=False):
                newer = evolve(newer, revive(row))
            return newer

        return await self._log.in_reader(caught_up)

    def _remember(self, stream: str, window: Window) -> None:
        self._cached[stream] = window
        self._cached.move_to_end(stream)
        if len(self._cached) > WINDOWS_CACHED_MAX:
            self._cached.popitem(last=False)
