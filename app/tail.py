"""Who waits for which stream, and the ring of its newest rows.

A follower is a cursor: it takes what is after it, from the ring or else from the log, and waits to
be woken. Waking says only that a stream has grown, so replay and live are the same loop, and a slow
reader holds a cursor, not a queue. What another process has appended is read once, by the first
follower that hears of it, and shared through the ring.
"""

import asyncio
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Final

from app.log import Log, StoreUnavailable
from app.mapper import Row

PAGE_ROWS: Final = 1000
RING_ROWS_MAX: Final = 512
RING_BYTES_MAX: Final = 1024 * 1024
STREAMS_PER_LOOK: Final = 1000
# How long a follower waits for a database that does not answer before it looks again.
RETRY_S: Final = 0.5


class Closed(Exception):
    """The server is going down: no more will come on this connection."""


class _Channel:
    """A stream that somebody follows: `head` is the end of its ring."""

    def __init__(self) -> None:
        self.followers = 0
        self.head = 0
        self.grown = asyncio.Event()
        # Counts what was heard of other processes' appends, and how much of that was looked at.
        self.news = 0
        self.news_read = 0
        self.reading = asyncio.Lock()
        self._known = 0
        self._rows: deque[Row] = deque()
        self._bytes = 0

    def push(self, rows: list[Row]) -> None:
        """Take in what is not known already; a ring has no holes and goes on at its end.

        A commit may be read, with what came after it, before this process is told of it: the end
        does not go back, or who has not read so far would never hear of the rest.
        """
        if rows[0].version <= self.head:
            rows = [row for row in rows if row.version > self.head]
            if not rows:
                return
        if rows[0].version != self.head + 1:
            # Another process has appended, or an outcome was unknown.
            self._rows.clear()
            self._bytes = 0
        self._rows.extend(rows)
        self._bytes += sum(len(row.state) for row in rows)
        while len(self._rows) > RING_ROWS_MAX or self._bytes > RING_BYTES_MAX:
            self._bytes -= len(self._rows.popleft().state)
        self.head = rows[-1].version
        self._known = max(self._known, self.head)
        self.wake()

    def hear(self, version: int | None = None) -> None:
        """Note that the stream has grown, to `version` if that is known."""
        if version is not None:
            if version <= self._known:
                return
            self._known = version
        self.news += 1
        self.wake()

    def wake(self) -> None:
        self.grown.set()
        self.grown = asyncio.Event()

    def after(self, version: int) -> list[Row] | None:
        """Give the rows after `version`, None if the ring cannot tell."""
        if not self._rows or not self._rows[0].version - 1 <= version <= self.head:
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

    def heard(self, streams: Iterable[str]) -> None:
        """Have followers look at streams that another process says have grown."""
        for stream in streams:
            channel = self._channels.get(stream)
            if channel is not None:
                channel.hear()

    async def look(self) -> None:
        """Look in the database which followed streams have grown. Raises StoreUnavailable."""
        try:
            await self._look()
        finally:
            if self._log.silent_s():
                # Those whose patience is limited have to be told.
                for channel in self._channels.values():
                    channel.wake()

    async def _look(self) -> None:
        streams = [*self._channels]
        for at in range(0, len(streams), STREAMS_PER_LOOK):
            some = streams[at : at + STREAMS_PER_LOOK]
            heads = await self._log.in_reader(lambda some=some: self._log.store.heads(some))
            for stream, head in heads.items():
                channel = self._channels.get(stream)
                if channel is not None:
                    channel.hear(head)

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
        self._news = channel.news
        self.cursor = after

    async def ready(self) -> list[Row]:
        """Give the rows after the cursor that are there now, at most a page; move past them."""
        news = self._channel.news
        rows = self._channel.after(self.cursor)
        if rows is None:
            rows = await self._page()
            self._read(news, rows)
            if rows and len(rows) < PAGE_ROWS:
                self._channel.push(rows)  # so that nobody reads again to learn that it is the end
        elif not rows and self._news != news:
            rows = await self._shared(news)
        if rows:
            self.cursor = rows[-1].version
        return rows

    async def _page(self) -> list[Row]:
        return await self._log.read(self._stream, after=self.cursor, limit=PAGE_ROWS)

    def _read(self, news: int, rows: list[Row]) -> None:
        """Note that what was heard is read: only a page that is not full reaches the end."""
        if len(rows) < PAGE_ROWS:
            self._news = news

    async def _shared(self, news: int) -> list[Row]:
        """Read what another process has appended, for all who wait at the end of the ring."""
        channel = self._channel
        async with channel.reading:
            rows = channel.after(self.cursor)
            if rows:
                return rows  # what was heard may be behind these
            if rows is None or channel.news_read < news:
                read = channel.news
                rows = await self._page()
                if len(rows) < PAGE_ROWS:
                    channel.news_read = read
                if rows:
                    channel.push(rows)
            self._read(news, rows)
        return rows

    async def next(
        self, timeout_s: float | None = None, *, patience_s: float | None = None
    ) -> list[Row]:
        """Give the rows after the cursor as soon as there are any, [] after `timeout_s` without.

        A database that does not answer is waited for, for `patience_s`, then it is
        StoreUnavailable. Raises Closed when the server goes down.
        """
        loop = asyncio.get_running_loop()
        end_s = None if timeout_s is None else loop.time() + timeout_s
        while True:
            # Taken before looking, so that what comes while we look wakes us.
            grown = self._channel.grown
            wait_s = None if end_s is None else end_s - loop.time()
            try:
                if rows := await self.ready():
                    return rows
            except StoreUnavailable:
                wait_s = RETRY_S if wait_s is None else min(RETRY_S, wait_s)
            else:
                if self._channel.news != self._news or self._channel.head > self.cursor:
                    continue
            if self._tail.closed:
                raise Closed
            if patience_s is not None and self._log.silent_s() > patience_s:
                raise StoreUnavailable("the database has not answered for too long")
            if not await _set_within(grown, wait_s) and end_s is not None and loop.time() >= end_s:
                return []


async def _set_within(event: asyncio.Event, wait_s: float | None) -> bool:
    try:
        async with asyncio.timeout(wait_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
