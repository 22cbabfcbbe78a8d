"""The tables on Postgres, plain or distributed by stream, and how they come to be.

Texts are compared byte by byte (`COLLATE "C"`), as SQLite does and as cursors need.
"""

from collections.abc import Iterator
from typing import Any, Final, LiteralString, cast

from psycopg import sql

from app.storage.postgres.connections import Connections, TupleConnection
from app.storage.store import (
    DROPPED_INDEXES,
    MARKS,
    SCHEMA_VERSION,
    NewerSchema,
    Terms,
    Unmigrated,
    Unusable,
)
from projections.tables import TABLES, Table

SERVER_VERSION_MIN: Final = 150000
# Any number will do, as long as nothing else in the same database takes it: "everlog" in ASCII.
MIGRATION_LOCK: Final = 0x6576_6572_6C6F_67
META: Final = "everlog_schema"

_LOG_SCHEMA: Final[tuple[LiteralString, ...]] = (
    'CREATE TABLE IF NOT EXISTS stored_events (originator_id text COLLATE "C" NOT NULL, '
    'originator_version bigint NOT NULL, topic text COLLATE "C" NOT NULL, state bytea NOT NULL, '
    "PRIMARY KEY (originator_id, originator_version))",
    # Half of each page is kept free, so that a moved head stays on its page and in no index anew.
    'CREATE TABLE IF NOT EXISTS streams (id text COLLATE "C" PRIMARY KEY, head bigint NOT NULL, '
    "hash bytea NOT NULL) WITH (fillfactor = 50)",
    "CREATE INDEX IF NOT EXISTS facts ON stored_events (originator_id, originator_version) "
    "WHERE topic <> 'step.delta'",
    "CREATE INDEX IF NOT EXISTS window_marks ON stored_events (originator_id, originator_version) "
    f"WHERE {MARKS}",
    *(f"DROP INDEX IF EXISTS {name}" for name in DROPPED_INDEXES),
)
_META_SCHEMA: Final[LiteralString] = (
    "CREATE TABLE IF NOT EXISTS everlog_schema (id bigint PRIMARY KEY CHECK (id = 1), "
    "version bigint NOT NULL, distributed boolean NOT NULL)"
)
# What each table is distributed by: the column with the stream's id, so that all rows of a stream
# are in one place.
DISTRIBUTED_BY: Final = {
    "streams": "id",
    "stored_events": "originator_id",
    **{table.name: table.key[0] for table in TABLES.values()},
}


class Found:
    """What a database holds of ours."""

    def __init__(self, version: int | None, *, distributed: bool) -> None:
        self.version = version
        self.distributed = distributed

    @property
    def outdated(self) -> bool:
        """Whether its read tables are of an older form."""
        return self.version is not None and self.version < SCHEMA_VERSION

    def checked(self, *, rebuilding: bool = False) -> "Found":
        """Give it back if it can be served. Raises NewerSchema or Unmigrated."""
        if self.version is None:
            raise Unmigrated("The database has no tables of Everlog yet: run `everlog migrate`.")
        if self.version > SCHEMA_VERSION:
            raise NewerSchema(
                f"The database has schema {self.version}; "
                f"this Everlog knows up to {SCHEMA_VERSION}."
            )
        if self.outdated and not rebuilding:
            raise Unmigrated(
                f"The database has schema {self.version}, older than this Everlog's "
                f"{SCHEMA_VERSION}: stop every server on it, then run `everlog migrate`."
            )
        return self


def found_in(connection: TupleConnection) -> Found:
    """Look which schema there is. Raises Unusable for a database that can hold none."""
    if connection.info.server_version < SERVER_VERSION_MIN:
        version = connection.info.server_version // 10000
        raise Unusable(f"This is PostgreSQL {version}; Everlog needs 15 or newer.")
    if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
        raise Unusable(f"The database's encoding is {encoding}; Everlog needs UTF8.")
    if _one(connection, "SELECT to_regclass('everlog_schema')::text") is None:
        return Found(None, distributed=False)
    row = connection.execute("SELECT version, distributed FROM everlog_schema").fetchone()
    return Found(None, distributed=False) if row is None else Found(row[0], distributed=row[1])


def servers_on(connection: TupleConnection) -> list[str]:
    """Name the servers that are connected to the database, as far as it tells us."""
    rows = connection.execute(
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'everlog serve %' AND application_name NOT LIKE '% ear' "
        "ORDER BY application_name"
    )
    return [row[0] for row in rows]


def migrate(url: str, terms: Terms, *, distributed: bool = False) -> bool:
    """Create what is missing, in one transaction; tell whether read tables were begun anew.

    Several may do it at once: each waits for the one before it. Raises Unusable or PersistenceError.
    """
    connections = Connections(url, terms)
    try:
        return _migrated(connections, distributed=distributed)
    finally:
        connections.close()


