"""A run whose window is being compacted can be cancelled, steered, interrupted, and taken over."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.conversation import (
    MessageQueued,
    WindowCompactionStarted,
)
from domain.run import RunCancelRequested, RunFinished
from tests.app.compacting import (
    LIMIT,
    LONG,
    Cast,
    begun,
    casting,
    compact,
    done,
    endings,
    failed,
    overflow,
    seen,
    summarising,
    talked,
    turn,
    used,
    words_in,
)
from tests.app.scripts import Gate, failing, told
from tests.app.serving import Reader, Server, frames_of


async def compacting_run(server: Server, gate: Gate, **more: Any) -> tuple[str, asyncio.Task[Any]]:
    """Talk until a run has its window compacted, and the summariser is at it."""
    stream = await talked(server, *[LONG] * 3, limit=LIMIT, **more)
    talking = asyncio.create_task(server.post(stream, "Four."))
    await gate.begun.wait()
    return stream, talking


@pytest.mark.parametrize("reason", ["post_step", "overflow"])
async def test_a_cancel_ends_the_run_at_once(tmp_path: Path, reason: str) -> None:
    gate = summarising()
    last = [used(950)] if reason == "post_step" else [*failing(overflow()), used(10)]
    cast = Cast(agent=[*[used(10, LONG)] * 3, *last], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate)
        answer = await server.http.post(f"/v1/conversations/{stream}/cancel")
        frames = frames_of((await talking).text)
        ends = await endings(server, stream)
        (fact,) = await failed(server, stream)
        before = await seen(server, stream)
        (shown,) = await server.get(f"/v1/conversations/{stream}/compactions")
        assert gate.closed == 1
    assert list(answer.json().values()) == ["cancelled"]
    assert frames[-1]["stop_reason"] == "cancelled"
    assert [one.status for one in ends] == ["completed"] * 3 + ["cancelled"]
    assert (fact.reason, shown["reason"], shown["status"]) == ("cancelled", "cancelled", "failed")
    assert before["summary"] is None


async def test_a_run_s_is_waited_for_by_whoever_asks_for_one(tmp_path: Path) -> None:
    gate = summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate)
        asked = asyncio.create_task(compact(server, stream))
        await asyncio.sleep(0.2)
        gate.opened.set()
        answer = (await asked).json()
        await talking
        (fact,) = await done(server, stream)
    assert answer["compaction_id"] == fact.compaction_id
    assert fact.audit.trigger == "post_step_context_check"


async def test_a_run_takes_the_room_that_a_person_makes(tmp_path: Path) -> None:
    gate, summary = Gate("Think", "ing."), summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, gate, used(950)], summaries=[summary])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *[LONG] * 3, limit=LIMIT)
        asked = asyncio.create_task(compact(server, stream, mode="all"))
        await summary.begun.wait()
        gate.opened.set()
        await server.post(stream, "Four.")
        talking = asyncio.create_task(server.post(stream, "Five."))
        await server.until(stream, lambda facts: last_step(facts) == 5)
        summary.opened.set()
        await talking
        answer = (await asked).json()
        (fact,) = await done(server, stream)
        (start,) = await begun(server, stream)
    assert answer["compaction_id"] == fact.compaction_id == start.compaction_id
    assert fact.run_id is None


def last_step(facts: list[Any]) -> int:
    return sum(fact.event.type == "step.finished" for fact in facts)


async def test_a_message_that_comes_meanwhile_is_the_next_turn(tmp_path: Path) -> None:
    gate = summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950), used(20, "Five, too.")], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate, mode="all")
        refused = await server.post(stream, "Refused.")
        waiting = asyncio.create_task(server.post(stream, "Five.", streaming=False))
        await server.until_there_is(stream, MessageQueued)
        gate.opened.set()
        await talking
        answer = await waiting
        words = await words_in(server, stream)
    assert refused.status_code == 409
    assert answer.json()["messages"][0]["content"] == "Five, too."
    assert words[1:] == [("user", "Five."), ("assistant", "Five, too.")]


async def test_a_steer_that_comes_meanwhile_joins_the_next_step(tmp_path: Path) -> None:
    gate = summarising()
    room = [*failing(overflow()), used(20, "Both.")]
    cast = Cast(agent=[*[used(10, LONG)] * 3, *room], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate)
        steer = asyncio.create_task(server.post(stream, "And this.", on_busy="steer"))
        await server.until_there_is(stream, MessageQueued)
        gate.opened.set()
        answers = [(await one).text for one in (talking, steer)]
    assert told(cast.agent.requests[-1])[-1][1].endswith("Four.|And this.")
    assert all("Both." in one for one in answers)


@pytest.mark.parametrize("on_busy", ["interrupt", "rollback"])
async def test_an_interruption_breaks_it_off(tmp_path: Path, on_busy: str) -> None:
    gate = summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950), used(20, "Yes?")], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate)
        answer = await server.post(stream, "Stop!", on_busy=on_busy)
        ended = frames_of((await talking).text)
        (fact,) = await failed(server, stream)
        words = [words for _, words in await words_in(server, stream)][6:]
    assert fact.reason == "cancelled"
    assert ended[-1]["stop_reason"] == "cancelled"
    assert "Yes?" in answer.text
    kept = [] if on_busy == "rollback" else ["Four.", "Aye."]
    assert words == [*kept, "Stop!", "Yes?"]


async def test_a_rollback_brings_back_what_the_turn_had_evicted(tmp_path: Path) -> None:
    gate = Gate("Again")
    cast = Cast(agent=[*[used(10, LONG)] * 3, *failing(overflow()), gate, used(10, "Yes?")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *[LONG] * 3, limit=LIMIT)
        before = await words_in(server, stream)
        talking = asyncio.create_task(server.post(stream, "Four."))
        await gate.begun.wait()
        (fact,) = await done(server, stream)
        await server.post(stream, "Stop!", on_busy="rollback")
        await talking
        assert (await words_in(server, stream))[:-2] == before
        (row,) = await server.get(f"/v1/conversations/{stream}/compactions")
        redone = await turn(server, stream, fact.compaction_id, "redo")
        again = await turn(server, stream, fact.compaction_id, "undo")
    assert row["status"] == "rolled_back"
    assert (redone.status_code, again.status_code) == (409, 200)
    assert again.json()["active"] is False


async def test_a_conversation_deleted_meanwhile_ends_its_run_and_its_compaction(
    tmp_path: Path,
) -> None:
    gate = summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate)
        assert (await server.http.delete(f"/v1/conversations/{stream}")).status_code == 200
        await talking
        await server.until(
            stream, lambda facts: sum(isinstance(one.event, RunFinished) for one in facts) == 4
        )
        (fact,) = await failed(server, stream)
        requests = [
            one for one in await server.events(stream) if isinstance(one, RunCancelRequested)
        ]
    assert (fact.reason, [one.reason for one in requests]) == ("cancelled", ["deleted"])
    assert not gate.opened.is_set()


# --- a server that goes down ------------------------------------------------------------------


async def left_by_run(tmp_path: Path, how: str) -> str:
    """Have a server go down in the middle of a run's compaction; give the stream."""
    gate = summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, *failing(overflow())], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream, talking = await compacting_run(server, gate)
        await (server.kill() if how == "killed" else server.stop())
        talking.cancel()
        await asyncio.wait([talking])
    return stream


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_a_run_whose_server_died_goes_on_on_the_next_one(tmp_path: Path, how: str) -> None:
    stream = await left_by_run(tmp_path, how)
    second = Cast(agent=[*failing(overflow()), used(20, "Room.")])
    async with casting(tmp_path, second) as (server, _):
        await server.until(
            stream, lambda facts: sum(isinstance(one.event, RunFinished) for one in facts) == 4
        )
        (fact,) = await done(server, stream)
        (lost,) = await failed(server, stream)
        words = await words_in(server, stream)
        (*_, ending) = await endings(server, stream)
    assert lost.reason == "lost"
    assert fact.run_id == ending.run_id
    assert words[-1] == ("assistant", "Room.")
    assert ending.stop_reason == "end_turn"


async def test_a_reader_of_the_run_is_told_to_the_end(tmp_path: Path) -> None:
    gate = summarising()
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)], summaries=[gate])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *[LONG] * 3, limit=LIMIT)
        body = b'{"input": "Four.", "include_compaction_messages": true}'
        reader: Reader = await server.reader(f"/v1/conversations/{stream}/messages", body)
        await gate.begun.wait()
        await server.until_there_is(stream, WindowCompactionStarted)
        gate.opened.set()
        kinds = [one["message_type"] for one in frames_of(await reader.whole())]
    assert kinds[-4:] == ["event_message", "summary_message", "stop_reason", "usage_statistics"]
