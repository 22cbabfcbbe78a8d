"""The model calls of all conversations: found, filtered, walked, and what each of them said."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.providers import ModelError
from domain.conversation import DeleteConversation
from domain.run import StepStarted
from projections.durations import EPOCH
from tests.app.scripts import calling, failing, saying
from tests.app.serving import Scripted, Server, serving

NOBODY = "step-123e4567-e89b-42d3-8456-426614174000"
WEATHER = {"name": "weather", "parameters": {"type": "object"}}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    """A server with a model that fails once, calls a tool, and speaks from then on."""
    (down,) = failing(ModelError("llm_error", "down"))
    model = Scripted(down, calling("demo_count", arguments='{"text": "a"}'), saying("Done."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as running:
        yield running


@pytest.fixture
async def agent_id(server: Server) -> str:
    """An agent that has spoken in two conversations: three steps in one, one in the other."""
    agent_id = await server.agent("script/x", tools=("demo_count",))
    for _ in range(2):
        await server.post(await server.conversation(agent_id), streaming=False)
    return agent_id


async def ids(server: Server, **query: Any) -> list[str]:
    return [one["id"] for one in await server.get("/v1/steps/", **query)]


async def test_the_steps_of_all_conversations_are_in_one_list(
    server: Server, agent_id: str
) -> None:
    other = await server.conversation()
    await server.post(other, streaming=False)
    steps = await server.get("/v1/steps/", order="asc")
    assert [one["status"] for one in steps] == ["failed", *["success"] * 4]
    assert [one["stop_reason"] for one in steps] == [None, None, *["end_turn"] * 3]
    assert [one["agent_id"] == agent_id for one in steps] == [True] * 4 + [False]
    assert [one["model_handle"] for one in steps] == ["script/x"] * 4 + ["demo/echo"]
    assert await ids(server) == [one["id"] for one in reversed(steps)]


async def test_a_step_is_the_same_in_every_list_and_by_itself(
    server: Server, agent_id: str
) -> None:
    steps = await server.get("/v1/steps/", agent_id=agent_id)
    runs = await server.get("/v1/runs/", agent_id=agent_id)
    by_run = [
        step for run in runs for step in await server.get(f"/v1/runs/{run['id']}/steps", limit=9)
    ]
    assert steps == by_run
    assert steps == [await server.get(f"/v1/steps/{one['id']}") for one in steps]


async def test_steps_are_walked_in_both_orders_without_gaps(server: Server, agent_id: str) -> None:
    known = await ids(server, agent_id=agent_id, order="asc")
    for order in ("asc", "desc"):
        wanted = known if order == "asc" else known[::-1]
        walked: list[str] = []
        page = await ids(server, order=order, limit=3)
        while page:
            walked += page
            page = await ids(server, order=order, limit=3, after=page[-1])
        assert walked == wanted
        assert await ids(server, order=order, limit=2, before=wanted[3]) == wanted[1:3]
    assert await ids(server, limit=0) == []


async def test_steps_are_found_by_agent_model_and_time(server: Server, agent_id: str) -> None:
    await server.post(await server.conversation(), streaming=False)
    steps = await server.get("/v1/steps/", order="asc")
    assert len(await ids(server, agent_id=agent_id)) == 4
    assert await ids(server, model="echo") == await ids(server, model="demo/echo")
    assert await ids(server, model="echo") == [steps[4]["id"]]
    assert await ids(server, model="nothing") == []
    begun = steps[2]["created_at"]
    assert await ids(server, order="asc", start_date=begun) == [one["id"] for one in steps[2:]]
    assert await ids(server, order="asc", end_date=begun) == [one["id"] for one in steps[:2]]
    # As Python prints a time of UTC that does not say so.
    assert len(await ids(server, start_date=begun.removesuffix("Z"))) == 3


async def test_no_step_has_what_is_not_kept(server: Server, agent_id: str) -> None:
    assert await ids(server, agent_id=agent_id, has_feedback=False)
    for query in (
        {"has_feedback": True},
        {"feedback": "positive"},
        {"tags": ["a"]},
        {"trace_ids": ["a"]},
        {"project_id": "a"},
    ):
        assert await ids(server, **query) == [], query


async def test_a_step_that_is_not_there_is_not_found(server: Server) -> None:
    for path in (f"/v1/steps/{NOBODY}", f"/v1/steps/{NOBODY}/messages"):
        assert (await server.http.get(path)).status_code == 404
    assert (await server.http.get("/v1/steps/step-1")).status_code == 422
    assert (await server.http.get("/v1/steps/", params={"after": NOBODY})).status_code == 404


async def test_the_steps_of_a_deleted_conversation_are_gone(server: Server, agent_id: str) -> None:
    (step, *_) = await server.get("/v1/steps/", agent_id=agent_id)
    (stream, *_) = [
        one["conversation_id"]
        for one in await server.get("/v1/runs/", agent_id=agent_id)
        if one["id"] == step["run_id"]
    ]
    await server.services.execute(stream, DeleteConversation(), "user")
    assert step["id"] not in await ids(server)
    assert (await server.http.get(f"/v1/steps/{step['id']}")).status_code == 404


async def test_the_messages_of_a_step_are_its_own_and_its_returns(
    server: Server, agent_id: str
) -> None:
    failed, called, spoken, _ = await server.get("/v1/steps/", agent_id=agent_id, order="asc")
    assert await server.get(f"/v1/steps/{failed['id']}/messages") == []
    both = await server.get(f"/v1/steps/{called['id']}/messages")
    assert [one["message_type"] for one in both] == ["tool_call_message", "tool_return_message"]
    path = f"/v1/steps/{called['id']}/messages"
    assert await server.get(path, order="desc") == both[::-1]
    assert await server.get(path, after=both[0]["id"]) == both[1:]
    assert await server.get(path, before=both[1]["id"]) == both[:1]
    assert (await server.http.get(path, params={"after": "message-1"})).status_code == 404
    (said,) = await server.get(f"/v1/steps/{spoken['id']}/messages")
    assert said["content"] == "Done."


async def test_a_return_that_came_in_a_later_run_belongs_to_the_step_that_called(
    tmp_path: Path,
) -> None:
    model = Scripted(calling("weather"), saying("Sunny."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        tools: dict[str, Any] = {"client_tools": [WEATHER], "streaming": False}
        answer = (await server.post(stream, **tools)).json()
        call = answer["messages"][0]["tool_call"]["tool_call_id"]
        returned = {"type": "tool", "tool_call_id": call, "tool_return": "22", "status": "success"}
        messages = [{"type": "tool_return", "tool_returns": [returned]}]
        path = f"/v1/conversations/{stream}/messages"
        await server.http.post(path, json={"messages": messages, **tools})
        first = (await server.get("/v1/steps/", order="asc"))[0]
        shown = await server.get(f"/v1/steps/{first['id']}/messages")
    assert [one["message_type"] for one in shown] == [
        "approval_request_message",
        "tool_return_message",
    ]
    assert shown[0]["run_id"] != shown[1]["run_id"]


async def test_a_step_tells_how_long_its_model_and_its_tools_took(
    server: Server, agent_id: str
) -> None:
    facts = await server.facts((await server.get("/v1/runs/", order="asc"))[0]["conversation_id"])
    step_ids = await ids(server, agent_id=agent_id, order="asc")
    failed, called, spoke = [await server.get(f"/v1/steps/{one}/metrics") for one in step_ids[:3]]
    started = [one for one in facts if isinstance(one.event, StepStarted)]
    assert [one["step_start_ns"] for one in (failed, called, spoke)] == [
        (one.at - EPOCH) // timedelta(microseconds=1) * 1000 for one in started
    ]
    assert failed["step_ns"] == failed["llm_request_ns"] > 0
    assert called["step_ns"] >= called["llm_request_ns"] + called["tool_execution_ns"] > 0
    assert (failed["tool_execution_ns"], spoke["tool_execution_ns"]) == (None, None)
    assert spoke["provider_id"] is None
    assert (await server.http.get(f"/v1/steps/{NOBODY}/metrics")).status_code == 404
