"""How texts and their index come to be, also in a database that is older than they are."""

import sqlite3
from collections.abc import Generator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg
import pytest

from app.log import Log, utc_now
from app.mapper import GENESIS, PLAIN
from app.settings import load
from app.storage.databases import opened
from app.storage.integrity import rebuild_tables
from app.storage.postgres import PostgresStore, migrate
from app.storage.postgres.store import MENTIONS
from app.storage.sqlite import MENTIONS as MENTIONS_IN_FILE
from app.storage.sqlite import SQLiteStore
from app.storage.store import DROPPED_INDEXES, MARKS, SCHEMA_VERSION, Store
from domain.event import Recorded
from projections import marks
from projections.columns import Scalar, sortable
from projections.patches import Patch, patches_of
from tests import databases
from tests.app.test_search import STREAM, message, places, stored
from tests.databases import TEMPLATE, TERMS, cluster, raw
from tests.examples import AT

OLD: Final = (
    "CREATE INDEX marks ON stored_events (originator_id) WHERE topic = 'window.compacted'",
    "CREATE INDEX rollbacks ON stored_events (originator_id) WHERE topic = 'window.rolled_back'",
)
MINUTE: Final = timedelta(minutes=1)
MARKED: Final = sorted(marks.MARKS)


@pytest.fixture
def url() -> Generator[str]:
    name = f"test_{uuid4().hex}"
    yield cluster().create(name, TEMPLATE)
    cluster().drop(name)


@pytest.mark.sqlite
async def test_a_file_of_an_older_schema_can_be_searched_once_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with Log(SQLiteStore(path)) as log:
        await stored(log, "a lantern", "a candle")
    with closing(sqlite3.connect(path)) as file:
        for one in ("TABLE texts", "TABLE texts_index", "INDEX window_marks"):
            file.execute(f"DROP {one}")
        for statement in OLD:
            file.execute(statement)
        file.execute("PRAGMA user_version = 3")
    settings = load(database_url=f"sqlite:////{path.as_posix().lstrip('/')}")
    async with Log(opened(settings)) as log:
        assert (await places(log, "lantern"))[0] == 2
        await log.append(STREAM, 3, [message("another lantern", 9)], "user")
        assert 4 in await places(log, "lantern")
        names = {row["name"] for row in await log.query("SELECT name FROM sqlite_master")}
    assert "window_marks" in names
    assert not names & set(DROPPED_INDEXES)


async def test_an_older_postgres_can_be_searched_once_it_is_migrated_and_rebuilt(url: str) -> None:
    async with Log(PostgresStore(url, TERMS)) as log:
        await stored(log, "a lantern", "a candle")
    with psycopg.connect(url) as connection:
        connection.execute("DROP TABLE texts")
        connection.execute("DROP INDEX window_marks")
        for statement in OLD:
            connection.execute(statement.encode())
        connection.execute("UPDATE everlog_schema SET version = 3")
    assert migrate(url, TERMS)
    store = PostgresStore(url, TERMS, rebuilding=True)
    assert rebuild_tables(store) == []
    store.up_to_date()
    async with Log(store) as log:
        assert (await places(log, "lantern"))[0] == 2
        names = {row["indexname"] for row in await log.query("SELECT indexname FROM pg_indexes")}
    assert {"window_marks", "texts_by_terms"} <= names
    assert not names & set(DROPPED_INDEXES)


def test_the_schema_is_the_one_that_has_texts(store: Store) -> None:
    with closing(store):
        assert SCHEMA_VERSION >= 4
        assert store.query("SELECT * FROM texts") == []


def test_a_row_that_is_written_again_is_found_once(store: Store) -> None:
    fact = Recorded(STREAM, 2, utc_now(), "user", message("a lantern"))
    with closing(store):
        for _ in range(2):
            store.upsert([*patches_of(fact)])
        assert store.search(STREAM, ["lantern"], limit=9) == [[(2, 2)]]


def put(path: Path, version: int, topic: str) -> None:
    """Store a row of any type past the log."""
    with raw(path) as connection:
        connection.execute(
            "INSERT INTO stored_events VALUES (?, ?, ?, ?)",
            (STREAM, version, topic, GENESIS + PLAIN + b"{}"),
        )


async def test_marks_are_the_facts_that_change_the_window(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    store = databases.opened(path)
    async with Log(store) as log:
        await stored(log, "a lantern")
        for version, topic in enumerate((*MARKED, "run.claimed", *MARKED[::-1]), 3):
            put(path, version, topic)
        assert [row.topic for row in store.marked(STREAM)] == [*MARKED, *MARKED[::-1]]
        assert [row.version for row in store.marked(STREAM, 5)] == [3, 4, 5]


@pytest.mark.sqlite
def test_marks_are_read_by_their_index(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "a.db")) as store:
        (plan,) = store.query(
            f"EXPLAIN QUERY PLAN SELECT topic FROM stored_events WHERE originator_id = ? AND {MARKS}",  # noqa: S608 - our own words
            (STREAM,),
        )
    assert "window_marks" in plan["detail"]


def texts_with(*words: str, count: int) -> list[Patch]:
    """Give so many texts, one a minute, that have these words."""
    values: dict[str, Scalar] = {"terms": " ".join(words), "words": len(words)}
    return [
        Patch("texts", (STREAM, n), {**values, "at": sortable(AT + n * MINUTE)})
        for n in range(1, count + 1)
    ]


def test_the_newest_texts_with_a_common_word_are_read_in_the_order_of_an_index(url: str) -> None:
    with closing(PostgresStore(url, TERMS)) as store:
        store.upsert(texts_with("lantern", "a", count=3_000))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE texts")
            plan = connection.execute(f"EXPLAIN {MENTIONS}".encode(), (["lantern"], 10)).fetchall()
        (newest,) = store.mentions(["lantern"], None, limit=3)
    assert "texts_by_at" in str(plan)
    assert "Sort" not in str(plan)
    assert [one.version for one in newest] == [3_000, 2_999, 2_998]


@pytest.mark.sqlite
def test_the_newest_texts_with_a_word_are_not_put_in_order_first(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "a.db")) as store:
        plan = store.query(f"EXPLAIN QUERY PLAN {MENTIONS_IN_FILE}", ("lantern", 10))
    assert "VIRTUAL TABLE INDEX" in str(plan)
    assert "B-TREE" not in str(plan)
