"""The log, its heads, its leases and its read tables in a Postgres that others write to as well."""

import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, LiteralString, TypeVar, cast

from psycopg.rows import dict_row

from app.mapper import Row
from app.storage.postgres.arrays import bigints, encoded, texts
from app.storage.postgres.bell import PostgresBell
from app.storage.postgres.connections import (
    ConnectionLost,
    Connections,
    PatientConnection,
)
from app.storage.postgres.inserting import NOW_MS, ByShard, Inserting, OneStatement, chains_of
from app.storage.postgres.schema import found_in, note_rebuilt, servers_on
from app.storage.postgres.shards import Shards
from app.storage.store import MARKS, VERSION_MAX, Bell, Pieces, Sealed, Terms
from domain.conversation import Stretch
from projections.columns import Scalar
from projections.patches import Patch
from projections.search_ranks import Mention, Posting
from projections.tables import TABLES, UNFINISHED

Answer = TypeVar("Answer")

_SELECT: Final = (
    "SELECT originator_id, originator_version, topic, state FROM stored_events "
    "WHERE originator_id = %s AND originator_version > %s AND originator_version <= %s "
)
# These conditions stand literally: a bound one would not use the partial index.
_NO_DELTAS: Final = "AND topic <> 'step.delta' "
# A piece names its stream, so that a distributed database asks one shard alone.
_PIECE: Final = f"({_SELECT}{_NO_DELTAS}AND topic = ANY(%s))"
_FIRST: Final = "ORDER BY originator_version LIMIT %s"
# A distributed database has no such join: there a stretch is a statement, to one shard.
_EACH: Final = (
    "SELECT asked.number, found.* FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) "
    "WITH ORDINALITY AS asked (stream, after, upto, number) CROSS JOIN LATERAL "
    "(SELECT originator_id, originator_version, topic, state FROM stored_events "
    "WHERE originator_id = asked.stream AND originator_version > asked.after "
    "AND originator_version <= asked.upto {}) AS found ORDER BY asked.number, originator_version"
)
# A statement's parameters are bounded.
PIECES_MAX: Final = 500
_SEARCH: Final = (
    "(SELECT {} AS term, version, words FROM texts WHERE stream = %s AND version <= %s "
    "AND string_to_array(terms, ' ') @> %s ORDER BY version DESC LIMIT %s)"
)
_HAVING: Final = "SELECT stream, version, words FROM texts WHERE string_to_array(terms, ' ') @> %s "
MENTIONS: Final = f"{_HAVING}ORDER BY at DESC, version DESC LIMIT %s"
# Not by the index: a word that is common elsewhere may be rare in these streams, and all that is in
# others would be gone through for it.
_MENTIONS_IN: Final = f"{_HAVING}AND stream = ANY(%s) ORDER BY at || '' DESC, version DESC LIMIT %s"
_UNATTENDED: Final[LiteralString] = (
    "SELECT DISTINCT runs.conversation_id FROM runs "  # noqa: S608 - our own words
    "LEFT JOIN leases ON leases.work = runs.conversation_id "
    f"WHERE {UNFINISHED} "
    f"AND coalesce(leases.expires_at, 0) <= {NOW_MS} AND runs.conversation_id > %s "
    "ORDER BY runs.conversation_id LIMIT %s"
)
# What is now, is told by the row that is to be: a function of time in this place is refused by a
# distributed database.
_TAKE: Final[LiteralString] = (
    f"INSERT INTO leases (work, holder, expires_at) VALUES (%s, %s, {NOW_MS} + %s) "  # noqa: S608 - our own words
    "ON CONFLICT (work) DO UPDATE "
    "SET holder = excluded.holder, expires_at = excluded.expires_at "
    "WHERE leases.holder = excluded.holder OR leases.expires_at <= excluded.expires_at - %s"
)
# One that lapsed and that nobody took is still ours.
_RENEW: Final[LiteralString] = (
    f"UPDATE leases SET expires_at = {NOW_MS} + %s WHERE work = %s AND holder = %s"  # noqa: S608 - our own words
)
_FREE: Final[LiteralString] = (
    f"SELECT 1 FROM leases WHERE work = %s AND holder <> %s AND expires_at > {NOW_MS}"  # noqa: S608 - our own words
)


