"""Who is at work on what, by the database's clock; and read tables whose form has changed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.execute import Execute
from app.leases import Leases
from app.log import Log
from app.settings import load
from app.storage.databases import opened
from app.storage.sqlite import SQLiteStore
from domain.conversation import FinishRun
from domain.run import EndRun
from tests.examples import CONVERSATION_ID, RUN_ID, claim, queue, start


async def test_work_is_one_node_s_until_it_lets_go(log: Log) -> None:
    one, other = Leases(log, "one"), Leases(log, "other")
    assert await one.take("work")
    assert await one.take("work")
    assert not await other.take("work")
    assert not await other.free("work")
    assert await one.free("work")
    await one.release()
    assert await other.take("work")
    assert await one.renew(["work"]) == {"work"}
    assert await other.renew(["work", "nothing"]) == {"nothing"}


async def test_a_lease_lapses_by_itself_and_is_renewed_if_nobody_took_it(log: Log) -> None:
    one, other = Leases(log, "one"), Leases(log, "other")
    assert await one.take("work", for_ms=-1)
    assert await other.free("work")
    assert await one.renew(["work"]) == set()
    assert not await other.take("work")


async def test_a_claim_is_a_lease_and_the_run_s_end_the_end_of_it(log: Log) -> None:
    execute, other = Execute(log), Leases(log, "other")
    await execute(CONVERSATION_ID, start, "user")
    await execute(CONVERSATION_ID, queue(), "user")
    assert await other.unattended("", 10) == [CONVERSATION_ID]
    await execute(CONVERSATION_ID, claim(), "worker")
    assert await other.unattended("", 10) == []
    assert not await other.free(CONVERSATION_ID)
    await execute(CONVERSATION_ID, FinishRun(EndRun(RUN_ID, 1, "completed", "end_turn")), "worker")
    assert await other.free(CONVERSATION_ID)
    assert await other.unattended("", 10) == []


@pytest.mark.sqlite
async def test_a_file_s_last_owner_has_no_leases_any_more(tmp_path: Path) -> None:
    async with Log(SQLiteStore(tmp_path / "a.db")) as log:
        await Leases(log, "dead").take("work")
    async with Log(SQLiteStore(tmp_path / "a.db")) as log:
        one = Leases(log, "one")
        assert not await one.free("work")
        await one.begin()
        assert await one.take("work")


async def test_what_nobody_is_at_comes_in_pages(log: Log) -> None:
    execute = Execute(log)
    streams = [f"conv-{n}1111111-1111-4111-8111-111111111111" for n in range(5)]
    for stream in streams:
        await execute(stream, start, "user")
        await execute(stream, queue(), "user")
    leases = Leases(log, "one")
    assert await leases.unattended("", 2) == streams[:2]
    assert await leases.unattended(streams[1], 10) == streams[2:]


@pytest.mark.sqlite
async def test_read_tables_of_an_older_form_are_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with Log(SQLiteStore(path)) as log:
        await Execute(log)(CONVERSATION_ID, start, "user")
        await Execute(log)(CONVERSATION_ID, queue(), "user")
        before = await log.query("SELECT * FROM runs")
    with closing(sqlite3.connect(path)) as file:
        file.execute("ALTER TABLE runs DROP COLUMN body_hash")
        file.execute("PRAGMA user_version = 1")
    store = SQLiteStore(path)
    assert store.outdated
    store.close()
    # Whoever stops half-way begins again: only a rebuild makes it the new form.
    settings = load(database_url=f"sqlite:////{path.as_posix().lstrip('/')}")
    async with Log(opened(settings)) as log:
        assert await log.query("SELECT * FROM runs") == before
    again = SQLiteStore(path)
    assert not again.outdated
    again.close()
