"""How appends get into Postgres: a strategy for one server, and one for a distributed database.

Both compare and set each stream's head and hash, then insert the rows of those that won, then write
the read tables. Heads are taken in order of stream id: two processes that took them in different
orders would deadlock.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import groupby
from typing import Any, Final, LiteralString, Protocol, TypeAlias

from psycopg import Cursor, sql

from app.mapper import Row
from app.storage.postgres.arrays import Array, bigints, byteas, encoded, texts
from app.storage.postgres.connections import NESTED_LOOPS, Connections, PatientConnection
from app.storage.store import Sealed
from projections.columns import Scalar
from projections.patches import Patch, merged
from projections.tables import TABLES, Table

# Milliseconds since 1970 by the database's clock. `now()` is STABLE: a distributed database refuses
# volatile functions where it has to agree on their value.
NOW_MS: Final[LiteralString] = "(extract(epoch FROM now()) * 1000)::bigint"
SHARDS_AT_ONCE: Final = 4

# `IS TRUE` keeps the planner from turning the look-up of winners into a join, which without hash joins
# would compare every row with every winner.
APPEND: Final[LiteralString] = """
WITH wanted AS (
    SELECT * FROM unnest(%s, %s, %s, %s, %s) AS wanted (id, was, prev, head, hash)
), moved AS (
    UPDATE streams SET head = wanted.head, hash = wanted.hash FROM wanted
    WHERE streams.id = wanted.id AND streams.head = wanted.was AND streams.hash = wanted.prev
    RETURNING streams.id
), begun AS (
    INSERT INTO streams (id, head, hash) SELECT id, head, hash FROM wanted WHERE was = 0
    ON CONFLICT (id) DO NOTHING RETURNING id
), winners AS (
    SELECT id FROM moved UNION ALL SELECT id FROM begun
), stored AS (
    INSERT INTO stored_events (originator_id, originator_version, topic, state)
    SELECT facts.* FROM unnest(%s, %s, %s, %s) AS facts (id, version, topic, state)
    WHERE (facts.id IN (SELECT id FROM winners)) IS TRUE
)
SELECT id FROM winners
"""
MOVE: Final[LiteralString] = (
    "UPDATE streams SET head = %s, hash = %s WHERE id = %s AND head = %s AND hash = %s"
)
BEGIN: Final[LiteralString] = (
    "INSERT INTO streams (id, head, hash) VALUES (%s, %s, %s) ON CONFLICT (id) DO NOTHING"
)
FACTS: Final[LiteralString] = (
    "INSERT INTO stored_events (originator_id, originator_version, topic, state) VALUES "
)

Upsert: TypeAlias = tuple[bytes, Sequence[object]]
Rows: TypeAlias = list[tuple[Scalar, ...]]
ShardOf: TypeAlias = Callable[[Sequence[str]], Mapping[str, int]]


@dataclass(slots=True)
class Chain:
    """The appends of a batch to one stream, each on top of the one before it."""

    stream: str
    expected: int
    prev: bytes
    head: int
    hash: bytes
    appends: list[Sealed] = field(default_factory=list[Sealed])

    @property
    def rows(self) -> Iterator[Row]:
        """The rows of all of them."""
        return (row for one in self.appends for row in one.rows)

    @property
    def patched(self) -> bool:
        """Whether they set anything in the read tables."""
        return any(one.patches for one in self.appends)

    @property
    def patches(self) -> list[Patch]:
        """What they set in the read tables."""
        return [patch for one in self.appends for patch in one.patches]

    def takes(self, one: Sealed) -> bool:
        """Add an append, if it is on top of this."""
        if (one.expected, one.prev) != (self.head, self.hash):
            return False
        self.head, self.hash = one.expected + len(one.rows), one.hash
        self.appends.append(one)
        return True


def chains_of(batch: Sequence[Sealed]) -> list[Chain]:
    """Join a batch's appends to one stream, in order of stream id; a rival of one is left out."""
    chains: dict[str, Chain] = {}
    for one in batch:
        chain = chains.get(one.stream)
        if chain is None:
            chain = Chain(one.stream, one.expected, one.prev, one.expected, one.prev)
            chains[one.stream] = chain
        chain.takes(one)
    return sorted(chains.values(), key=lambda chain: chain.stream)


