"""The read tables in SQLite: how they are made, and how rows are written into them."""

from collections.abc import Sequence
from typing import Final

from eventsourcing.sqlite import SQLiteCursor

from projections.columns import Scalar
from projections.patches import Patch, merged
from projections.tables import TABLES, Table

# Each row's terms with its stream as one more, so that a conversation's are found without a look at
# others. Terms are words already: whatever is between spaces is one. Where in a text they stand is
# not kept, nor how often.
_SEARCHED: Final = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS {0}_index USING fts5("
    "version UNINDEXED, words UNINDEXED, terms, "
    "tokenize = \"ascii tokenchars '-'\", detail = none, columnsize = 0)",
    # A row that is written once more is updated, and so not indexed twice.
    "CREATE TRIGGER IF NOT EXISTS {0}_indexed AFTER INSERT ON {0} BEGIN "
    "INSERT INTO {0}_index (version, words, terms) "
    "VALUES (new.version, new.words, new.stream || ' ' || new.{1}); END",
)
# Milliseconds since 1970 by this database's clock; `unixepoch('subsec')` needs a newer SQLite.
NOW: Final = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


def schema_of(table: Table) -> list[str]:
    """Give the statements that make a table and its indexes, if they are not there."""
    columns = ", ".join(f"{name} {kind}" for name, kind in table.columns.items())
    key = ", ".join(table.key)
    indexes = [
        f"CREATE INDEX IF NOT EXISTS {table.name}_by_{'_'.join(index)} "
        f"ON {table.name} ({', '.join(index)})"
        for index in (*table.indexes, *((one,) for one in table.long))
    ]
    indexes += [
        f"CREATE INDEX IF NOT EXISTS {table.name}_partly_by_{column} "
        f"ON {table.name} ({column}) WHERE {condition}"
        for column, condition in table.partial
    ]
    created = f"CREATE TABLE IF NOT EXISTS {table.name} ({columns}, PRIMARY KEY ({key}))"
    return [created, *indexes, *index_of(table)]


def index_of(table: Table) -> list[str]:
    """Give what indexes the words of a table, if anything does."""
    if table.searched is None:
        return []
    return [statement.format(table.name, table.searched) for statement in _SEARCHED]


def drop_index(c: SQLiteCursor, table: Table) -> None:
    """Drop the index of a table's words, if it has one."""
    if table.searched is not None:
        c.execute(f"DROP TABLE IF EXISTS {table.name}_index")


def upsert(c: SQLiteCursor, patches: Sequence[Patch]) -> None:
    """Write one row per key, those that set the same columns in one go."""
    groups: dict[tuple[str, tuple[str, ...]], list[tuple[Scalar, ...]]] = {}
    for (name, key), values in merged(patches).items():
        groups.setdefault((name, tuple(values)), []).append((*key, *values.values()))
    for (name, columns), rows in groups.items():
        c.executemany(_upsert_statement(TABLES[name], columns), rows)


def _upsert_statement(table: Table, columns: tuple[str, ...]) -> str:
    names = (*table.key, *columns)
    marks = ", ".join(f"{NOW} + ?" if name in table.clocked else "?" for name in names)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns)
    into = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})"  # noqa: S608 - our names
    return f"{into} ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes}"
