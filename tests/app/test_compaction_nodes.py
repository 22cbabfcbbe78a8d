"""Compactions where several nodes serve one database: one is at it, and the others know."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from domain.run import RunFinished
from tests.app.compacting import (
    GUARD_S,
    LONG,
    SUMMARY,
    WORDS,
    Cast,
    begun,
    compact,
    done,
    failed,
    seen,
    talked,
    used,
)
from tests.app.scripts import Gate, saying
from tests.app.serving import Server, frames_of, serving
from tests.databases import raw


@pytest.fixture(autouse=True)
def many_nodes(engine: str) -> None:
    """Leave out the engine whose databases belong to one process each."""
    if engine == "sqlite":
        pytest.skip("a file is served by one node")


@asynccontextmanager
async def two(tmp_path: Path, first: Cast, second: Cast) -> AsyncGenerator[tuple[Server, Server]]:
    """Serve one database from two nodes, each with a cast of its own."""
    path = tmp_path / "everlog.db"
    async with (
        asyncio.timeout(GUARD_S),
        serving(path, first, node="node-1") as one,
        serving(path, second, node="node-2", runs_at_once_max=0) as other,
    ):
        yield one, other


def lapse(tmp_path: Path) -> None:
    """Let every lease lapse, as if nobody had renewed it for long."""
    with raw(tmp_path / "everlog.db") as database:
        database.execute("UPDATE leases SET expires_at = 0")


async def test_two_nodes_that_are_asked_at_once_do_it_once(tmp_path: Path) -> None:
    casts = Cast(), Cast()
    async with two(tmp_path, *casts) as (one, other):
        stream = await talked(one, *WORDS)
        for words in ("Five.", "Six.", "Seven."):
            before = len(await done(one, stream))
            answers = await asyncio.gather(compact(one, stream), compact(other, stream))
            ids = [fact.compaction_id for fact in (await done(one, stream))[before:]]
            # One of them may have come so late that the other one had finished.
            assert {answer.json()["compaction_id"] for answer in answers} == {*ids}
            assert len(await begun(one, stream)) == before + len(ids)
            await one.post(stream, words)
        assert await seen(one, stream) == await seen(other, stream)


async def test_a_node_that_is_asked_meanwhile_waits_for_the_other_one(tmp_path: Path) -> None:
    gate = Gate("They ", "talked.")
    casts = Cast(summaries=[gate]), Cast()
    async with two(tmp_path, *casts) as (one, other):
        stream = await talked(one, *WORDS)
        asked = asyncio.create_task(compact(one, stream))
        await gate.begun.wait()
        late = asyncio.create_task(compact(other, stream, mode="all"))
        await asyncio.sleep(0.3)  # so long that it has looked more than once
        gate.opened.set()
        answers = [(await asked).json(), (await late).json()]
        assert len(await begun(one, stream)) == len(await done(one, stream)) == 1
    assert answers[0] == answers[1]
    assert casts[1].summariser.requests == []


async def test_another_node_does_what_a_dead_one_has_left(tmp_path: Path) -> None:
    gate = Gate("They ", "talked.")
    async with two(tmp_path, Cast(summaries=[gate]), Cast()) as (one, other):
        stream = await talked(one, *WORDS)
        asked = asyncio.create_task(compact(one, stream))
        await gate.begun.wait()
        one.store.broken = True
        asked.cancel()
        await asyncio.wait([asked])
        lapse(tmp_path)
        answer = await compact(other, stream, mode="all")
        (lost,) = await failed(other, stream)
        (fact,) = await done(other, stream)
    assert answer.json()["compaction_id"] == fact.compaction_id
    assert lost.reason == "lost"


async def test_one_that_was_asleep_for_too_long_records_nothing(tmp_path: Path) -> None:
    gate = Gate("They ", "talked.")
    async with two(tmp_path, Cast(summaries=[gate]), Cast()) as (one, other):
        stream = await talked(one, *WORDS)
        asked = asyncio.create_task(compact(one, stream))
        await gate.begun.wait()
        lapse(tmp_path)
        taken = await compact(other, stream, mode="all")
        window = await seen(other, stream)
        gate.opened.set()
        late = await asked
        assert await seen(one, stream) == window
        (fact,) = await done(one, stream)
    assert taken.json()["compaction_id"] == fact.compaction_id
    assert (taken.json()["summary"], late.status_code) == (SUMMARY, 409)
    assert "lost" in late.json()["detail"]


async def test_a_cancel_from_another_node_breaks_off_a_run_s(tmp_path: Path) -> None:
    gate = Gate("They ", "talked.")
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)], summaries=[gate])
    async with two(tmp_path, cast, Cast()) as (one, other):
        stream = await talked(one, *[LONG] * 3, limit=1000)
        talking = asyncio.create_task(one.post(stream, "Four."))
        await gate.begun.wait()
        answer = await other.http.post(f"/v1/conversations/{stream}/cancel")
        frames = frames_of((await talking).text)
        ends: list[Any] = [
            fact for fact in await one.events(stream) if isinstance(fact, RunFinished)
        ]
        (fact,) = await failed(one, stream)
    assert list(answer.json().values()) == ["cancelled"]
    assert (fact.reason, gate.closed) == ("cancelled", 1)
    assert frames[-1]["stop_reason"] == "cancelled"
    assert [one.status for one in ends] == ["completed"] * 3 + ["cancelled"]


async def test_an_undo_from_another_node_is_seen_at_once(tmp_path: Path) -> None:
    async with two(tmp_path, Cast(summaries=[saying(SUMMARY)]), Cast()) as (one, other):
        stream = await talked(one, *WORDS)
        before = await seen(one, stream)
        compaction_id = (await compact(one, stream)).json()["compaction_id"]
        path = f"/v1/conversations/{stream}/compactions/{compaction_id}"
        undone = await other.http.post(f"{path}/undo")
        assert await seen(one, stream) == before
        redone = await one.http.post(f"{path}/redo")
        assert await seen(one, stream) == await seen(other, stream) != before
    assert [undone.json()["active"], redone.json()["active"]] == [False, True]
