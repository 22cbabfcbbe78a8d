"""What the log asks of a database: one small strategy per engine, and nothing else knows which."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from app.mapper import Row
from projections.tables import Patch, Scalar

# More than any stream will hold, and within a database's 64-bit integers.
VERSION_MAX: Final = 2**62


class Sealed(NamedTuple):
    """An append made ready: its rows, the hashes around them, what it sets in the tables.

    `prev` makes the compare-and-set one of the whole history: an append that was decided on top of
    one that lost cannot win by having the right number.
    """

    stream: str
    expected: int
    prev: bytes
    rows: list[Row]
    hash: bytes
    patches: list[Patch]


class Store(Protocol):
    """A database. Every call blocks, so it runs in a thread.

    Each may raise eventsourcing's PersistenceError when the database fails.
    """

    @property
    def exclusive(self) -> bool:
        """Whether no other process can append, so that a cached head is the truth."""
        ...

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit, in one transaction, the appends whose stream is where they expect it."""
        ...

    def head(self, stream: str) -> tuple[int, bytes] | None:
        """Give a stream's last version and hash, None if there is no such stream."""
        ...

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
        """Read rows with `after < version <= upto` in order; -1 is no limit."""
        ...

    def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        """Run a SELECT on the read tables, marks written as `?`."""
        ...

    def streams(self, after: str = "", limit: int = 1000) -> list[tuple[str, int, bytes]]:
        """Page through all streams in order of id: (id, head, hash)."""
        ...

    def clear_tables(self) -> None:
        """Empty every read table."""
        ...

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables outside an append: for a rebuild."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
