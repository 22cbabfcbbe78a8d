"""The store on SQLite: one file, one process, every commit on disk before it is answered.

Built on the aggregate recorder of the eventsourcing library, with a table with rowids (its stock
one, without, writes twice the WAL for our rows) and an insert of our own: a compare-and-set of each
stream's head, then the events of those that won, then the read tables, in one transaction.
"""

import fcntl
import os
import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from eventsourcing.persistence import OperationalError
from eventsourcing.sqlite import (
    SQLiteAggregateRecorder,
    SQLiteConnection,
    SQLiteConnectionPool,
    SQLiteCursor,
    SQLiteDatastore,
)

from app.mapper import Row
from app.storage.sqlite_tables import NOW, drop_index, index_of, schema_of, upsert
from app.storage.store import (
    DROPPED_INDEXES,
    MARKS,
    SCHEMA_VERSION,
    VERSION_MAX,
    DatabaseInUse,
    NewerSchema,
    Pieces,
    Sealed,
    Unusable,
    question_marks,
)
from domain.conversation import Stretch
from projections.columns import Scalar
from projections.patches import Patch
from projections.search_ranks import Mention, Posting
from projections.tables import TABLES, UNFINISHED

_LOG_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS stored_events (originator_id TEXT NOT NULL, "
    "originator_version INTEGER NOT NULL, topic TEXT NOT NULL, state BLOB NOT NULL, "
    "PRIMARY KEY (originator_id, originator_version))",
    "CREATE TABLE IF NOT EXISTS streams (id TEXT PRIMARY KEY, head INTEGER NOT NULL, "
    "hash BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS facts ON stored_events (originator_id, originator_version) "
    "WHERE topic <> 'step.delta'",
    "CREATE INDEX IF NOT EXISTS window_marks ON stored_events (originator_id, originator_version) "
    f"WHERE {MARKS}",
)
_ADVANCE: Final = (
    "INSERT INTO streams (id, head, hash) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE "
    "SET head = excluded.head, hash = excluded.hash WHERE streams.head = ? AND streams.hash = ?"
)
_SELECT: Final = (
    "SELECT originator_id, originator_version, topic, state FROM stored_events "
    "WHERE originator_id = ? AND originator_version > ? AND originator_version <= ? "
)
_NO_DELTAS: Final = "AND topic <> 'step.delta' "
_SEARCH: Final = (
    "SELECT version, words FROM texts_index WHERE texts_index MATCH ? AND version <= ? "
    "ORDER BY rowid DESC LIMIT ?"
)
# The first of a row's terms is its stream. In the order in which they were written.
MENTIONS: Final = (
    "SELECT substr(terms, 1, instr(terms, ' ') - 1), version, words FROM texts_index "
    "WHERE texts_index MATCH ? ORDER BY rowid DESC LIMIT ?"
)
_SAID: Final = "SELECT group_concat(version) FROM texts WHERE stream = ? AND version <= ?"
_UNATTENDED: Final = (
    "SELECT DISTINCT runs.conversation_id FROM runs "  # noqa: S608 - our own words
    "LEFT JOIN leases ON leases.work = runs.conversation_id "
    f"WHERE {UNFINISHED} "
    f"AND coalesce(leases.expires_at, 0) <= {NOW} AND runs.conversation_id > ? "
    "ORDER BY runs.conversation_id LIMIT ?"
)
_TAKE: Final = (
    "INSERT INTO leases (work, holder, expires_at) "  # noqa: S608 - our own words
    f"VALUES (?, ?, {NOW} + ?) ON CONFLICT (work) DO UPDATE "
    "SET holder = excluded.holder, expires_at = excluded.expires_at "
    f"WHERE leases.holder = excluded.holder OR leases.expires_at <= {NOW}"
)
# One that lapsed and that nobody took is still ours.
_RENEW: Final = f"UPDATE leases SET expires_at = {NOW} + ? WHERE work = ? AND holder = ?"  # noqa: S608 - our own words
_FREE: Final = f"SELECT 1 FROM leases WHERE work = ? AND holder <> ? AND expires_at > {NOW}"  # noqa: S608 - our own words


class _Pool(SQLiteConnectionPool):
    """Connections that wait for the disk at every commit."""

    def _create_connection(self) -> SQLiteConnection:
        connection = super()._create_connection()
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA temp_store = MEMORY")
        return connection


class _Datastore(SQLiteDatastore):
    def __init__(self, path: Path) -> None:
        super().__init__(db_name=str(path), pool_size=8, originator_id_type="text")
        self.pool.close()
        self.pool = _Pool(db_name=str(path), pool_size=8, max_overflow=8)