class Inserting(Protocol):
    """A way to store chains."""

    def store(self, chains: Sequence[Chain]) -> set[str]:
        """Commit the chains whose stream is where they expect it; name those streams."""
        ...

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables."""
        ...

    def close(self) -> None:
        """End its threads, if it has any."""
        ...


# --- one server -------------------------------------------------------------------------------


class OneStatement:
    """All heads and rows in a single statement, with binary arrays: one round trip.

    Where facts change read tables, a second one writes those and commits.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def store(self, chains: Sequence[Chain]) -> set[str]:
        """Commit the chains that are where they are expected; name their streams."""
        patched = any(one.patched for one in chains)
        with self._connections.writing() as connection:
            if not (patched or connection.pooled):
                return _appended(connection, chains)
            # No pipeline: between its statements none of the server's limits holds, and a network that
            # swallows the next one would leave the heads locked.
            with connection.transaction():
                _keep_order(connection)
                won = _appended(connection, chains)
                _upsert(connection, [one for one in chains if one.stream in won], unnested)
            return won

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables in one transaction."""
        with self._connections.writing() as connection, connection.transaction():
            for statement, params in upserts(patches, unnested):
                connection.execute(statement, params)

    def close(self) -> None:
        """End nothing: it uses its caller's thread."""


def _keep_order(connection: PatientConnection) -> None:
    """Behind a pooler, say for this transaction what is said elsewhere once a connection."""
    for name in NESTED_LOOPS if connection.pooled else ():
        connection.execute(sql.SQL("SET LOCAL {} = off").format(sql.Identifier(name)))


def _appended(connection: PatientConnection, chains: Sequence[Chain]) -> set[str]:
    rows = [row for one in chains for row in one.rows]
    params = (
        texts([one.stream for one in chains]),
        bigints([one.expected for one in chains]),
        byteas([one.prev for one in chains]),
        bigints([one.head for one in chains]),
        byteas([one.hash for one in chains]),
        texts([row.stream for row in rows]),
        bigints([row.version for row in rows]),
        texts([row.topic for row in rows]),
        byteas([row.state for row in rows]),
    )
    return {row[0] for row in connection.execute(APPEND, params)}


def _upsert(connection: PatientConnection, winners: Sequence[Chain], source: "Source") -> None:
    patches = [patch for one in winners for patch in one.patches]
    for statement, params in upserts(patches, source):
        connection.execute(statement, params)


def _all_answered() -> None:
    """Wait for nothing: every statement was waited for."""


@contextmanager
def pipelined(connection: PatientConnection) -> Generator[Callable[[], None]]:
    """Send statements without waiting for each one's answer; give what waits for all of them.

    For many statements only: while it is open, the server's limit for idle transactions does not hold.
    Behind a pooler, statements wait: not every one understands pipelines.
    """
    if connection.pooled:
        yield _all_answered
        return
    with connection.pipeline() as pipeline:
        yield pipeline.sync


# --- a distributed database -------------------------------------------------------------------


class ByShard:
    """A transaction per shard: `VALUES` rows, and heads one by one, each to its own shard.

    An `INSERT … SELECT` over many shards is a hundred times slower there, and hides the state of a
    conflict. Whatever goes wrong with one shard, what others have committed is found again when the
    batch is tried again.
    """

    def __init__(self, connections: Connections, shard_of: ShardOf) -> None:
        self._connections = connections
        self._shard_of = shard_of
        self._threads = ThreadPoolExecutor(SHARDS_AT_ONCE, "log-shard")

    def store(self, chains: Sequence[Chain]) -> set[str]:
        """Commit the chains that are where they are expected; name their streams."""
        shards = self._shard_of([one.stream for one in chains])
        by_shard = sorted(chains, key=lambda one: (shards[one.stream], one.stream))
        groups = [[*group] for _, group in groupby(by_shard, lambda one: shards[one.stream])]
        if len(groups) == 1:
            return self.store_shard(groups[0])
        return set[str]().union(*self._threads.map(self.store_shard, groups))

    def store_shard(self, chains: Sequence[Chain]) -> set[str]:
        """Commit the chains of one shard; name the streams of those that won."""
        with self._connections.connection() as connection:
            with pipelined(connection) as answered, connection.transaction():
                tried = [_tried(connection, one) for one in chains]
                answered()
                moved = [cursor.rowcount == 1 for cursor in tried]
                winners = [one for one, won in zip(chains, moved, strict=True) if won]
                _insert_facts(connection, [row for one in winners for row in one.rows])
                _upsert(connection, winners, listed)
            return {one.stream for one in winners}

    def upsert(self, patches: Sequence[Patch]) -> None:
        """Write rows of the read tables, each table's in one statement."""
        with self._connections.connection() as connection:
            for statement, params in upserts(patches, listed):
                connection.execute(statement, params)

    def close(self) -> None:
        """End its threads."""
        self._threads.shutdown()