class PostgresStore:
    """A database that any number of processes read and write."""

    exclusive: bool = False

    def __init__(self, url: str, terms: Terms, *, rebuilding: bool = False) -> None:
        """Connect and look what is there; `rebuilding` takes read tables of an older form.

        Raises PersistenceError or Unusable.
        """
        self.connections = Connections(url, terms)
        try:
            with self.connections.connection() as connection:
                found = found_in(connection).checked(rebuilding=rebuilding)
        except BaseException:
            self.connections.close()
            raise
        self.outdated = found.outdated
        self.inserting: Inserting = (
            ByShard(self.connections, Shards(self.connections))
            if found.distributed
            else OneStatement(self.connections)
        )
        self.bell: Bell | None = PostgresBell(self.connections)

    # --- append ---------------------------------------------------------------------------

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit the appends whose stream is still where they expect it; tell which those were.

        Raises eventsourcing's OperationalError where the outcome is not known.
        """
        chains = chains_of(batch)
        won = self.inserting.store(chains) if chains else set[str]()
        stored = {id(one) for chain in chains if chain.stream in won for one in chain.appends}
        return [id(one) in stored for one in batch]

    @contextmanager
    def locked(self, stream: str) -> Generator[None]:
        """Keep others from appending to a stream for as long as the context is open.

        What this thread reads and stores meanwhile is in one transaction, committed at the end.
        """
        with self.connections.connection() as connection, connection.transaction():
            connection.execute("SELECT 1 FROM streams WHERE id = %s FOR UPDATE", (stream,))
            yield

    # --- read -----------------------------------------------------------------------------

    def head(self, stream: str) -> tuple[int, bytes] | None:
        """Give a stream's last version and hash, None if there is no such stream."""

        def found(connection: PatientConnection) -> tuple[int, bytes] | None:
            sql: LiteralString = "SELECT head, hash FROM streams WHERE id = %s"
            row = connection.execute(sql, (stream,), binary=True).fetchone()
            return None if row is None else (row[0], row[1])

        return self._reading(found)

    def heads(self, streams: Sequence[str]) -> Mapping[str, int]:
        """Give the last versions of those of the streams that exist."""
        sql: LiteralString = "SELECT id, head FROM streams WHERE id = ANY(%s)"
        wanted = (texts(streams),)
        return dict(self._rows(sql, wanted)) if streams else {}

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
        sql = f"{_SELECT}{'' if deltas else _NO_DELTAS}ORDER BY originator_version {order}"
        params: list[str | int] = [stream, after, upto]
        if limit >= 0:
            sql += " LIMIT %s"
            params.append(limit)
        return [*map(Row._make, self._rows(sql, params))]

    def pieces(self, stream: str, pieces: Pieces, topics: Collection[str]) -> list[Row]:
        """Read the facts of some types in pieces of a stream, in order; deltas are no facts."""
        wanted = texts([*topics])
        found: list[Row] = []
        for begin in range(0, len(pieces), PIECES_MAX):
            some = pieces[begin : begin + PIECES_MAX]
            params = [one for after, upto in some for one in (stream, after, upto, wanted)]
            found += map(Row._make, self._rows(" UNION ALL ".join([_PIECE] * len(some)), params))
        return sorted(found, key=attrgetter("version"))

    def each(
        self, stretches: Sequence[Stretch], *, topics: Collection[str] = (), limit: int = -1
    ) -> list[list[Row]]:
        """Read of each stretch the first rows of some types, or of all, in order; -1 is no limit."""
        wanted = "AND topic = ANY(%s) " if topics else ""
        params = (*((texts([*topics]),) if topics else ()), None if limit < 0 else limit)
        if isinstance(self.inserting, ByShard):
            sql = f"{_SELECT}{wanted}{_FIRST}"
            return [[*map(Row._make, self._rows(sql, (*one, *params)))] for one in stretches]
        found: list[list[Row]] = [[] for _ in stretches]
        given = (
            texts([one.stream for one in stretches]),
            bigints([one.after for one in stretches]),
            bigints([one.upto for one in stretches]),
        )
        rows = self._rows(_EACH.format(f"{wanted}{_FIRST}"), (*given, *params))
        for number, stream, version, topic, state in rows:
            found[int(number) - 1].append(Row(stream, version, topic, state))
        return found

    def marked(self, stream: str, upto: int = VERSION_MAX) -> list[Row]:
        """Read the facts that change what is in a stream's window beside its messages, in order."""
        sql = f"{_SELECT}AND {MARKS} ORDER BY originator_version"
        return [*map(Row._make, self._rows(sql, (stream, 0, upto)))]

    def search(
        self, stream: str, wanted: Sequence[str], *, upto: int = VERSION_MAX, limit: int
    ) -> list[list[Posting]]:
        """Find for each wanted term the newest texts of a stream that have it, at most `limit`."""
        sql = " UNION ALL ".join(_SEARCH.format(number) for number in range(len(wanted)))
        params = [one for terms in wanted for one in (stream, upto, texts(terms.split()), limit)]
        found: list[list[Posting]] = [[] for _ in wanted]
        rows: list[tuple[int, int, int]] = self._rows(sql, params) if wanted else []
        for number, version, words in rows:
            found[number].append(Posting(version, words))
        return found

    def mentions(
        self, wanted: Sequence[str], streams: Sequence[str] | None, *, limit: int
    ) -> list[list[Mention]]:
        """Find for each wanted term the newest texts of some streams, or of all, that have it."""
        found: list[list[Mention]] = []
        for terms in wanted:
            sql, within = (MENTIONS, ()) if streams is None else (_MENTIONS_IN, (texts(streams),))
            params = (texts(terms.split()), *within, limit)
            # Planned anew for each word: a common one is found by going back through the newest
            # texts, a rare one by its index and then put in order.
            found.append([*map(Mention._make, self._rows(sql, params, prepare=False))])
        return found

    def said(self, stream: str, upto: int = VERSION_MAX) -> list[int]:
        """Give the versions of a stream's facts that say something, in order."""
        # One row is read in a tenth of the time that one for each takes.
        sql = "SELECT array_agg(version) FROM texts WHERE stream = %s AND version <= %s"
        ((versions,),) = self._rows(sql, (stream, upto))
        return sorted(versions or ())

    def query(self, sql: str, params: Sequence[Scalar] = ()) -> list[dict[str, Any]]:
        """Run a SELECT on the read tables, written for SQLite."""
        given = [encoded(one).decode() if isinstance(one, str) else one for one in params]

        def found(connection: PatientConnection) -> list[dict[str, Any]]:
            with connection.cursor(row_factory=dict_row) as cursor:
                cursor.execute(_translated(sql), given)
                return cursor.fetchall()

        return self._reading(found)

    def streams(self, after: str = "", limit: int = 1000) -> list[tuple[str, int, bytes]]:
        """Page through all streams in order of id: (id, head, hash)."""
        sql = "SELECT id, head, hash FROM streams WHERE id > %s ORDER BY id LIMIT %s"
        return cast("list[tuple[str, int, bytes]]", self._rows(sql, (after, limit)))

    def _rows(
        self, sql: str, params: Sequence[object], *, prepare: bool | None = None
    ) -> list[tuple[Any, ...]]:
        query = sql.encode()
        return self._reading(
            lambda one: one.execute(query, params, prepare=prepare, binary=True).fetchall()
        )

    def _reading(self, read: Callable[[PatientConnection], Answer]) -> Answer:
        """Read, a second time if the connection had died since it was last used."""
        try:
            with self.connections.connection() as connection:
                return read(connection)
        except ConnectionLost:
            with self.connections.connection() as connection:
                return read(connection)

    # --- leases ---------------------------------------------------------------------------

    def unattended(self, after: str, limit: int) -> list[str]:
        """Name conversations with a run that is not over and that no living lease covers.

        They are paged in order of id.
        """
        return [row[0] for row in self._rows(_UNATTENDED, (after, limit))]

    def is_free(self, work: str, holder: str) -> bool:
        """Tell whether nobody but `holder` has a living lease on `work`."""
        return not self._rows(_FREE, (work, holder))

    def take(self, work: str, holder: str, for_ms: int) -> bool:
        """Take a lease, by the database's clock, unless somebody else has it."""
        with self.connections.connection() as connection:
            return connection.execute(_TAKE, (work, holder, for_ms, for_ms)).rowcount == 1

    def renew(self, works: Sequence[str], holder: str, for_ms: int) -> set[str]:
        """Renew leases that `holder` has; give those it had no more."""
        wanted = sorted(works)
        with self.connections.connection() as connection, connection.transaction():
            cursor = connection.cursor()
            cursor.executemany(_RENEW, [(for_ms, one, holder) for one in wanted], returning=True)
            return {
                one for one, _ in zip(wanted, cursor.results(), strict=True) if not cursor.rowcount
            }

    def drop(self, work: str, holder: str) -> None:
        """Forget a holder's lease: the work is done, and nobody will want it again."""
        with self.connections.connection() as connection:
            sql: LiteralString = "DELETE FROM leases WHERE work = %s AND holder = %s"
            connection.execute(sql, (work, holder))

    def release(self, holder: str | None = None) -> None:
        """Let a holder's leases lapse now, or everybody's."""
        sql: LiteralString = "UPDATE leases SET expires_at = 0"
        with self.connections.connection() as connection:
            if holder is None:
                connection.execute(sql)
            else:
                connection.execute(sql + " WHERE holder = %s", (holder,))

    # --- everything -----------------------------------------------------------------------

    def up_to_date(self) -> None:
        """Note that the read tables were rebuilt in their present form."""
        with self.connections.connection() as connection:
            note_rebuilt(connection)
        self.outdated = False

    def others(self) -> list[str]:
        """Name the servers that are connected, as far as the database tells us."""
        return self._reading(servers_on)

    def clear_tables(self) -> None:
        """Empty every read table that can be rebuilt."""
        names = ", ".join(table.name for table in TABLES.values() if table.rebuilt)
        with self.connections.connection() as connection:
            connection.execute(f"TRUNCATE {names}".encode())

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables outside an append: for a rebuild."""
        self.inserting.upsert(patches)

    def close(self) -> None:
        """Close the connections."""
        self.inserting.close()
        self.connections.close()


_JSON_EACH: Final = re.compile(r"json_each\((\w+)\)")


@lru_cache(maxsize=512)
def _translated(sql: str) -> bytes:
    """Put a SELECT on the read tables into Postgres' words. It holds no other `?` or `%`."""
    sql = sql.replace("instr(", "strpos(").replace("?", "%s")
    return _JSON_EACH.sub(r"json_array_elements_text(\1::json) AS value", sql).encode()
