"""What the log asks of a database: one small strategy per engine, and nothing else knows which."""

from collections.abc import Callable, Collection, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, LiteralString, NamedTuple, Protocol, TypeAlias

from app.mapper import Row
from domain.conversation import Stretch
from domain.streams import VERSION_MAX
from projections.columns import Scalar
from projections.patches import Patch
from projections.search_ranks import Mention, Posting

# The form of the read tables; those of an older one are written again from the log.
SCHEMA_VERSION: Final = 6
# Facts that change which messages are in the window or what is in its place: an index has them. A
# query must have the very words, as a bound value would not use that index.
MARKS: Final[LiteralString] = (
    "topic IN ('window.compaction_started', 'window.compaction_failed', 'window.compacted', "
    "'window.compaction_undone', 'window.compaction_redone', 'window.recompiled', "
    "'window.rolled_back', 'message.changed')"
)
# Indexes of earlier schemas.
DROPPED_INDEXES: Final[tuple[LiteralString, ...]] = ("marks", "rollbacks")

# Stretches of a stream that do not overlap, in order: pairs that stand for after < version <= upto.
Pieces: TypeAlias = Sequence[tuple[int, int]]
# Told which streams have grown elsewhere.
Heard: TypeAlias = Callable[[Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class Terms:
    """How long to wait for a database server, and who we tell it that we are. 0 is for ever."""

    connect_timeout_s: float = 3.0
    statement_timeout_s: float = 5.0
    lock_timeout_s: float = 2.0
    name: str = "everlog"


class Unusable(Exception):
    """A database that cannot be served as it is; the message says what to do."""


class DatabaseInUse(Unusable):
    """Another process owns the file."""


class NewerSchema(Unusable):
    """The database was written by a newer Everlog."""


class Unmigrated(Unusable):
    """The database has no tables of ours, or older ones."""


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


class Deaf(Exception):
    """Notifications do not arrive on this kind of connection."""


class Bell(Protocol):
    """How the processes on one database tell each other that streams have grown.

    A hint and nothing more: behind it everybody looks once a second.
    """

    def ring(self, streams: Sequence[str]) -> None:
        """Tell the others. Blocks, so it runs in a thread. Raises PersistenceError."""
        ...

    async def listen(self, heard: Heard, begun: Callable[[], None]) -> None:
        """Listen until the connection is lost; `begun` is called once anything would be heard.

        Ends by raising PersistenceError, or Deaf if there is nothing to hope for.
        """
        ...


class Store(Protocol):
    """A database. Every call blocks, so it runs in a thread.

    Each may raise eventsourcing's PersistenceError when the database fails.
    """

    @property
    def exclusive(self) -> bool:
        """Whether no other process can append, so that a cached head is the truth."""
        ...

    @property
    def bell(self) -> Bell | None:
        """How to wake other processes, None where there are none."""
        ...

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit the appends whose stream is where they expect it; tell which those were.

        One transaction, or one per shard where the database has shards.
        """
        ...

    def locked(self, stream: str) -> AbstractContextManager[None]:
        """Keep others from appending to a stream for as long as the context is open.

        What this thread reads and stores meanwhile is in one transaction, committed at the end.
        """
        ...

    def head(self, stream: str) -> tuple[int, bytes] | None:
        """Give a stream's last version and hash, None if there is no such stream."""
        ...

    def heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        """Give the last versions of those of the streams that exist."""
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

    def pieces(self, stream: str, pieces: Pieces, topics: Collection[str]) -> list[Row]:
        """Read the facts of some types in pieces of a stream, in order; deltas are no facts."""
        ...

    def each(
        self, stretches: Sequence[Stretch], *, topics: Collection[str] = (), limit: int = -1
    ) -> list[list[Row]]:
        """Read of each stretch the first rows of some types, or of all, in order; -1 is no limit.

        However many there are, a database server is asked once; one that has shards, each of them.
        """
        ...

    def marked(self, stream: str, upto: int = VERSION_MAX) -> list[Row]:
        """Read the facts that change what is in a stream's window beside its messages, in order."""
        ...

    def search(
        self, stream: str, wanted: Sequence[str], *, upto: int = VERSION_MAX, limit: int
    ) -> list[list[Posting]]:
        """Find for each wanted term the newest texts of a stream that have it, at most `limit`.

        Terms are as `projections.search_words` makes them; of several with spaces between, a text
        must have all.
        """
        ...

    def mentions(
        self, wanted: Sequence[str], streams: Sequence[str] | None, *, limit: int
    ) -> list[list[Mention]]:
        """Find for each wanted term the newest texts of some streams, or of all, that have it.

        At most `limit` of each term.
        """
        ...

    def said(self, stream: str, upto: int = VERSION_MAX) -> list[int]:
        """Give the versions of a stream's facts that say something, in order."""
        ...

    def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        """Run a SELECT on the read tables, written for SQLite: `?`, `instr`, `json_each`."""
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

    def others(self) -> list[str]:
        """Name the servers that are at work on the database, as far as it can tell."""
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


def question_marks(values: Sized) -> str:
    """Write a mark for each value that a statement names with `IN`."""
    return ", ".join("?" * len(values))
