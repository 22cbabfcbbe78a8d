"""The log: append with an expected version, group commit, read.

One writer takes all that waits and has it committed in one transaction over many streams, then
answers each caller. There is no linger: a batch forms while the one before it commits.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from eventsourcing.persistence import PersistenceError

from app.mapper import Row
from app.storage.committing import (
    Append,
    Clock,
    Committer,
    Decide,
    Outcome,
    StoreUnavailable,
    VersionConflict,
    utc_now,
)
from app.storage.store import VERSION_MAX, Store
from domain.event import Event, Recorded
from projections.columns import Scalar

BATCH_EVENTS_MAX: Final = 500
BATCH_BYTES_MAX: Final = 256 * 1024
READERS: Final = 4
# What was not tried again for so long may be well by now.
SILENCE_FORGOTTEN_S: Final = 10.0


logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Listener = Callable[[str, list[Row]], None]
__all__ = ["Log", "StoreUnavailable", "VersionConflict", "utc_now"]


@dataclass(slots=True)
class _Waiting:
    """An append in the queue, and who waits for it."""

    append: Append
    done: asyncio.Future[list[Recorded[Any]]]


def _settle(done: asyncio.Future[Any], error: Exception) -> None:
    """Answer with an error, unless the caller has gone; nobody need look at it."""
    if not done.done():
        done.set_exception(error)
        done.exception()


def _done() -> asyncio.Future[Any]:
    nothing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    nothing.set_result([])
    return nothing


class _Silence:
    """For how long a way to the database has given no answer; forgotten if nobody asks any more."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._last_s = 0.0

    def failed(self) -> None:
        self._last_s = time.monotonic()
        self._since_s = self._since_s or self._last_s

    def answered(self) -> None:
        self._since_s = None

    @property
    def lasts_s(self) -> float:
        if self._since_s is None or time.monotonic() > self._last_s + SILENCE_FORGOTTEN_S:
            return 0.0
        return time.monotonic() - self._since_s


