"""Cancelling: at once, in every phase, and nothing but what was meant."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.conversation import MessageQueued
from domain.run import RunCancelRequested, RunFinished, StepDelta, StepFinished, ToolStarted
from domain.streams import default_conversation
from tests.app.scripts import Gate, calling, saying
from tests.app.serving import Scripted, Server, frames_of, serving

UNKNOWN = "run-00000000-0000-4000-8000-000000000000"


async def cancel(server: Server, stream: str, **body: Any) -> Any:
    return await server.http.post(f"/v1/conversations/{stream}/cancel", json=body or None)


def ends(facts: list[Any]) -> list[tuple[str, str]]:
    return [(one.status, one.stop_reason) for one in facts if isinstance(one, RunFinished)]


@pytest.mark.parametrize("words", [[], ["Half "]], ids=["before a word", "in mid-reply"])
@pytest.mark.parametrize(
    "mode",
    [
        {"stream_tokens": True},
        {"stream_tokens": False},
        {"stream_tokens": True, "background": True},
        {"streaming": False},
    ],
    ids=["tokens", "whole", "background", "json"],
)
async def test_a_silent_model_is_let_go_of_and_its_words_are_kept(
    tmp_path: Path, words: list[str], mode: dict[str, Any]
) -> None:
    gate = Gate(*words)
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream, **mode))
        await gate.begun.wait()
        if words:
            await server.until_there_is(stream, StepDelta)
        told = await cancel(server, stream)
        assert gate.closed == 1
        answer = await post
        (run,) = await server.get("/v1/runs/", conversation_id=stream)
        replay = await server.http.post(f"/v1/runs/{run['id']}/stream", json={})
        history = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
        facts = await server.events(stream)
        again = await cancel(server, stream)
    assert told.json() == {run["id"]: "cancelled"}
    assert (run["status"], run["stop_reason"]) == ("cancelled", "cancelled")
    assert ends(facts) == [("cancelled", "cancelled")]
    assert [one.outcome for one in facts if isinstance(one, StepFinished)] == ["interrupted"]
    assert [one.get("content") for one in history[1:]] == ["Hello!", *words]
    assert again.status_code == 409
    assert again.headers["x-should-retry"] == "false"
    if mode.get("streaming", True):
        assert answer.text == replay.text
        assert frames_of(answer.text)[-1]["stop_reason"] == "cancelled"
    else:
        assert answer.json()["stop_reason"]["stop_reason"] == "cancelled"
        assert [one["content"] for one in answer.json()["messages"]] == words


async def test_many_cancels_at_once_are_one(tmp_path: Path) -> None:
    gate = Gate("Half")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, StepDelta)
        answers = await asyncio.gather(*(cancel(server, stream) for _ in range(10)))
        await post
        facts = await server.events(stream)
    assert {one.status_code for one in answers} <= {200, 409}
    assert any(one.status_code == 200 for one in answers)
    assert len(ends(facts)) == 1
    assert len([one for one in facts if isinstance(one, RunCancelRequested)]) == 1


async def test_a_tool_is_broken_off(tmp_path: Path) -> None:
    model = Scripted(calling("demo_wait", arguments='{"seconds": 30}'), saying("On."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        agent = await server.agent("script/x", tools=("demo_wait",))
        stream = await server.conversation(agent)
        post = asyncio.create_task(server.post(stream))
        await server.until_there_is(stream, ToolStarted)
        await cancel(server, stream)
        frames = frames_of((await post).text)
        answer = await server.post(stream, "And now?", streaming=False)
    kinds = [one["message_type"] for one in frames]
    assert kinds[1:] == ["tool_call_message", "tool_return_message", "stop_reason"]
    assert frames[2]["status"] == "error"
    assert answer.json()["messages"][0]["content"] == "On."


async def test_only_the_runs_of_that_conversation_are_touched(tmp_path: Path) -> None:
    gate = Gate("Half")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        agent = await server.agent("script/x")
        streams = [await server.conversation(agent) for _ in range(2)]
        posts = [asyncio.create_task(server.post(stream)) for stream in streams]
        for stream in streams:
            await server.until_there_is(stream, StepDelta)
        await cancel(server, streams[0])
        gate.opened.set()
        texts = [(await post).text for post in posts]
    assert [frames_of(text)[-1].get("stop_reason") for text in texts] == ["cancelled", None]


async def test_runs_are_cancelled_by_name_and_finished_ones_stay_as_they_are(
    tmp_path: Path,
) -> None:
    gate = Gate("Half")
    model = Scripted(saying("Done."), gate, saying("Last."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream, "First.")
        (done,) = await server.get("/v1/runs/", conversation_id=stream)
        post = asyncio.create_task(server.post(stream, "Second."))
        await gate.begun.wait()
        waiting = asyncio.create_task(server.post(stream, "Third.", streaming=False))
        await server.until_there_is(stream, MessageQueued)
        runs = await server.get("/v1/runs/", conversation_id=stream, active="true")
        active = next(one["id"] for one in runs if one["status"] == "running")
        told = await cancel(server, stream, run_ids=[active, done["id"], UNKNOWN])
        await post
        assert (await waiting).json()["messages"][0]["content"] == "Last."
        facts = await server.events(stream)
    assert told.json() == {active: "cancelled", done["id"]: "cancelled", UNKNOWN: "failed"}
    assert [status for status, _ in ends(facts)] == ["completed", "cancelled", "completed"]


async def test_an_agent_s_runs_are_cancelled_wherever_they_are(tmp_path: Path) -> None:
    gate = Gate("Half")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        agent, other = await server.agent("script/x"), await server.agent("script/x")
        stream, foreign = await server.conversation(agent), await server.conversation(other)
        posts = [asyncio.create_task(server.post(one)) for one in (stream, foreign)]
        own = asyncio.create_task(
            server.http.post(f"/v1/agents/{agent}/messages", json={"input": "Hello!"})
        )
        for one in (stream, foreign, default_conversation(agent)):
            await server.until_there_is(one, StepDelta)
        runs = {
            (one["agent_id"], one["conversation_id"]): one["id"]
            for one in await server.get("/v1/runs/", active="true")
        }
        path = f"/v1/agents/{agent}/messages/cancel"
        default = await server.http.post(path)
        assert default.json() == {runs[agent, None]: "cancelled"}
        ids = [runs[agent, stream], runs[other, foreign], UNKNOWN]
        told = await server.http.post(path, json={"run_ids": ids})
        gate.opened.set()
        texts = [(await post).text for post in posts]
        await own
    assert told.json() == {ids[0]: "cancelled", ids[1]: "failed", UNKNOWN: "failed"}
    assert ['"cancelled"' in text for text in texts] == [True, False]


async def test_there_may_be_nothing_to_cancel(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        answer = await cancel(server, stream)
        assert answer.status_code == 409
        assert answer.json()["detail"].startswith("CONFLICT: No active runs to cancel")
        nobody = await server.http.post(f"/v1/conversations/conv-{UNKNOWN[4:]}/cancel")
        assert nobody.status_code == 404
        assert len(await server.events(stream)) == 1


async def test_a_cancelled_stream_resumed_later_is_the_same_from_there_on(tmp_path: Path) -> None:
    gate = Gate("One ", "two ", "three ")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(stream, stream_tokens=True))
        await gate.begun.wait()
        await server.until_there_is(stream, StepDelta)
        await cancel(server, stream)
        whole = (await post).text
        frames = frames_of(whole)
        for frame in frames:
            if (number := frame.get("seq_id")) is None:
                continue
            rest = await server.http.post(
                f"/v1/runs/{frames[0]['run_id']}/stream", json={"starting_after": number}
            )
            assert whole.endswith(rest.text)
            assert rest.text.endswith("data: [DONE]\n\n")
