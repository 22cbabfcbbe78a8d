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

    def marked(self, stream: str, upto: int = VERSION_MAX) -> list[Row]:
        """Read the facts that say which of a stream's messages were rolled back, in order."""
        ...

    def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        """Run a SELECT on the read tables, marks written as `?`."""
        ...

    def unattended(self, after: str, limit: int) -> list[str]:
        """Name conversations with a run that is not over and that no living lease covers.

        They are paged in order of id.
        """
        ...

    def is_free(self, work: str, holder: str) -> bool:
        """Tell whether nobody but `holder` has a living lease on `work`."""
        ...

    def take(self, work: str, holder: str, for_ms: int) -> bool:
        """Take a lease, by the database's clock, unless somebody else has it."""
        ...

    def renew(self, works: Sequence[str], holder: str, for_ms: int) -> set[str]:
        """Renew leases that `holder` has; give those it had no more."""
        ...

    def drop(self, work: str, holder: str) -> None:
        """Forget a holder's lease: the work is done, and nobody will want it again."""
        ...

    def release(self, holder: str | None = None) -> None:
        """Let a holder's leases lapse now, or everybody's."""
        ...

    def streams(self, after: str = "", limit: int = 1000) -> list[tuple[str, int, bytes]]:
        """Page through all streams in order of id: (id, head, hash)."""
        ...

    @property
    def outdated(self) -> bool:
        """Whether the read tables are empty since their form changed, and have to be rebuilt."""
        ...

    def up_to_date(self) -> None:
        """Note that the read tables were rebuilt."""
        ...

    def clear_tables(self) -> None:
        """Empty every read table that can be rebuilt."""
        ...

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables outside an append: for a rebuild."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