def _migrated(connections: Connections, *, distributed: bool) -> bool:
    with connections.connection() as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        found = found_in(connection)
        if found.version is not None and found.version > SCHEMA_VERSION:
            found.checked()
        _check_layout(connection, found, distributed=distributed)
        if found.outdated and (servers := servers_on(connection)):
            # They would be left without the tables that they read.
            raise Unusable(f"Servers are at work on it: {', '.join(servers)}. Stop them first.")
        for table in TABLES.values() if found.outdated else ():
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(_name(table.name)))
        for statement in statements():
            connection.execute(statement)
        if distributed or found.distributed:
            _distribute(connection)
        # An older schema stays so until its read tables are written again.
        version = cast("int", found.version) if found.outdated else SCHEMA_VERSION
        connection.execute(
            "INSERT INTO everlog_schema (id, version, distributed) VALUES (1, %s, %s) "
            "ON CONFLICT (id) DO UPDATE SET version = excluded.version",
            (version, distributed or found.distributed),
        )
    return found.outdated


def note_rebuilt(connection: TupleConnection) -> None:
    """Note that the read tables have their present form."""
    connection.execute("UPDATE everlog_schema SET version = %s WHERE id = 1", (SCHEMA_VERSION,))


def _check_layout(connection: TupleConnection, found: Found, *, distributed: bool) -> None:
    if distributed and found.version is not None and not found.distributed:
        raise Unusable(
            "The database has Everlog's tables already, not distributed. "
            "Make a new one with --distributed, and `everlog copy` the other into it."
        )
    if distributed and not _one(
        connection, "SELECT count(*) FROM pg_proc WHERE proname = 'create_distributed_table'"
    ):
        raise Unusable(
            "The Citus extension is not in this database: CREATE EXTENSION citus, "
            "as its administrator, or migrate without --distributed."
        )


def _distribute(connection: TupleConnection) -> None:
    """Spread the tables over the cluster, each stream's rows together; what is tiny, everywhere."""
    for name, column in DISTRIBUTED_BY.items():
        if not _is_citus_table(connection, name):
            with_ = "default" if name == "streams" else "streams"
            connection.execute(
                "SELECT create_distributed_table(%s::regclass, %s, colocate_with => %s)",
                (name, column, with_),
            )
    if not _is_citus_table(connection, META):
        connection.execute("SELECT create_reference_table(%s::regclass)", (META,))


def _is_citus_table(connection: TupleConnection, name: str) -> bool:
    known = "SELECT count(*) FROM pg_dist_partition WHERE logicalrelid = %s::regclass"
    return bool(_one(connection, known, (name,)))


def statements() -> Iterator[sql.Composed | sql.SQL]:
    """Give the whole schema, every statement harmless if it was run before."""
    yield from map(sql.SQL, (*_LOG_SCHEMA, _META_SCHEMA))
    for table in TABLES.values():
        yield from _statements_of(table)


def _statements_of(table: Table) -> Iterator[sql.Composed]:
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(
            _name(name), sql.SQL(_TYPES[kind]), sql.SQL(" NOT NULL" if name in table.key else "")
        )
        for name, kind in table.columns.items()
    )
    yield sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({})) WITH (fillfactor = 80)"
    ).format(_name(table.name), columns, _names(table.key))
    for index in table.indexes:
        yield sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({})").format(
            _name(f"{table.name}_by_{'_'.join(index)}"), _name(table.name), _names(index)
        )
    for column, condition in table.partial:
        yield sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} ({}) WHERE {}").format(
            _name(f"{table.name}_partly_by_{column}"),
            _name(table.name),
            _name(column),
            sql.SQL(condition),
        )
    for column in table.long:
        # An ordered index refuses a value of more than a third of a page; a hash takes any.
        yield sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hash ({})").format(
            _name(f"{table.name}_by_{column}"), _name(table.name), _name(column)
        )
    if table.searched is not None:
        # The array is what the words are between spaces: no parser of the database's own has a say.
        yield sql.SQL(
            "CREATE INDEX IF NOT EXISTS {} ON {} USING gin (string_to_array({}, ' '))"
        ).format(
            _name(f"{table.name}_by_{table.searched}"), _name(table.name), _name(table.searched)
        )
        # What is everywhere is found by going back from the newest, and not put in order first.
        yield sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} (at, version)").format(
            _name(f"{table.name}_by_at"), _name(table.name)
        )


_TYPES: Final[dict[str, LiteralString]] = {"text": 'text COLLATE "C"', "bigint": "bigint"}


def _name(name: str) -> sql.Identifier:
    return sql.Identifier(name)


def _names(names: tuple[str, ...]) -> sql.Composed:
    return sql.SQL(", ").join(map(_name, names))


def _one(connection: TupleConnection, query: LiteralString, params: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(query, params).fetchone()
    return None if row is None else row[0]
