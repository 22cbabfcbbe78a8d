"""Real stores whose databases fail: as told, one commit after the other, or altogether."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from eventsourcing.persistence import OperationalError

from app.mapper import Row
from app.storage.store import VERSION_MAX, Bell, Pieces, Sealed, Store
from domain.conversation import Stretch
from projections.columns import Scalar
from projections.patches import Patch
from projections.search_ranks import Mention, Posting
from tests.databases import opened

Fault = Literal["none", "before", "after"]
# What becomes of each commit, however often it is tried.
Fate = Literal["stored", "lost", "unheard"]


class WrappedStore:
    """A store in front of another."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def _working(self) -> Store:
        return self._store

    @property
    def exclusive(self) -> bool:
        return self._store.exclusive

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        return self._working().store(batch)

    @property
    def bell(self) -> Bell | None:
        return self._store.bell

    def locked(self, stream: str) -> AbstractContextManager[None]:
        return self._working().locked(stream)

    def heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        return self._working().heads(streams)

    def others(self) -> list[str]:
        return self._working().others()

    def head(self, stream: str) -> tuple[int, bytes] | None:
        return self._working().head(stream)

    def read(  # noqa: PLR0913 - the bounds of a page
        self,
        stream: str,
        *,
        after: int = 0,
        upto: int = VERSION_MAX,
        limit: int = -1,
        deltas: bool = True,
        newest_first: bool = False,
    ) -> list[Row]:
        return self._working().read(
            stream, after=after, upto=upto, limit=limit, deltas=deltas, newest_first=newest_first
        )

    def pieces(self, stream: str, pieces: Pieces, topics: Collection[str]) -> list[Row]:
        return self._working().pieces(stream, pieces, topics)

    def each(
        self, stretches: Sequence[Stretch], *, topics: Collection[str] = (), limit: int = -1
    ) -> list[list[Row]]:
        return self._working().each(stretches, topics=topics, limit=limit)

    def marked(self, stream: str, upto: int = VERSION_MAX) -> list[Row]:
        return self._working().marked(stream, upto)

    def search(
        self, stream: str, wanted: Sequence[str], *, upto: int = VERSION_MAX, limit: int
    ) -> list[list[Posting]]:
        return self._working().search(stream, wanted, upto=upto, limit=limit)

    def mentions(
        self, wanted: Sequence[str], streams: Sequence[str] | None, *, limit: int
    ) -> list[list[Mention]]:
        return self._working().mentions(wanted, streams, limit=limit)

    def said(self, stream: str, upto: int = VERSION_MAX) -> list[int]:
        return self._working().said(stream, upto)

    def unattended(self, after: str, limit: int) -> list[str]:
        return self._working().unattended(after, limit)

    def is_free(self, work: str, holder: str) -> bool:
        return self._working().is_free(work, holder)

    def take(self, work: str, holder: str, for_ms: int) -> bool:
        return self._working().take(work, holder, for_ms)

    def renew(self, works: Sequence[str], holder: str, for_ms: int) -> set[str]:
        return self._working().renew(works, holder, for_ms)

    def drop(self, work: str, holder: str) -> None:
        self._working().drop(work, holder)

    def release(self, holder: str | None = None) -> None:
        self._working().release(holder)

    @property
    def outdated(self) -> bool:
        return self._store.outdated

    def up_to_date(self) -> None:
        self._working().up_to_date()

    def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        return self._working().query(sql, params)

    def streams(self, after: str = "", limit: int = 1000) -> list[tuple[str, int, bytes]]:
        return self._working().streams(after, limit)

    def clear_tables(self) -> None:
        self._working().clear_tables()

    def upsert(self, patches: Sequence[Patch]) -> None:
        self._working().upsert(patches)

    def close(self) -> None:
        self._store.close()


class BreakableStore(WrappedStore):
    """A store whose database can be made to stop answering."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.broken = False
        self.commits_left: int | None = None

    def _working(self) -> Store:
        if self.broken:
            raise OperationalError("the disk is gone")
        return self._store

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        if self.commits_left == 0:
            self.broken = True
        elif self.commits_left is not None:
            self.commits_left -= 1
        return super().store(batch)


class FaultyStore(WrappedStore):
    """A store with a script of faults, one per commit; without one it works.

    They come before the commit is done, or after it, when only the reply is lost.
    """

    def __init__(self, path: Path, faults: Iterable[Fault] = ()) -> None:
        super().__init__(opened(path))
        self.faults: list[Fault] = list(faults)

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit, or not, and answer, or not."""
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "before":
            raise OperationalError("the connection was lost before the commit")
        won = super().store(batch)
        if fault == "after":
            raise OperationalError("the connection was lost after the commit")
        return won


class Shared(WrappedStore):
    """A store that several nodes share, or one has to itself; what becomes of commits is told it."""

    def __init__(self, store: Store, nodes: int) -> None:
        super().__init__(store)
        self.fate: Fate = "stored"
        self._nodes = nodes

    @property
    def exclusive(self) -> bool:
        return self._nodes == 1

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit, or not, and answer, or not."""
        if self.fate == "lost":
            raise OperationalError("the connection was lost before the commit")
        won = super().store(batch)
        if self.fate == "unheard":
            raise OperationalError("the connection was lost after the commit")
        return won

    def close(self) -> None:
        """Leave it to the other nodes."""

    def end(self) -> None:
        """Close it for all."""
        self._store.close()
