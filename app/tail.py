"""Who waits for which stream, and the ring of its newest rows.

A follower is a cursor: it takes what is after it, from the ring or else from the log, and waits to
be woken. Waking says only that a stream has grown, so replay and live are the same loop, and a slow
reader holds a cursor, not a queue.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from app.log import Log
from app.mapper import Row

PAGE_ROWS: Final = 1000
RING_ROWS_MAX: Final = 512
RING_BYTES_MAX: Final = 1024 * 1024
# How late a follower learns of what another process has written, at the latest.
POLL_S: Final = 1.0


class Closed(Exception):
    """The server is going down: no more will come on this connection."""


class _Channel:
    """A stream that somebody follows."""

    def __init__(self) -> None:
        self.followers = 0
        self.head = 0
        self.grown = asyncio.Event()
        self._rows: deque[Row] = deque()
        self._bytes = 0

    def push(self, rows: list[Row]) -> None:
        if rows[0].version != self.head + 1:
            # Another process has appended, or an outcome was unknown: a ring has no holes.
            self._rows.clear()
            self._bytes = 0
        self._rows.extend(rows)
        self._bytes += sum(len(row.state) for row in rows)
        while len(self._rows) > RING_ROWS_MAX or self._bytes > RING_BYTES_MAX:
            self._bytes -= len(self._rows.popleft().state)
        self.head = rows[-1].version
        self.wake()

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()

    def after(self, version: int) -> list[Row] | None:
        """Give the rows after `version`, None if the ring does not reach back that far."""
        if not self._rows or self._rows[0].version > version + 1:
            return None
        missing = self.head - version
        return [] if missing <= 0 else list(self._rows)[-missing:]


class Tail:
    """Wakes followers after each commit."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._channels: dict[str, _Channel] = {}
        self._closed = False
        log.listen(self._grew)

    def _grew(self, stream: str, rows: list[Row]) -> None:
        channel = self._channels.get(stream)
        if channel is not None:
            channel.push(rows)

    @contextmanager
    def follow(self, stream: str, after: int) -> Generator["Follower"]:
        """Follow a stream from the row after `after` for as long as the context is open."""
        channel = self._channels.setdefault(stream, _Channel())
        channel.followers += 1
        try:
            yield Follower(self, self._log, channel, stream, after)
        finally:
            channel.followers -= 1
            if not channel.followers:
                del self._channels[stream]

    @property
    def followed(self) -> int:
        """How many streams somebody follows."""
        return len(self._channels)

    @property
    def closed(self) -> bool:
        """Tell whether followers are being sent home."""
        return self._closed

    def close(self) -> None:
        """Send every follower home."""
        self._closed = True
        for channel in self._channels.values():
            channel.wake()


class Follower:
    """A cursor in a stream."""

    def __init__(self, tail: Tail, log: Log, channel: _Channel, stream: str, after: int) -> None:
        self._tail = tail
        self._log = log
        self._channel = channel
        self._stream = stream
        self.cursor = after

    async def ready(self) -> list[Row]:
        """Give the rows after the cursor that are there now, at most a page; move past them."""
        rows = self._channel.after(self.cursor)
        if rows is None:
            rows = await self._log.read(self._stream, after=self.cursor, limit=PAGE_ROWS)
        if rows:
            self.cursor = rows[-1].version
        return rows

    async def next(self, timeout_s: float | None = None) -> list[Row]:
        """Give the rows after the cursor as soon as there are any, [] after `timeout_s` without.

        Raises Closed when the server goes down.
        """
        loop = asyncio.get_running_loop()
        end_s = None if timeout_s is None else loop.time() + timeout_s
        while True:
            # Taken before looking, so that what comes while we look wakes us.
            grown = self._channel.grown
            if rows := await self.ready():
                return rows
            if self._tail.closed:
                raise Closed
            if self._channel.head > self.cursor:
                continue
            if not await self._woken(grown, None if end_s is None else end_s - loop.time()):
                if rows := await self._polled():
                    return rows
                if end_s is not None and loop.time() >= end_s:
                    return []

    async def _woken(self, grown: asyncio.Event, wait_s: float | None) -> bool:
        """Wait for growth; where other processes write, only until it is time to look again."""
        if not self._log.store.exclusive:
            wait_s = POLL_S if wait_s is None else min(POLL_S, wait_s)
        try:
            async with asyncio.timeout(wait_s):
                await grown.wait()
        except TimeoutError:
            return False
        return True

    async def _polled(self) -> list[Row]:
        """Look in the database for what no wake-up told of."""
        if self._log.store.exclusive:
            return []
        rows = await self._log.read(self._stream, after=self.cursor, limit=PAGE_ROWS)
        if rows:
            self.cursor = rows[-1].version
        return rows
