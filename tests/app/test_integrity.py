"""What was tampered with is found, at its offset; tables are written again as they were."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from app.integrity import Verdict, rebuild_tables, verify_all, verify_stream
from app.log import Log
from app.sqlite import SQLiteStore
from domain.event import Event
from tests import examples

STREAM = examples.CONVERSATION_ID
Tamper = Callable[[sqlite3.Connection], object]


async def written(path: Path) -> None:
    facts: list[Event] = [examples.started, examples.queued(), examples.appended()]
    async with Log(SQLiteStore(path)) as log:
        await log.append(STREAM, 0, facts, "user")
        await log.append(STREAM, 3, [examples.renamed, examples.claimed()], "user")
        await log.append(examples.OTHER_CONVERSATION_ID, 0, [examples.started], "user")


def verdict_after(path: Path, tamper: Tamper) -> Verdict:
    connection = sqlite3.connect(path)
    with connection:
        tamper(connection)
    connection.close()
    store = SQLiteStore(path)
    verdict = verify_stream(store, STREAM)
    store.close()
    return verdict


def change_a_body(connection: sqlite3.Connection) -> None:
    (state,) = connection.execute(
        "SELECT state FROM stored_events WHERE originator_id = ? AND originator_version = 3",
        (STREAM,),
    ).fetchone()
    connection.execute(
        "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = 3",
        (state.replace(b"Hello", b"Jello"), STREAM),
    )


CASES: list[tuple[str, int | None, Tamper]] = [
    ("nothing", None, lambda _: None),
    # A changed fact shows where the next one no longer follows from it.
    ("a changed body", 4, change_a_body),
    (
        "a missing fact",
        2,
        lambda c: c.execute(
            "DELETE FROM stored_events WHERE originator_id = ? AND originator_version = 2",
            (STREAM,),
        ),
    ),
    (
        "a renamed type",
        3,
        lambda c: c.execute(
            "UPDATE stored_events SET topic = 'run.finished' WHERE originator_id = ? "
            "AND originator_version = 2",
            (STREAM,),
        ),
    ),
    (
        "a last fact cut off",
        5,
        lambda c: c.execute(
            "DELETE FROM stored_events WHERE originator_id = ? AND originator_version = 5",
            (STREAM,),
        ),
    ),
]


@pytest.mark.parametrize(("name", "first_bad", "tamper"), CASES, ids=[one[0] for one in CASES])
async def test_tampering_is_found_where_it_was_done(
    tmp_path: Path, name: str, first_bad: int | None, tamper: Tamper
) -> None:
    path = tmp_path / "a.db"
    await written(path)
    verdict = verdict_after(path, tamper)
    assert verdict.ok is (first_bad is None), name
    if first_bad is not None:
        assert verdict.first_bad is not None
        assert abs(verdict.first_bad - first_bad) <= 1
        assert verdict.reason


async def test_all_streams_are_checked_and_the_tables_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await written(path)
    store = SQLiteStore(path)
    counted: list[int] = []
    assert [verdict.ok for _, verdict in verify_all(store, counted.append)] == [True, True]
    assert sum(counted) == 6
    before = store.query("SELECT * FROM conversations ORDER BY conversation_id")
    store.clear_tables()
    assert store.query("SELECT * FROM conversations") == []
    assert list(rebuild_tables(store, counted.append)) == []
    assert store.query("SELECT * FROM conversations ORDER BY conversation_id") == before
    store.close()
