"""A request that comes while another run is not over."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.conversation import MessageQueued, MessageWithdrawn, WindowRolledBack
from domain.run import RunFinished, RunQueued, StepDelta, StepFinished, ToolStarted
from projections.request import INTERRUPTED
from tests.app.scripts import Gate, calling, saying, told
from tests.app.serving import Scripted, Server, frames_of, kinds_of, serving


async def listed(server: Server, stream: str) -> list[tuple[str, Any]]:
    messages = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
    return [(one["message_type"], one.get("content")) for one in messages[1:]]


async def queue_of(server: Server, stream: str) -> list[dict[str, Any]]:
    return await server.get(f"/v1/conversations/{stream}/queue")


async def test_a_stream_is_turned_down_and_a_document_waits_unless_they_say_otherwise(
    tmp_path: Path,
) -> None:
    gate = Gate("One")
    model = Scripted(gate, saying("Two."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "First."))
        await gate.begun.wait()
        refused = await server.post(stream, "Refused.")
        refused_too = await server.post(stream, "Me too.", streaming=False, on_busy="reject")
        waiting = asyncio.create_task(server.post(stream, "Second.", streaming=False))
        await server.until_there_is(stream, MessageQueued)
        assert [one["content"] for one in await queue_of(server, stream)] == ["Second."]
        gate.opened.set()
        answer = await waiting
        await first
        assert await queue_of(server, stream) == []
        history = await listed(server, stream)
    for one in (refused, refused_too):
        assert one.status_code == 409
        assert one.headers["x-should-retry"] == "false"
        assert one.json()["detail"].startswith("CONFLICT: Cannot send a new message: Another ")
        assert one.json()["run_id"] in one.json()["detail"]
    assert answer.json()["messages"][0]["content"] == "Two."
    assert [content for _, content in history] == ["First.", "One", "Second.", "Two."]


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_an_interruption_keeps_what_was_said_and_goes_first(
    tmp_path: Path, streaming: bool
) -> None:
    gate = Gate("I was ", "saying")
    model = Scripted(gate, saying("Yes?"), saying("Later."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "Talk."))
        await server.until(stream, lambda facts: len(spoken(facts)) == len("I was saying"))
        patient = asyncio.create_task(server.post(stream, "Patient.", streaming=False))
        await server.until_there_is(stream, MessageQueued)
        answer = await server.post(stream, "Stop!", on_busy="interrupt", streaming=streaming)
        ended = frames_of((await first).text)
        await patient
        history = await listed(server, stream)
    assert gate.closed == 1
    assert ended[-1]["stop_reason"] == "cancelled"
    assert "Yes?" in answer.text
    assert [content for _, content in history] == [
        "Talk.",
        "I was saying",
        "Stop!",
        "Yes?",
        "Patient.",
        "Later.",
    ]
    assert told(model.requests[1]) == [
        ("user", "Talk."),
        ("assistant", f"I was saying|{INTERRUPTED}"),
        ("user", "Stop!"),
    ]


async def test_a_rollback_takes_the_turn_back(tmp_path: Path) -> None:
    gate = Gate("Nonsense")
    model = Scripted(saying("Hello."), gate, saying("Sense."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream, "Hi.")
        first = asyncio.create_task(server.post(stream, "Say nonsense."))
        await server.until(stream, lambda facts: "Nonsense" in spoken(facts))
        await server.post(stream, "Say something sensible.", on_busy="rollback", streaming=False)
        ended = frames_of((await first).text)
        history = await listed(server, stream)
        facts = await server.events(stream)
        run_id = next(one.run_ids[0] for one in facts if isinstance(one, WindowRolledBack))
        kept = await server.get(f"/v1/runs/{run_id}/messages")
        window = await server.get(f"/v1/conversations/{stream}/window")
    assert ended[-1]["stop_reason"] == "cancelled"
    sensible = ["Hi.", "Hello.", "Say something sensible.", "Sense."]
    assert [content for _, content in history] == sensible
    assert [words for _, words in told(model.requests[2])] == sensible[:3]
    assert [one["parts"][0]["text"] for one in window["messages"]] == sensible
    assert [one["content"] for one in kept] == ["Say nonsense.", "Nonsense"]


async def test_a_steer_joins_the_turn_at_its_next_step(tmp_path: Path) -> None:
    model = Scripted(calling("demo_wait", arguments='{"seconds": 0.3}'), saying("Both."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        agent = await server.agent("script/x", tools=("demo_wait",))
        stream = await server.conversation(agent)
        first = asyncio.create_task(server.post(stream, "Wait a little."))
        await server.until_there_is(stream, ToolStarted)
        steer = asyncio.create_task(server.post(stream, "And this.", on_busy="steer"))
        await server.until_there_is(stream, MessageQueued)
        other = await server.post(stream, "That, too.", on_busy="steer", streaming=False)
        whole, joined = frames_of((await first).text), frames_of((await steer).text)
        facts = await server.events(stream)
        resumed = await server.http.post(f"/v1/runs/{joined[0]['run_id']}/stream", json={})
        replay = frames_of(resumed.text)
        sent = await server.get(f"/v1/runs/{joined[0]['run_id']}/messages")
    assert told(model.requests[1])[-1] == (
        "user",
        "ok: Waited for 0.3 s.|And this.|That, too.",
    )
    assert kinds_of(joined) == ["ping", "assistant_message", "stop_reason", "usage_statistics"]
    assert replay == joined
    assert [one["content"] for one in sent] == ["And this.", "That, too.", "Both."]
    assert joined[1] in whole
    assert other.json()["messages"][0]["content"] == "Both."
    ends = [one for one in facts if isinstance(one, RunFinished)]
    assert [one.stop_reason for one in ends] == ["end_turn"] * 3


async def test_a_steer_that_comes_too_late_is_a_turn_of_its_own(tmp_path: Path) -> None:
    gate = Gate("One")
    model = Scripted(gate, saying("Two."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "First."))
        await gate.begun.wait()
        steer = asyncio.create_task(server.post(stream, "Second.", on_busy="steer"))
        await server.until_there_is(stream, MessageQueued)
        gate.opened.set()
        answers = [(await one).text for one in (first, steer)]
    assert "One" in answers[0]
    assert "Two." in answers[1]
    assert "One" not in answers[1]


@pytest.mark.parametrize("on_busy", ["reject", "enqueue", "interrupt", "rollback", "steer"])
async def test_nothing_is_special_where_nothing_is_busy(tmp_path: Path, on_busy: str) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        for streaming in (True, False):
            answer = await server.post(stream, on_busy=on_busy, streaming=streaming)
            assert "end_turn" in answer.text
        assert not [one for one in await server.events(stream) if isinstance(one, MessageQueued)]


async def test_one_of_those_that_wait_is_withdrawn_and_its_client_told(tmp_path: Path) -> None:
    gate = Gate("One")
    model = Scripted(gate, saying("Three."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "First."))
        await gate.begun.wait()
        waiting = [asyncio.create_task(server.post(stream, "Second.", streaming=False))]
        await server.until_there_is(stream, MessageQueued)
        waiting.append(asyncio.create_task(server.post(stream, "Third.", streaming=False)))
        await server.until(stream, lambda facts: sum(map(is_queued, facts)) == 2)
        queued = await queue_of(server, stream)
        told = await server.http.post(
            f"/v1/conversations/{stream}/cancel", json={"run_ids": [queued[0]["run_id"]]}
        )
        gate.opened.set()
        answers = [await one for one in waiting]
        await first
        facts = await server.events(stream)
        history = await listed(server, stream)
    assert told.json() == {queued[0]["run_id"]: "cancelled"}
    assert answers[0].json()["stop_reason"]["stop_reason"] == "cancelled"
    assert answers[1].json()["messages"][0]["content"] == "Three."
    assert [one.message_ids for one in facts if isinstance(one, MessageWithdrawn)] == [
        (queued[0]["message_id"],)
    ]
    assert [content for _, content in history] == ["First.", "One", "Third.", "Three."]


async def test_what_waits_survives_a_restart_in_its_order(tmp_path: Path) -> None:
    gate = Gate("One")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "First."))
        await gate.begun.wait()
        rest = [
            asyncio.create_task(server.post(stream, words, streaming=False, on_busy=on_busy))
            for words, on_busy in (("Second.", "enqueue"), ("Third.", "enqueue"))
        ]
        await server.until(stream, lambda facts: sum(map(is_queued, facts)) == 2)
        await server.kill()
        await asyncio.wait([first, *rest])
    model = Scripted(saying("1"), saying("2"), saying("3"))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        await server.until(
            stream, lambda facts: sum(isinstance(one.event, RunFinished) for one in facts) == 3
        )
        history = await listed(server, stream)
        facts = await server.events(stream)
    contents = [content for _, content in history]
    assert contents[::2] == ["First.", *[one.content for one in facts if is_waiting(one)]]
    assert contents[1::2] == ["1", "2", "3"]
    assert len([one for one in facts if isinstance(one, RunQueued)]) == 3


def is_queued(fact: Any) -> bool:
    return isinstance(fact.event, MessageQueued)


def is_waiting(event: Any) -> bool:
    return isinstance(event, MessageQueued)


def spoken(facts: list[Any]) -> str:
    return "".join(one.event.x for one in facts if isinstance(one.event, StepDelta))


async def test_the_interrupted_step_is_recorded_as_such(tmp_path: Path) -> None:
    gate = Gate("Half")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "Talk."))
        await server.until(stream, lambda facts: spoken(facts) == "Half")
        gate.opened.set()
        answer = await server.post(stream, "Stop!", on_busy="interrupt", streaming=False)
        await first
        steps = [one for one in await server.events(stream) if isinstance(one, StepFinished)]
    assert answer.status_code == 200
    assert steps[0].outcome in ("interrupted", "ok")  # it may have come to its end just before
    assert steps[-1].outcome == "ok"