class Log:
    """Append-only streams of facts in one database."""

    def __init__(
        self,
        store: Store,
        clock: Clock = utc_now,
        *,
        patience_s: float = 0.0,
        readers: int = READERS,
    ) -> None:
        """Use a store that is closed with the log.

        A commit without an answer is tried again for `patience_s`, five times at the least.
        """
        self.store = store
        self._committer = Committer(store, clock, patience_s)
        self._waiting: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._listeners: list[Listener] = []
        self._writer_thread = ThreadPoolExecutor(1, "log-writer")
        self._reader_threads = ThreadPoolExecutor(readers, "log-reader")
        self._writer: asyncio.Task[None] | None = None
        self._no_reads, self._no_writes = _Silence(), _Silence()

    # --- life -----------------------------------------------------------------------------

    async def __aenter__(self) -> "Log":
        self._writer = asyncio.create_task(self._write(), name="log-writer")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Commit what waits, then close the database."""
        await asyncio.wait([one.done for one in self._waiting] or [_done()])
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        self._writer_thread.shutdown()
        self._reader_threads.shutdown()
        self.store.close()

    def listen(self, listener: Listener) -> None:
        """Have `listener(stream, rows)` called on the event loop after each commit."""
        self._listeners.append(listener)

    # --- append ---------------------------------------------------------------------------

    def append(
        self, stream: str, expected: int, events: Sequence[Event], by: str
    ) -> asyncio.Future[list[Recorded[Any]]]:
        """Queue facts for the next commit, never split; the future is done when they are stored.

        It raises VersionConflict if the stream was not at `expected`, StoreUnavailable if the
        database gave no answer.
        """
        done: asyncio.Future[list[Recorded[Any]]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(Append(stream, expected, events, by), done))
        self._work.set()
        return done

    async def append_under_lock(self, stream: str, decide: Decide, by: str) -> list[Recorded[Any]]:
        """Have `decide`, given the stream's version, say what to append while nobody else can.

        For a stream on which others have come first too often; `decide` runs in the writer's
        thread. Raises what it raises, VersionConflict for a stream that somebody else has begun,
        and StoreUnavailable.
        """
        outcome = await self.in_writer(lambda: self._committer.under_lock(stream, decide, by))
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is None:
            return []
        self._tell(stream, outcome.rows)
        return outcome.facts

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            batch = self._next_batch()
            appends = [one.append for one in batch]
            commit = self._committer.outcomes
            outcomes = await loop.run_in_executor(self._writer_thread, commit, appends)
            self._taken(len(batch))
            for one, outcome in zip(batch, outcomes, strict=True):
                self._answer(one, outcome)
            if all(isinstance(one, StoreUnavailable) for one in outcomes):
                self._no_writes.failed()
                self._turn_down(str(outcomes[0]))
            else:
                self._no_writes.answered()

    def _next_batch(self) -> list[_Waiting]:
        """Give what fits; a batch has at least one append, however large."""
        batch: list[_Waiting] = []
        events = size = 0
        for one in self._waiting:
            events += len(one.append.events)
            size += one.append.size
            if batch and (events > BATCH_EVENTS_MAX or size > BATCH_BYTES_MAX):
                break
            batch.append(one)
        return batch

    def _taken(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
        if not self._waiting:
            self._work.clear()

    def _answer(self, one: _Waiting, outcome: Outcome) -> None:
        if isinstance(outcome, Exception):
            self._forget_descendants(one.append)
            _settle(one.done, outcome)
            return
        self._tell(one.append.stream, outcome.rows)
        if not one.done.done():
            one.done.set_result(outcome.facts)

    def _tell(self, stream: str, rows: list[Row]) -> None:
        for listener in self._listeners:
            try:
                listener(stream, rows)
            except Exception:
                # The facts are stored: nobody else may suffer, the writer least of all.
                logger.exception("a listener failed at %s", stream)

    def _forget_descendants(self, lost: Append) -> None:
        """Turn down what waits in the same stream: it was decided on top of what was lost."""
        kept: deque[_Waiting] = deque()
        for one in self._waiting:
            append = one.append
            if append.stream == lost.stream:
                _settle(one.done, VersionConflict(append.stream, append.expected, lost.expected))
            else:
                kept.append(one)
        self._waiting = kept
        if not kept:
            self._work.clear()

    def _turn_down(self, reason: str) -> None:
        """Answer all that waits like the last batch: who came later must not wait as long again."""
        waiting, self._waiting = self._waiting, deque()
        self._work.clear()
        logger.warning("nothing can be stored: %s", reason)
        for one in waiting:
            _settle(one.done, StoreUnavailable(reason))

    # --- read -----------------------------------------------------------------------------

    async def read(  # noqa: PLR0913 - the bounds of a page
        self,
        stream: str,
        *,
        after: int = 0,
        upto: int = VERSION_MAX,
        limit: int = -1,
        deltas: bool = True,
        newest_first: bool = False,
    ) -> list[Row]:
        """Read committed rows with `after < version <= upto`, in order; -1 is no limit."""

        def page() -> list[Row]:
            return self.store.read(
                stream,
                after=after,
                upto=upto,
                limit=limit,
                deltas=deltas,
                newest_first=newest_first,
            )

        return await self.in_reader(page)

    async def head(self, stream: str) -> tuple[int, bytes] | None:
        """Give a stream's committed version and hash, None if there is no such stream."""
        return await self.in_reader(lambda: self.store.head(stream))

    async def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        """Run a SELECT on the read tables."""
        return await self.in_reader(lambda: self.store.query(sql, params))

    def silent_s(self) -> float:
        """Tell for how long the database has not let us read, or not let us write."""
        return max(self._no_reads.lasts_s, self._no_writes.lasts_s)

    async def in_writer(self, work: Callable[[], Answer]) -> Answer:
        """Run a blocking write beside the log in the writer's thread. Raises StoreUnavailable."""
        return await self._run(self._writer_thread, self._no_writes, work)

    async def in_reader(self, work: Callable[[], Answer]) -> Answer:
        """Run blocking reads in a reader's thread. Raises StoreUnavailable."""
        return await self._run(self._reader_threads, self._no_reads, work)

    async def _run(
        self, threads: ThreadPoolExecutor, silence: _Silence, work: Callable[[], Answer]
    ) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(threads, work)
        except PersistenceError as error:
            silence.failed()
            raise StoreUnavailable(str(error)) from error
        except StoreUnavailable:
            silence.failed()
            raise
        silence.answered()
        return answer