class SQLiteStore(SQLiteAggregateRecorder):
    """The log, its heads and its read tables in one file that this process owns."""

    # No other process can append, so a cached head needs no look at the file.
    exclusive: bool = True
    bell: None = None

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises Unusable where there is no directory for it, or its kinds."""
        if not path.parent.is_dir():
            raise Unusable(f"There is no directory {path.parent} for the database; make it first.")
        self.path = path
        self._lock = self._own()
        self.outdated = False
        super().__init__(_Datastore(path))
        try:
            self.create_table()
        except BaseException:
            self.close()
            raise

    def _own(self) -> int:
        """Take the file for this process alone; give what `close` gives back."""
        return _locked(self.path)

    def construct_create_table_statements(self) -> list[str]:
        """Give the schema, every statement harmless if it was run before."""
        return [*_LOG_SCHEMA, *(one for table in TABLES.values() for one in schema_of(table))]

    def create_table(self) -> None:
        """Create what is missing; read tables of an older form begin anew. Raises NewerSchema."""
        with self.datastore.transaction(commit=True) as c:
            c.execute("PRAGMA user_version")
            found = c.fetchone()[0]
            if found > SCHEMA_VERSION:
                raise NewerSchema(
                    f"{self.path} has schema {found}; this Everlog knows up to {SCHEMA_VERSION}."
                )
            self.outdated = 0 < found < SCHEMA_VERSION
            if self.outdated:
                for table in TABLES.values():
                    c.execute(f"DROP TABLE IF EXISTS {table.name}")
                    drop_index(c, table)
                for name in DROPPED_INDEXES:
                    c.execute(f"DROP INDEX IF EXISTS {name}")
            self._create_table(c)
            if not self.outdated:
                c.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def up_to_date(self) -> None:
        """Note that the read tables were rebuilt in their present form."""
        with self.datastore.transaction(commit=True) as c:
            c.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self.outdated = False

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit the appends whose stream is still where they expect it; tell which those were.

        Raises eventsourcing's OperationalError where the outcome is not known.
        """
        with self.datastore.transaction(commit=True) as c:
            won = [self._advance(c, one) for one in batch]
            winners = [one for one, win in zip(batch, won, strict=True) if win]
            c.executemany(self.insert_events_statement, [r for one in winners for r in one.rows])
            upsert(c, [patch for one in winners for patch in one.patches])
        return won

    def _advance(self, c: SQLiteCursor, one: Sealed) -> bool:
        head = one.expected + len(one.rows)
        c.execute(_ADVANCE, (one.stream, head, one.hash, one.expected, one.prev))
        return c.sqlite_cursor.rowcount == 1

    @contextmanager
    def locked(self, stream: str) -> Generator[None]:  # noqa: ARG002 - the file is ours as it is
        """Keep others from appending: there are none."""
        yield

    def head(self, stream: str) -> tuple[int, bytes] | None:
        """Give a stream's last version and hash, None if there is no such stream."""
        found = self.query("SELECT head, hash FROM streams WHERE id = ?", (stream,))
        return (found[0]["head"], found[0]["hash"]) if found else None

    def heads(self, streams: Sequence[str]) -> dict[str, int]:
        """Give the last versions of those of the streams that exist."""
        marks = question_marks(streams)
        sql = f"SELECT id, head FROM streams WHERE id IN ({marks})"  # noqa: S608 - only question marks
        return {row["id"]: row["head"] for row in self.query(sql, streams)}

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
        order = "DESC" if newest_first else "ASC"
        # The condition on the type stands literally: a bound one does not use the partial index.
        sql = f"{_SELECT}{'' if deltas else _NO_DELTAS}ORDER BY originator_version {order} LIMIT ?"
        with self._reading() as c:
            c.execute(sql, (stream, after, upto, limit))
            return list(map(Row._make, c.fetchall()))

    def pieces(self, stream: str, pieces: Pieces, topics: Collection[str]) -> list[Row]:
        """Read the facts of some types in pieces of a stream, in order; deltas are no facts."""
        wanted = f"{_SELECT}{_NO_DELTAS}AND topic IN ({question_marks(topics)}) "
        rows: list[Row] = []
        with self._reading() as c:
            for after, upto in pieces:
                c.execute(f"{wanted}ORDER BY originator_version", (stream, after, upto, *topics))
                rows += map(Row._make, c.fetchall())
        return rows

    def each(
        self, stretches: Sequence[Stretch], *, topics: Collection[str] = (), limit: int = -1
    ) -> list[list[Row]]:
        """Read of each stretch the first rows of some types, or of all, in order; -1 is no limit."""
        wanted = f"AND topic IN ({question_marks(topics)}) " if topics else ""
        sql = f"{_SELECT}{wanted}ORDER BY originator_version LIMIT ?"
        found: list[list[Row]] = []
        with self._reading() as c:
            for one in stretches:
                c.execute(sql, (*one, *topics, limit))
                found.append([*map(Row._make, c.fetchall())])
        return found

    def marked(self, stream: str, upto: int = VERSION_MAX) -> list[Row]:
        """Read the facts that change what is in a stream's window beside its messages, in order."""
        with self._reading() as c:
            c.execute(f"{_SELECT}AND {MARKS} ORDER BY originator_version", (stream, 0, upto))
            return list(map(Row._make, c.fetchall()))

    def search(
        self, stream: str, wanted: Sequence[str], *, upto: int = VERSION_MAX, limit: int
    ) -> list[list[Posting]]:
        """Find for each wanted term the newest texts of a stream that have it, at most `limit`."""
        found: list[list[Posting]] = []
        with self._reading() as c:
            for terms in wanted:
                quoted = " AND ".join(f'"{term}"' for term in (stream, *terms.split()))
                c.execute(_SEARCH, (quoted, upto, limit))
                found.append(list(map(Posting._make, c.fetchall())))
        return found

    def mentions(
        self, wanted: Sequence[str], streams: Sequence[str] | None, *, limit: int
    ) -> list[list[Mention]]:
        """Find for each wanted term the newest texts of some streams, or of all, that have it."""
        among = " OR ".join(f'"{one}"' for one in streams or ())
        found: list[list[Mention]] = []
        with self._reading() as c:
            for terms in wanted if streams is None or streams else ():
                quoted = " AND ".join(f'"{term}"' for term in terms.split())
                c.execute(MENTIONS, (f"({quoted}) AND ({among})" if among else quoted, limit))
                found.append(list(map(Mention._make, c.fetchall())))
        return found or [[] for _ in wanted]

    def said(self, stream: str, upto: int = VERSION_MAX) -> list[int]:
        """Give the versions of a stream's facts that say something, in order."""
        with self._reading() as c:
            c.execute(_SAID, (stream, upto))
            # One row is read in a tenth of the time that one for each takes.
            joined: str | None = c.fetchone()[0]
        return sorted(map(int, joined.split(","))) if joined else []

    def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        """Run a SELECT on the read tables."""
        with self._reading() as c:
            c.execute(sql, params)
            return [dict(row) for row in c.fetchall()]

    # --- leases ---------------------------------------------------------------------------

    def unattended(self, after: str, limit: int) -> list[str]:
        """Name conversations with a run that is not over and that no living lease covers.

        They are paged in order of id.
        """
        return [row["conversation_id"] for row in self.query(_UNATTENDED, (after, limit))]

    def is_free(self, work: str, holder: str) -> bool:
        """Tell whether nobody but `holder` has a living lease on `work`."""
        return not self.query(_FREE, (work, holder))

    def take(self, work: str, holder: str, for_ms: int) -> bool:
        """Take a lease, by the database's clock, unless somebody else has it."""
        with self.datastore.transaction(commit=True) as c:
            c.execute(_TAKE, (work, holder, for_ms))
            return c.sqlite_cursor.rowcount == 1

    def renew(self, works: Sequence[str], holder: str, for_ms: int) -> set[str]:
        """Renew leases that `holder` has; give those it had no more."""
        lost: set[str] = set()
        with self.datastore.transaction(commit=True) as c:
            for work in works:
                c.execute(_RENEW, (for_ms, work, holder))
                if c.sqlite_cursor.rowcount != 1:
                    lost.add(work)
        return lost

    def drop(self, work: str, holder: str) -> None:
        """Forget a holder's lease: the work is done, and nobody will want it again."""
        with self.datastore.transaction(commit=True) as c:
            c.execute("DELETE FROM leases WHERE work = ? AND holder = ?", (work, holder))

    def release(self, holder: str | None = None) -> None:
        """Let a holder's leases lapse now, or everybody's."""
        whose = "" if holder is None else " WHERE holder = ?"
        with self.datastore.transaction(commit=True) as c:
            c.execute(
                f"UPDATE leases SET expires_at = 0{whose}",  # noqa: S608 - our own words
                () if holder is None else (holder,),
            )

    def streams(self, after: str = "", limit: int = 1000) -> list[tuple[str, int, bytes]]:
        """Page through all streams in order of id: (id, head, hash)."""
        sql = "SELECT id, head, hash FROM streams WHERE id > ? ORDER BY id LIMIT ?"
        return [(row["id"], row["head"], row["hash"]) for row in self.query(sql, (after, limit))]

    def others(self) -> list[str]:
        """Name nobody: the file is this process's alone."""
        return []

    def clear_tables(self) -> None:
        """Empty every read table that can be rebuilt."""
        with self.datastore.transaction(commit=True) as c:
            for table in TABLES.values():
                if table.rebuilt:
                    c.execute(f"DELETE FROM {table.name}")  # noqa: S608 - our own names
                    # Emptied row by row, it would keep a note of every one.
                    drop_index(c, table)
                    for statement in index_of(table):
                        c.execute(statement)

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables outside an append: for a rebuild."""
        with self.datastore.transaction(commit=True) as c:
            upsert(c, patches)

    def close(self) -> None:
        """Close the connections and give up the file."""
        self.datastore.close()
        os.close(self._lock)

    @contextmanager
    def _reading(self) -> Generator[SQLiteCursor]:
        with self.datastore.get_connection(commit=False) as connection:
            cursor = connection.cursor()
            try:
                yield cursor
            except sqlite3.OperationalError as error:
                raise OperationalError(error) from error


def _locked(path: Path) -> int:
    """Take the file's lock for as long as this process lives; `kill -9` lets go of it."""
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise DatabaseInUse(
            f"{path} is in use by another Everlog process (pid {owner}). "
            "A SQLite file serves one process; stop that one, or give this one another file."
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock
