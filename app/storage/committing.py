"""What the log's writer thread does: chain appends, store them surely, tell who lost.

An append that lost its race loses alone. Nothing is called failed unless it is known to have failed.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from eventsourcing.persistence import OperationalError, PersistenceError

from app.mapper import GENESIS, Row, data_of, envelope_of, hash_of, stamp_of, state_of
from app.storage.store import Sealed, Store
from domain.event import Event, Recorded
from domain.events import type_of
from projections.patches import patches_of

COMMIT_TRIES: Final = 5
RETRY_DELAY_S: Final = 0.05
RETRY_DELAY_S_MAX: Final = 0.5
HASHES_CACHED_MAX: Final = 10_000

Clock: TypeAlias = Callable[[], datetime]
# Given the stream's version, read under its lock, says what to append.
Decide: TypeAlias = Callable[[int], Sequence[Event]]


class VersionConflict(Exception):
    """Somebody else appended first."""

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        super().__init__(f"{stream} is at {actual}, not at {expected}")
        self.stream = stream
        self.expected = expected
        self.actual = actual


class StoreUnavailable(Exception):
    """The database does not answer; whether the append is stored is not known."""


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Append:
    """Facts for a stream that is expected to be at a version."""

    stream: str
    expected: int
    events: Sequence[Event]
    by: str
    data: list[bytes] = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.data = list(map(data_of, self.events))
        self.size = sum(map(len, self.data))


@dataclass(slots=True)
class Stored:
    """An append as it went to the database, and whether it won there."""

    sealed: Sealed
    facts: list[Recorded[Any]]
    won: bool = False

    @property
    def rows(self) -> list[Row]:
        """Its rows."""
        return self.sealed.rows


Outcome: TypeAlias = Stored | Exception


class Committer:
    """Commits batches of appends. Every call blocks; all are made by one thread."""

    def __init__(self, store: Store, clock: Clock, patience_s: float) -> None:
        self._store = store
        self._clock = clock
        self._patience_s = patience_s
        self._at = datetime.min.replace(tzinfo=UTC)
        self._hashes: OrderedDict[str, tuple[int, bytes]] = OrderedDict()

    def outcomes(self, batch: Sequence[Append]) -> list[Outcome]:
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

    def under_lock(self, stream: str, decide: Decide, by: str) -> Outcome | None:
        """Decide and append while nobody else can; None if there was nothing to append.

        Raises what `decide` raises, and StoreUnavailable.
        """
        stored: Stored | None = None
        try:
            with self._store.locked(stream):
                self._hashes.pop(stream, None)
                version, _ = self._head(stream)
                append = Append(stream, version, decide(version), by)
                stored = self._seal(append, self._now(), set()) if append.events else None
                if stored is None:
                    return None
                [stored.won] = self._store.store([stored.sealed])
        except PersistenceError as error:
            self._hashes.pop(stream, None)
            if stored is None:
                raise StoreUnavailable(str(error)) from error
            self._store_surely([stored], doubtful=True)
        return stored if stored.won else self._conflict(stream, stored.sealed.expected)

    def _one_by_one(self, batch: Sequence[Append]) -> list[Outcome]:
        """Commit each append of a batch by itself; what rests on a lost one is lost with it."""
        outcomes: list[Outcome] = []
        lost: set[str] = set()
        for append in batch:
            if append.stream in lost:
                outcomes.append(self._conflict(append.stream, append.expected))
            else:
                outcomes += self.outcomes([append])
            if isinstance(outcomes[-1], Exception):
                lost.add(append.stream)
        return outcomes

    # --- chaining -------------------------------------------------------------------------

    def _commit(self, batch: Sequence[Append]) -> list[Outcome]:
        """Chain and store a batch; every append gets rows or a conflict."""
        for append in batch:
            self._head_for(append)
        at = self._now()
        lost: set[str] = set()
        sealed = [self._seal(append, at, lost) for append in batch]
        self._store_surely([one for one in sealed if one is not None])
        return [
            one if one is not None and one.won else self._conflict(append.stream, append.expected)
            for append, one in zip(batch, sealed, strict=True)
        ]

    def _now(self) -> datetime:
        """Read the clock; it never goes back."""
        self._at = max(self._at, self._clock())
        return self._at

    def _seal(self, append: Append, at: datetime, lost: set[str]) -> Stored | None:
        version, prev = self._head_for(append)
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
        return Stored(Sealed(append.stream, append.expected, first, rows, prev, patches), facts)

    def _head_for(self, append: Append) -> tuple[int, bytes]:
        """Give a stream's head; of one that begins here it need not be asked: a wrong guess loses."""
        if append.expected == 0 and append.stream not in self._hashes:
            self._remember(append.stream, 0, GENESIS)
        return self._head(append.stream)

    def _head(self, stream: str) -> tuple[int, bytes]:
        cached = self._hashes.get(stream)
        if cached is None:
            try:
                cached = self._store.head(stream) or (0, GENESIS)
                self._not_before(stream, cached[0])
            except PersistenceError as error:
                raise StoreUnavailable(str(error)) from error
            self._remember(stream, *cached)
        return cached

    def _not_before(self, stream: str, version: int) -> None:
        """Let no stamp be earlier than the stream's last one, whatever the clock has done since."""
        for row in self._store.read(stream, after=version - 1, limit=1) if version else ():
            with suppress(ValueError, LookupError, TypeError):
                self._at = max(self._at, stamp_of(row))

    def _remember(self, stream: str, version: int, digest: bytes) -> None:
        self._hashes[stream] = (version, digest)
        self._hashes.move_to_end(stream)
        if len(self._hashes) > HASHES_CACHED_MAX:
            self._hashes.popitem(last=False)

    # --- storing --------------------------------------------------------------------------

    def _store_surely(self, ready: list[Stored], *, doubtful: bool = False) -> None:
        """Commit; where the reply to a COMMIT is lost, try again first, then compare what is there.

        Reading back first could miss a commit that is still under way. Raises StoreUnavailable
        when out of tries: stored or not, nobody knows, so nothing may be called failed.
        """
        end_s = time.monotonic() + self._patience_s
        tries, delay_s = 0, RETRY_DELAY_S
        while True:
            try:
                won = self._store.store([one.sealed for one in ready])
                for one, win in zip(ready, won, strict=True):
                    one.won = win or (doubtful and self._is_stored(one.sealed))
            except OperationalError as error:
                doubtful, tries = True, tries + 1
                if tries >= COMMIT_TRIES and time.monotonic() >= end_s:
                    raise StoreUnavailable(str(error)) from error
                time.sleep(delay_s)
                if tries >= COMMIT_TRIES:
                    delay_s = min(2 * delay_s, RETRY_DELAY_S_MAX)
            else:
                return

    def _is_stored(self, one: Sealed) -> bool:
        found = self._store.read(one.stream, after=one.expected, limit=len(one.rows))
        return found == one.rows

    def _conflict(self, stream: str, expected: int) -> VersionConflict | StoreUnavailable:
        """Tell a loser where its stream is, read after the commit that others won."""
        self._hashes.pop(stream, None)
        try:
            return VersionConflict(stream, expected, self._head(stream)[0])
        except StoreUnavailable as error:
            return error