def _tried(connection: PatientConnection, one: Chain) -> Cursor[tuple[Any, ...]]:
    """Move a head, or make it; the cursor tells, once it is answered, whether it was where it was."""
    if one.expected:
        return connection.execute(
            MOVE, (one.head, one.hash, one.stream, one.expected, one.prev), binary=True
        )
    return connection.execute(BEGIN, (one.stream, one.head, one.hash), binary=True)


def _insert_facts(connection: PatientConnection, rows: Sequence[Row]) -> None:
    if rows:
        params = [value for row in rows for value in row]
        connection.execute(facts_statement(len(rows)), params, binary=True)


@lru_cache(maxsize=512)
def facts_statement(rows: int) -> bytes:
    """Give the statement that inserts so many rows as they stand."""
    return f"{FACTS}{', '.join(['(%s, %s, %s, %s)'] * rows)}".encode()


# --- read tables ------------------------------------------------------------------------------


class Source(Protocol):
    """Where an upsert takes its rows from."""

    def __call__(self, table: Table, names: tuple[str, ...], rows: Rows) -> Upsert:
        """Give the statement and its parameters."""
        ...


def upserts(patches: Sequence[Patch], source: Source) -> Iterator[Upsert]:
    """Give statements that write one row per key, those that set the same columns in one go."""
    groups: dict[tuple[str, tuple[str, ...]], Rows] = {}
    for (name, key), values in merged(patches).items():
        groups.setdefault((name, tuple(values)), []).append((*key, *values.values()))
    for name, columns in sorted(groups):
        table = TABLES[name]
        yield source(table, (*table.key, *columns), in_order(table, groups[name, columns]))


def in_order(table: Table, rows: Rows) -> Rows:
    """Sort rows by key, so that two processes lock them in the same order."""
    return sorted(rows, key=lambda row: tuple(map(str, row[: len(table.key)])))


def unnested(table: Table, names: tuple[str, ...], rows: Rows) -> Upsert:
    """Take rows from an array per column."""
    params: list[Array] = []
    for at, name in enumerate(names):
        column: list[Any] = [row[at] for row in rows]
        params.append(bigints(column) if table.columns[name] == "bigint" else texts(column))
    return _unnested_statement(table.name, names), params


def listed(table: Table, names: tuple[str, ...], rows: Rows) -> Upsert:
    """Take rows as they stand."""
    values = [_plain(value) for row in rows for value in row]
    return _listed_statement(table.name, names, len(rows)), values


@cache
def _unnested_statement(name: str, names: tuple[str, ...]) -> bytes:
    clocked = TABLES[name].clocked
    shown = (f"{NOW_MS} + {one}" if one in clocked else one for one in names)
    marks = ", ".join(["%s"] * len(names))
    rows = f"SELECT {', '.join(shown)} FROM unnest({marks}) AS given ({', '.join(names)})"  # noqa: S608 - our names
    return _upsert_statement(TABLES[name], names, rows)


@lru_cache(maxsize=512)
def _listed_statement(name: str, names: tuple[str, ...], count: int) -> bytes:
    clocked = TABLES[name].clocked
    marks = ", ".join(f"{NOW_MS} + %s" if one in clocked else "%s" for one in names)
    rows = f"VALUES {', '.join([f'({marks})'] * count)}"
    return _upsert_statement(TABLES[name], names, rows)


def _upsert_statement(table: Table, names: tuple[str, ...], rows: str) -> bytes:
    changes = ", ".join(f"{one} = excluded.{one}" for one in names[len(table.key) :])
    into = f"INSERT INTO {table.name} ({', '.join(names)}) {rows}"
    return f"{into} ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes}".encode()


def _plain(value: Scalar) -> Scalar:
    return encoded(value).decode() if isinstance(value, str) and "\x00" in value else value
