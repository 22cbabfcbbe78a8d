"""A compaction by hand harms nothing that goes on beside it, and is harmed by nothing."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from starlette.types import Message, Scope

from domain.conversation import (
    MessageQueued,
    PinMessage,
    WindowCompactionFailed,
)
from domain.run import ToolStarted
from domain.streams import MESSAGE, id_of
from tests.app.compacting import (
    SUMMARY,
    WORDS,
    Cast,
    begun,
    casting,
    compact,
    compacted,
    done,
    failed,
    overflow,
    seen,
    summarising,
    talked,
    turn,
    used,
    words_in,
)
from tests.app.scripts import Gate, calling, failing, saying, told
from tests.app.serving import frames_of


@pytest.mark.sqlite  # where each looks up the conversation before the first one is done
async def test_two_at_once_are_one_however_quick_it_is(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, *WORDS)
        answers = await asyncio.gather(*[compact(server, stream) for _ in range(5)])
        (fact,) = await done(server, stream)
        assert len(cast.summariser.requests) == 1
        assert (await compacted(server, stream, mode="all"))["num_messages_after"] == 2
    assert [one.json() for one in answers] == [answers[0].json()] * 5
    assert answers[0].json()["compaction_id"] == fact.compaction_id


async def test_two_at_once_are_one_however_slow_it_is(tmp_path: Path) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[gate])) as (server, cast):
        stream = await talked(server, *WORDS)
        both = [asyncio.create_task(compact(server, stream, mode=mode)) for mode in ("all",) * 2]
        await gate.begun.wait()
        third = asyncio.create_task(compact(server, stream))
        await asyncio.sleep(0.3)  # so long that they have looked again at what is under way
        gate.opened.set()
        answers = [(await one).json() for one in (*both, third)]
        (fact,) = await done(server, stream)
        assert len(await begun(server, stream)) == 1
        assert len(cast.summariser.requests) == 1
    assert answers == [answers[0]] * 3
    assert answers[0]["compaction_id"] == fact.compaction_id


async def test_whoever_waits_for_one_that_fails_is_told_why(tmp_path: Path) -> None:
    gate = Gate(" ")
    async with casting(tmp_path, Cast(summaries=[gate])) as (server, cast):
        stream = await talked(server, *WORDS)
        first = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        second = asyncio.create_task(compact(server, stream, mode="all"))
        await asyncio.sleep(0.3)  # so long that it has seen what is under way
        gate.opened.set()
        answers = [await first, await second]
        assert await done(server, stream) == []
    assert [one.status_code for one in answers] == [400, 400]
    assert answers[0].json() == answers[1].json()
    assert len(cast.summariser.requests) == 1


async def test_what_is_said_while_the_summariser_works_stays(tmp_path: Path) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[gate])) as (server, _):
        stream = await talked(server, *WORDS)
        compacting = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        answer = await server.post(stream, "Meanwhile.")
        assert "end_turn" in answer.text
        gate.opened.set()
        assert (await compacting).status_code == 200
        words = await words_in(server, stream)
    assert [role for role, _ in words] == ["summary", "user", "assistant"]
    assert words[1:] == [("user", "Meanwhile."), ("assistant", "Aye.")]


async def test_a_run_under_way_keeps_what_it_was_asked(tmp_path: Path) -> None:
    gate = Gate("I am ", "thinking.")
    async with casting(tmp_path, Cast(agent=[*[saying("Aye.")] * 3, gate])) as (server, cast):
        stream = await talked(server, *WORDS[:3])
        talking = asyncio.create_task(server.post(stream, "Think."))
        await gate.begun.wait()
        answer = await compacted(server, stream, mode="all")
        gate.opened.set()
        frames = frames_of((await talking).text)
        await server.post(stream, "Go on.")
        words = await words_in(server, stream)
    assert answer["num_messages_after"] == 3
    assert frames[-2]["stop_reason"] == "end_turn"
    assert words[1:] == [
        ("user", "Think."),
        ("assistant", "I am thinking."),
        ("user", "Go on."),
        ("assistant", "I am thinking."),
    ]
    assert told(cast.agent.requests[-1])[-1] == ("user", "Go on.")


async def test_a_run_whose_tool_works_keeps_the_call(tmp_path: Path) -> None:
    script = calling("demo_wait", arguments='{"seconds": 0.5}', words="I wait.")
    async with casting(tmp_path, Cast(agent=[script, saying("Done.")])) as (server, cast):
        stream = await talked(server, tools=("demo_wait",))
        talking = asyncio.create_task(server.post(stream, "Wait."))
        await server.until_there_is(stream, ToolStarted)
        refused = await compact(server, stream, mode="all")
        answer = await talking
    assert refused.status_code == 400
    assert "end_turn" in answer.text
    assert told(cast.agent.requests[-1])[-1] == ("user", "ok: Waited for 0.5 s.")


async def test_messages_that_wait_are_not_compacted(tmp_path: Path) -> None:
    gate = Gate("Busy.")
    async with casting(tmp_path, Cast(agent=[*[saying("Aye.")] * 2, gate])) as (server, _):
        stream = await talked(server, *WORDS[:2])
        talking = asyncio.create_task(server.post(stream, "Work."))
        await gate.begun.wait()
        waiting = asyncio.create_task(server.post(stream, "Later.", streaming=False))
        await server.until_there_is(stream, MessageQueued)
        await compacted(server, stream, mode="all")
        gate.opened.set()
        await talking
        await waiting
        words = await words_in(server, stream)
    assert words[1:] == [
        ("user", "Work."),
        ("assistant", "Busy."),
        ("user", "Later."),
        ("assistant", "Busy."),
    ]


@pytest.mark.parametrize("change", ["undo", "pin"])
async def test_a_window_that_was_changed_meanwhile_is_left_alone(
    tmp_path: Path, change: str
) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[saying(SUMMARY), gate])) as (server, _):
        stream = await talked(server, *WORDS)
        first = await compacted(server, stream)
        compacting = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        if change == "undo":
            assert (await turn(server, stream, first["compaction_id"], "undo")).status_code == 200
        else:
            pin = PinMessage(id_of(MESSAGE, uuid4()), pinned=True)  # any message will do
            await server.services.execute(stream, pin, "user")
        before = await seen(server, stream)
        gate.opened.set()
        answer = await compacting
        assert await seen(server, stream) == before
        (fact,) = await failed(server, stream)
        assert fact.reason == "overtaken"
        assert fact.attempts[0].model == "script/summary"
        assert (await compacted(server, stream, mode="all"))["num_messages_after"] == 2
    assert answer.status_code == 409
    assert "overtaken" in answer.json()["detail"]


@pytest.mark.parametrize("way", ["undo", "redo"])
async def test_an_undo_of_nothing_does_not_disturb_one(tmp_path: Path, way: str) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[saying(SUMMARY), gate])) as (server, _):
        stream = await talked(server, *WORDS)
        first = await compacted(server, stream)
        if way == "undo":
            await turn(server, stream, first["compaction_id"], "undo")
        compacting = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        again = await turn(server, stream, first["compaction_id"], way)
        gate.opened.set()
        assert again.status_code == 200
        assert (await compacting).status_code == 200


async def test_one_of_a_conversation_that_is_deleted_is_given_up(tmp_path: Path) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[gate])) as (server, _):
        stream = await talked(server, *WORDS)
        compacting = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        waiting = asyncio.create_task(compact(server, stream))
        await asyncio.sleep(0.1)
        assert (await server.http.delete(f"/v1/conversations/{stream}")).status_code == 200
        gate.opened.set()
        answers = [await compacting, await waiting]
        (fact,) = await failed(server, stream)
        shown = await server.get(f"/v1/conversations/{stream}/compactions", deleted=True)
        assert await done(server, stream) == []
    assert fact.reason == "cancelled"
    assert [one["status"] for one in shown] == ["failed"]
    assert [one.status_code for one in answers] == [409, 404]


async def test_a_client_that_goes_away_does_not_stop_it(tmp_path: Path) -> None:
    gate, left = summarising(), asyncio.Event()
    async with casting(tmp_path, Cast(summaries=[gate])) as (server, _):
        stream = await talked(server, *WORDS)
        heard: list[Message] = [{"type": "http.request", "body": b""}]

        async def receive() -> Message:
            if heard:
                return heard.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(_: Message) -> None:
            raise OSError("nobody is there")

        path = f"/v1/conversations/{stream}/compact"
        scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        asking = asyncio.ensure_future(server.app(scope, receive, send))
        await gate.begun.wait()
        left.set()
        await asyncio.sleep(0.1)  # time to notice, for whoever looked
        gate.opened.set()
        await asyncio.wait([asking])
        assert asking.exception() is not None
        (fact,) = await done(server, stream)
        assert (await compacted(server, stream, mode="all"))["num_messages_before"] == 7
    assert fact.summary == "They talked."


async def test_a_request_that_is_broken_off_says_so(tmp_path: Path) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[gate, saying(SUMMARY)])) as (server, _):
        stream = await talked(server, *WORDS)
        asking = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        asking.cancel()
        await server.until_there_is(stream, WindowCompactionFailed)
        (fact,) = await failed(server, stream)
        assert (fact.reason, gate.closed) == ("cancelled", 1)
        answer = await compacted(server, stream, mode="all")
    assert answer["summary"] == SUMMARY


async def test_one_who_waited_for_it_does_it_then(tmp_path: Path) -> None:
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[gate, saying(SUMMARY)])) as (server, _):
        stream = await talked(server, *WORDS)
        leaving = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        patient = asyncio.create_task(compact(server, stream, mode="all"))
        await asyncio.sleep(0.1)
        leaving.cancel()
        answer = await patient
    assert answer.json()["summary"] == SUMMARY


# --- a server that goes down ------------------------------------------------------------------


async def left_by_hand(tmp_path: Path, how: str) -> tuple[str, dict[str, Any]]:
    """Have a server go down in the middle of a compaction; give the stream, and its window."""
    gate = summarising()
    async with casting(tmp_path, Cast(summaries=[gate])) as (server, _):
        stream = await talked(server, *WORDS)
        asking = asyncio.create_task(compact(server, stream, mode="all"))
        await gate.begun.wait()
        window = await seen(server, stream)
        if how == "killed":
            server.store.broken = True
        asking.cancel()  # as a shutdown does with requests that take too long
        await asyncio.wait([asking])
    return stream, window


@pytest.mark.parametrize(("how", "reason"), [("stopped", "cancelled"), ("killed", "lost")])
async def test_one_that_a_server_was_at_when_it_went_down_is_over_and_the_next_one_works(
    tmp_path: Path, how: str, reason: str
) -> None:
    stream, window = await left_by_hand(tmp_path, how)
    async with casting(tmp_path) as (server, _):
        assert await seen(server, stream) == window
        answer = await compacted(server, stream, mode="all")
        (fact,) = await done(server, stream)
        (gone,) = await failed(server, stream)
        rows = await server.get(f"/v1/conversations/{stream}/compactions")
    assert answer["compaction_id"] == fact.compaction_id
    assert (gone.reason, gone.attempts) == (reason, ())
    assert [one["status"] for one in rows] == ["failed", "active"]


async def test_a_run_takes_over_from_a_person_whose_server_died(tmp_path: Path) -> None:
    stream, _ = await left_by_hand(tmp_path, "killed")
    async with casting(tmp_path, Cast(agent=[*failing(overflow()), used(20, "Room.")])) as (
        server,
        _,
    ):
        answer = await server.post(stream, "Five.")
        (fact,) = await done(server, stream)
        (lost,) = await failed(server, stream)
        assert len(await begun(server, stream)) == 2
    assert "Room." in answer.text
    assert (lost.reason, fact.audit.trigger) == ("lost", "context_window_exceeded")
