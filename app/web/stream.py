"""Server-sent events: a follower's rows as frames, what is ready in one write."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.log import utc_now
from app.mapper import Row, event_json, revive
from app.storage.store import VERSION_MAX
from app.tail import Closed
from app.web.errors import NO_RETRY, ApiError
from app.web.services import Services
from domain.event import Recorded
from domain.events import DELTA
from domain.run import StepFinished, StepStarted, StepSuperseded
from domain.streams import PING, id_of
from projections.frames import DONE, Frames, sse, superseded_of
from projections.letta import ping
from projections.wire import Ping

GOODBYE: Final = b": the server is going down; reconnect and resume from the last id\n\n"
SILENCE: Final = b": still here\n\n"
SSE_TYPE: Final = "text/event-stream"


class EventStream(Response):
    """Sends what `pieces` yields, until it ends or the client goes away."""

    media_type = SSE_TYPE

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's
        """Send, with an ear for the client's going away: a silent stream would not notice."""
        sending = asyncio.ensure_future(self._send(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            if not sending.done():
                sending.cancel()
            await asyncio.wait({sending, leaving})
        if not sending.cancelled():
            sending.result()

    async def _send(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(head)
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def checked_cursor(services: Services, stream: str, cursor: int) -> int:
    """Give a stream's head. Raises 409 for a cursor past it: waiting there would be for ever."""
    head = await services.log.head(stream)
    version = head[0] if head else 0
    if cursor > version:
        raise ApiError(
            409,
            f"CONFLICT: Offset {cursor} is past the end of {stream}, which is at {version}.",
            headers=NO_RETRY,
            head=version,
        )
    return version


# --- facts ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which facts a stream of them has: of which types, how many before it ends."""

    types: frozenset[str] | None = None
    limit: int = VERSION_MAX
    follow: bool = True

    def of(self, rows: Iterable[Row]) -> Iterable[Row]:
        """Pick those of these types."""
        return (row for row in rows if self.types is None or row.topic in self.types)


async def facts_stream(
    services: Services, stream: str, after: int, wanted: Wanted
) -> AsyncIterator[bytes]:
    """Send facts as they are stored: `id:` the offset, `event:` the type."""
    head = await checked_cursor(services, stream, after)
    return _facts(services, stream, after, head, wanted)


async def _facts(
    services: Services, stream: str, after: int, head: int, wanted: Wanted
) -> AsyncIterator[bytes]:
    left = wanted.limit
    with services.tail.follow(stream, after) as follower:
        while left and (wanted.follow or follower.cursor < head):
            try:
                rows = await follower.next(services.settings.ping_interval_s)
            except Closed:
                yield GOODBYE
                return
            if not rows:
                yield SILENCE
            elif pieces := [*map(_fact, islice(wanted.of(rows), left))]:
                left -= len(pieces)
                yield b"".join(pieces)


def _fact(row: Row) -> bytes:
    head = f"id: {row.version}\nevent: {row.topic}\ndata: ".encode()
    return b"".join((head, event_json(row), b"\n\n"))


# --- runs -------------------------------------------------------------------------------------


class RunStream:
    """One run of a conversation, from `run.queued` to the end, as Letta's clients see it."""

    def __init__(
        self,
        services: Services,
        stream: str,
        run_id: str,
        queued_at: int,
        finished_at: int | None = None,
    ) -> None:
        self._services = services
        self._stream = stream
        self._run_id = run_id
        self._start = queued_at - 1
        # Of a conversation that has gone on since, only the run's own facts are read.
        self._end = finished_at or VERSION_MAX

    async def frames(self, after: int, *, pings: bool) -> AsyncIterator[bytes]:
        """Send the frames after offset `after`. Raises 409 for an offset past the end."""
        await checked_cursor(self._services, self._stream, after)
        cursor = max(after, self._start)
        rows = await self._services.log.read(
            self._stream, after=self._start, upto=self._end, deltas=False
        )
        facts = [revive(row) for row in rows]
        frames = Frames(self._run_id, superseded_of(facts))
        seen = [fact for fact in facts if fact.version <= cursor]
        if _over(frames, seen):
            return _one(DONE)
        await self._feed_open_step(frames, seen, cursor)
        return self._frames(frames, cursor, pings=pings)

    async def _feed_open_step(self, frames: Frames, seen: list[Recorded[Any]], cursor: int) -> None:
        """Tell which tool calls the deltas after a cursor in mid-step go on with."""
        # Others may have queued messages since it started, so it need not be the last fact.
        closed = {
            one.event.s for one in seen if isinstance(one.event, StepFinished | StepSuperseded)
        }
        started = next((one for one in reversed(seen) if isinstance(one.event, StepStarted)), None)
        if started is not None and started.version not in closed:
            rows = await self._services.log.read(self._stream, after=started.version, upto=cursor)
            _over(frames, map(revive, rows))

    def fresh_frames(self, *, pings: bool) -> AsyncIterator[bytes]:
        """Send the frames of a run that was queued just now."""
        return self._frames(Frames(self._run_id), self._start, pings=pings)

    async def _frames(self, frames: Frames, cursor: int, *, pings: bool) -> AsyncIterator[bytes]:
        wait_s = self._services.settings.ping_interval_s if pings else None
        last = cursor
        with self._services.tail.follow(self._stream, cursor) as follower:
            while True:
                try:
                    rows = await follower.next(wait_s)
                except Closed:
                    yield GOODBYE
                    return
                if not rows:
                    yield sse(self._keep_alive(last))
                    continue
                piece, last, over = _piece(frames, rows, last)
                if piece:
                    yield piece
                if over:
                    return

    def _keep_alive(self, last: int) -> Ping:
        """Repeat the last number: a sign of life is not a fact."""
        return ping(id_of(PING, uuid4()), utc_now(), self._run_id, last)

    async def finished(self) -> list[Row]:
        """Wait for the run's end; give its rows without deltas.

        Raises 503 if we go down first, or if the database does: the run may go on elsewhere.
        """
        patience_s = self._services.settings.database_patience_s
        kept: list[Row] = []
        with self._services.tail.follow(self._stream, self._start) as follower:
            try:
                while not _ends(kept, self._run_id):
                    rows = await follower.next(patience_s=patience_s)
                    kept += [row for row in rows if row.topic != DELTA]
            except Closed as error:
                raise ApiError(503, "The server is going down; the run goes on.") from error
        return kept


def _over(frames: Frames, facts: Iterable[Recorded[Any]]) -> bool:
    """Feed facts that the client has seen; tell whether they end the run."""
    over = False
    for fact in facts:
        sent = frames.of(fact)
        over = over or (sent is not None and sent.end)
    return over


def _piece(frames: Frames, rows: list[Row], last: int) -> tuple[bytes, int, bool]:
    """Join what is ready: one write costs a quarter of a write per frame."""
    pieces: list[bytes] = []
    for row in rows:
        sent = frames.of(revive(row))
        if sent is None:
            continue
        pieces.append(sent.data)
        if sent.end:
            return b"".join(pieces), last, True
        last = sent.seq_id or last
    return b"".join(pieces), last, False


def _ends(rows: list[Row], run_id: str) -> bool:
    return any(row.topic == "run.finished" and revive(row).event.run_id == run_id for row in rows)


async def _one(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
