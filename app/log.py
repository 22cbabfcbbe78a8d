"""The log: append with an expected version, group commit, read.

One writer takes all that waits, chains it and stores it in one transaction over many streams, then
answers each caller. There is no linger: a batch forms while the one before it commits. An append
that lost its race loses alone.
"""

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from eventsourcing.persistence import PersistenceError

from app.mapper import GENESIS, Row, data_of, envelope_of, hash_of, stamp_of, state_of
from app.store import VERSION_MAX, Sealed, Store
from domain.event import Event, Recorded
from domain.events import type_of
from projections.tables import Scalar, patches_of

BATCH_EVENTS_MAX: Final = 500
BATCH_BYTES_MAX: Final = 256 * 1024
COMMIT_TRIES: Final = 5
RETRY_DELAY_S: Final = 0.05
HASHES_CACHED_MAX: Final = 10_000
READERS: Final = 4


class VersionConflict(Exception):
    """Somebody else appended first."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream} is at {actual}, not at {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class StoreUnavailable(Exception):
    """The database does not answer; whether the append is stored is not known."""


logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")
Listener = Callable[[str, list[Row]], None]
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Append:
    stream: str
    expected: int
    events: Sequence[Event]
    data: list[bytes]
    by: str
    done: asyncio.Future[list[Recorded[Any]]]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = sum(map(len, self.data))


@dataclass(slots=True)
class _Stored:
    """An append as it went to the database, and whether it won there."""

    sealed: Sealed
    facts: list[Recorded[Any]]
    won: bool = False

    @property
    def rows(self) -> list[Row]:
        return self.sealed.rows


def _settle(done: asyncio.Future[Any], error: Exception) -> None:
    """Answer with an error, unless the caller has gone; nobody need look at it."""
    if not done.done():
        done.set_exception(error)
        done.exception()


def _done() -> asyncio.Future[Any]:
    nothing: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    nothing.set_result([])
    return nothing


class Log:
    """Append-only streams of facts in one database."""

    def __init__(self, store: Store, clock: Clock = utc_now) -> None:
        self.store = store
        self._clock = clock
        self._at = datetime.min.replace(tzinfo=UTC)
        self._waiting: deque[_Append] = deque()
        self._work = asyncio.Event()
        self._listeners: list[Listener] = []
        self._hashes: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._writer_thread = ThreadPoolExecutor(1, "log-writer")
        self._reader_threads = ThreadPoolExecutor(READERS, "log-reader")
        self._writer: asyncio.Task[None] | None = None

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
        self._waiting.append(
            _Append(stream, expected, events, list(map(data_of, events)), by, done)
        )
        self._work.set()
        return done

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._work.wait()
            batch = self._next_batch()
            answers = await loop.run_in_executor(self._writer_thread, self._answers, batch)
            self._taken(len(batch))
            for append, answer in zip(batch, answers, strict=True):
                self._answer(append, answer)

    def _next_batch(self) -> list[_Append]:
        """Give what fits; a batch has at least one append, however large."""
        batch: list[_Append] = []
        events = size = 0
        for append in self._waiting:
            events += len(append.events)
            size += append.size
            if batch and (events > BATCH_EVENTS_MAX or size > BATCH_BYTES_MAX):
                break
            batch.append(append)
        return batch

    def _taken(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
        if not self._waiting:
            self._work.clear()

    def _answer(self, append: _Append, answer: "_Stored | Exception") -> None:
        if isinstance(answer, Exception):
            self._forget_descendants(append)
            _settle(append.done, answer)
            return
        for listener in self._listeners:
            try:
                listener(append.stream, answer.rows)
            except Exception:
                # The facts are stored: nobody else may suffer, the writer least of all.
                logger.exception("a listener failed at %s", append.stream)
        if not append.done.done():
            append.done.set_result(answer.facts)

    def _forget_descendants(self, lost: _Append) -> None:
        """Turn down what waits in the same stream: it was decided on top of what was lost."""
        kept: deque[_Append] = deque()
        for append in self._waiting:
            if append.stream == lost.stream:
                _settle(append.done, VersionConflict(append.stream, append.expected, lost.expected))
            else:
                kept.append(append)
        self._waiting = kept
        if not kept:
            self._work.clear()

    # --- in the writer's thread -----------------------------------------------------------

    def _answers(self, batch: list[_Append]) -> "list[_Stored | Exception]":
        """Commit a batch; a fault of one append is answered to that one alone."""
        try:
            return self._commit(batch)
        except StoreUnavailable as error:
            self._hashes.clear()
            return [error] * len(batch)
        except Exception as error:  # noqa: BLE001 - answered to the caller, who decides
            self._hashes.clear()
            if len(batch) == 1:
                return [error]
            return self._one_by_one(batch)

    def _one_by_one(self, batch: list[_Append]) -> "list[_Stored | Exception]":
        """Commit each append of a batch by itself; what rests on a lost one is lost with it."""
        answers: list[_Stored | Exception] = []
        lost: set[str] = set()
        for append in batch:
            if append.stream in lost:
                answers.append(self._conflict(append))
            else:
                answers += self._answers([append])
            if isinstance(answers[-1], Exception):
                lost.add(append.stream)
        return answers

    def _commit(self, batch: list[_Append]) -> "list[_Stored | Exception]":
        """Chain and store a batch; every append gets rows or a conflict."""
        for append in batch:
            self._head(append.stream)
        at = self._at = max(self._at, self._clock())
        lost: set[str] = set()
        sealed = [self._seal(append, at, lost) for append in batch]
        self._store_surely([one for one in sealed if one is not None])
        return [
            one if one is not None and one.won else self._conflict(append)
            for append, one in zip(batch, sealed, strict=True)
        ]

    def _seal(self, append: _Append, at: datetime, lost: set[str]) -> _Stored | None:
        version, prev = self._head(append.stream)
        if version != append.expected or append.stream in lost:
            lost.add(append.stream)
            return None
        first = prev
        envelope = envelope_of(at, append.by)
        rows: list[Row] = []
        facts: list[Recorded[Any]] = []
        for event, data in zip(append.events, append.data, strict=True):
            version += 1
            state = state_of(prev, envelope, data)
            rows.append(Row(append.stream, version, type_of(event), state))
            facts.append(Recorded(append.stream, version, at, append.by, event))
            prev = hash_of(rows[-1])
        self._remember(append.stream, version, prev)
        patches = [patch for fact in facts for patch in patches_of(fact)]
        return _Stored(Sealed(append.stream, append.expected, first, rows, prev, patches), facts)

    def _head(self, stream: str) -> tuple[int, bytes]:
        cached = self._hashes.get(stream)
        if cached is None:
            try:
                cached = self.store.head(stream) or (0, GENESIS)
                self._not_before(stream, cached[0])
            except PersistenceError as error:
                raise StoreUnavailable(str(error)) from error
            self._remember(stream, *cached)
        return cached

    def _not_before(self, stream: str, version: int) -> None:
        """Let no stamp be earlier than the stream's last one, whatever the clock has done since."""
        for row in self.store.read(stream, after=version - 1, limit=1) if version else ():
            with suppress(ValueError):
                self._at = max(self._at, stamp_of(row))

    def _remember(self, stream: str, version: int, digest: bytes) -> None:
        self._hashes[stream] = (version, digest)
        self._hashes.move_to_end(stream)
        if len(self._hashes) > HASHES_CACHED_MAX:
            self._hashes.popitem(last=False)

    def _store_surely(self, ready: list["_Stored"]) -> None:
        """Commit; where the reply to a COMMIT is lost, try again first, then compare what is there.

        Reading back first could miss a commit that is still under way. Raises StoreUnavailable
        when out of tries: stored or not, nobody knows, so nothing may be called failed.
        """
        doubtful = False
        for tries_left in reversed(range(COMMIT_TRIES)):
            try:
                won = self.store.store([one.sealed for one in ready])
                for one, win in zip(ready, won, strict=True):
                    one.won = win or (doubtful and self._is_stored(one.sealed))
            except PersistenceError as error:
                doubtful = True
                if not tries_left:
                    raise StoreUnavailable(str(error)) from error
                time.sleep(RETRY_DELAY_S)
            else:
                return

    def _is_stored(self, one: Sealed) -> bool:
        found = self.store.read(one.stream, after=one.expected, limit=len(one.rows))
        return found == one.rows

    def _conflict(self, append: _Append) -> VersionConflict | StoreUnavailable:
        """Tell a loser where its stream is, read after the commit that others won."""
        self._hashes.pop(append.stream, None)
        try:
            return VersionConflict(append.stream, append.expected, self._head(append.stream)[0])
        except StoreUnavailable as error:
            return error

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

    async def in_writer(self, work: Callable[[], Answer]) -> Answer:
        """Run a blocking write beside the log in the writer's thread. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._writer_thread, work)
        except PersistenceError as error:
            raise StoreUnavailable(str(error)) from error

    async def in_reader(self, work: Callable[[], Answer]) -> Answer:
        """Run blocking reads in a reader's thread. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._reader_threads, work)
        except PersistenceError as error:
            raise StoreUnavailable(str(error)) from error
