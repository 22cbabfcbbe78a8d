"""Tools that the client runs or allows: asked for, answered, and gone on with."""

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.providers import ModelError
from domain.conversation import MessageQueued
from domain.run import RunFinished, RunQueued, ToolFinished, ToolStarted
from projections.turns import ModelRequest
from tests.app.scripts import calling, failing, saying, told
from tests.app.serving import Said, Scripted, Server, frames_of, kinds_of, serving

WEATHER = {"name": "weather", "parameters": {"type": "object"}}
TOOLS = {"client_tools": [WEATHER, {"name": "map"}]}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    """A server whose model calls `weather`, then speaks."""
    model = Scripted(calling("weather", words="Let me see."), saying("Sunny."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        yield server


async def send(server: Server, stream: str, **body: Any) -> httpx2.Response:
    return await server.http.post(f"/v1/conversations/{stream}/messages", json=body)


async def asked(server: Server, **more: Any) -> str:
    """Begin a conversation whose model has called a tool of the client's."""
    stream = await server.conversation(model="script/x")
    answer = await send(server, stream, input="Weather?", **{**TOOLS, **more})
    assert '"requires_approval"' in answer.text
    return stream


def returned(*answers: tuple[str, str], **more: Any) -> dict[str, Any]:
    returns = [
        {"type": "tool", "tool_call_id": one, "tool_return": said, "status": "success"}
        for one, said in answers
    ]
    return {"messages": [{"type": "tool_return", "tool_returns": returns, **more}], **TOOLS}


def judged(*answers: tuple[str, bool], **more: Any) -> dict[str, Any]:
    words = [
        {"type": "approval", "tool_call_id": one, "approve": yes, **more} for one, yes in answers
    ]
    return {"messages": [{"type": "approval", "approvals": words}]}


async def listed(server: Server, stream: str) -> list[dict[str, Any]]:
    return await server.get(f"/v1/conversations/{stream}/messages", order="asc")


@pytest.mark.parametrize("stream_tokens", [True, False], ids=["tokens", "whole"])
async def test_a_stream_asks_once_for_the_call_and_ends(
    server: Server, stream_tokens: bool
) -> None:
    stream = await server.conversation(model="script/x")
    answer = await send(server, stream, input="Hm?", stream_tokens=stream_tokens, **TOOLS)
    frames = frames_of(answer.text)
    assert kinds_of(frames) == [
        "ping",
        "assistant_message",
        "approval_request_message",
        "stop_reason",
        "usage_statistics",
    ]
    request = frames[-3]
    call = {"name": "weather", "arguments": "{}", "tool_call_id": "call-0"}
    assert (request["tool_call"], request["tool_calls"]) == (call, [call])
    assert request["otid"] == request["id"]
    (run,) = await server.get("/v1/runs/", conversation_id=stream)
    assert (run["status"], run["stop_reason"]) == ("completed", "requires_approval")


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_an_answer_goes_on_with_the_turn_and_begins_with_the_return(
    server: Server, streaming: bool
) -> None:
    stream = await asked(server)
    answer = await send(server, stream, streaming=streaming, **returned(("call-0", "hot")))
    frames = frames_of(answer.text)[1:-2] if streaming else answer.json()["messages"]
    assert kinds_of(frames) == ["tool_return_message", "assistant_message"]
    assert (frames[0]["tool_return"], frames[0]["status"]) == ("hot", "success")
    history = await listed(server, stream)
    assert [one["message_type"] for one in history] == [
        "system_message",
        "user_message",
        "assistant_message",
        "approval_request_message",
        "approval_response_message",
        "tool_return_message",
        "assistant_message",
    ]
    assert history[5]["step_id"] == history[3]["step_id"]
    assert history[5]["run_id"] != history[3]["run_id"]


async def test_the_model_is_told_what_the_tool_returned(tmp_path: Path) -> None:
    model = Scripted(calling("weather"), saying("Sunny."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await asked(server)
        more = {"role": "user", "content": "And tomorrow?"}
        body = returned(("call-0", "hot"))
        await send(server, stream, **{**body, "messages": [*body["messages"], more]})
    assert [tool.name for tool in model.requests[0].tools] == ["weather", "map"]
    assert model.requests[1].tools == model.requests[0].tools
    assert told(model.requests[1]) == [
        ("user", "Weather?"),
        ("assistant", "weather({})"),
        ("user", "ok: hot|And tomorrow?"),
    ]


async def test_an_equal_list_of_tools_is_stored_once(server: Server) -> None:
    stream = await asked(server)
    await send(server, stream, **returned(("call-0", "hot")))
    first, second = [one for one in await server.events(stream) if isinstance(one, RunQueued)]
    assert first.tools is not None
    assert second.tools is None
    facts = await server.facts(stream)
    assert facts[(second.tools_at or 0) - 1].event == first


async def test_a_denial_tells_the_model_why(tmp_path: Path) -> None:
    model = Scripted(calling("weather"), saying("Pity."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await asked(server)
        await send(server, stream, **judged(("call-0", False), reason="too dear"))
        history = await listed(server, stream)
    assert history[-2]["status"] == "error"
    assert "denied" in history[-2]["tool_return"]
    assert "too dear" in told(model.requests[1])[-1][1]


async def test_parallel_calls_are_asked_for_and_answered_together(tmp_path: Path) -> None:
    model = Scripted(calling("weather", "demo_count", "map"), saying("Done."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        agent = await server.agent("script/x", tools=("demo_count",))
        stream = await server.conversation(agent)
        frames = frames_of((await send(server, stream, input="All!", **TOOLS)).text)
        facts = await server.events(stream)
        assert not [one for one in facts if isinstance(one, ToolStarted)]
        request = next(one for one in frames if one["message_type"] == "approval_request_message")
        some = await send(server, stream, streaming=False, **returned(("call-0", "hot")))
        answer = await send(
            server, stream, streaming=False, **returned(("call-2", "here"), ("call-0", "hot"))
        )
    assert [one["tool_call_id"] for one in request["tool_calls"]] == ["call-0", "call-2"]
    assert some.status_code == 400
    assert "Expected '['call-0', 'call-2']', but received '['call-0']'" in some.json()["detail"]
    kinds = [one["message_type"] for one in answer.json()["messages"]]
    assert kinds == ["tool_return_message"] * 3 + ["assistant_message"]
    # The model is told in the order of its calls, whoever was first.
    error = "error: text: a string is needed"
    assert told(model.requests[1])[-1] == ("user", f"ok: hot|{error}|ok: here")


async def test_any_other_message_has_to_wait(server: Server) -> None:
    stream = await asked(server)
    before = await server.events(stream)
    document = await send(server, stream, input="Hello?", streaming=False)
    frames = await send(server, stream, input="Hello?")
    assert document.status_code == 409
    text = document.json()["detail"]
    assert text.startswith("CONFLICT: Cannot send a new message: The agent is waiting")
    assert frames.status_code == 200
    stop, error = frames_of(frames.text)
    assert stop["stop_reason"] == "error"
    assert (error["error_type"], error["message"]) == ("internal_error", text)
    assert await server.events(stream) == before


@pytest.mark.parametrize("on_busy", ["interrupt", "rollback"])
async def test_an_interruption_need_not_wait(server: Server, on_busy: str) -> None:
    stream = await asked(server)
    answer = await send(server, stream, input="Never mind.", on_busy=on_busy, streaming=False)
    assert answer.json()["messages"][0]["content"] == "Sunny."
    history = await listed(server, stream)
    shown = [one.get("content") for one in history]
    assert ("Weather?" in shown) is (on_busy == "interrupt")
    assert [
        one["tool_return"] for one in history if one["message_type"] == "tool_return_message"
    ] == (
        ["The user cancelled the request, so the tool call was denied."]
        if on_busy == "interrupt"
        else []
    )


@pytest.mark.parametrize("otid", [{}, {"otid": "o-1"}], ids=["no otid", "same otid"])
async def test_the_same_answer_again_is_the_same_run(server: Server, otid: dict[str, str]) -> None:
    stream = await asked(server)
    first = await send(server, stream, **returned(("call-0", "hot"), **otid))
    again = await send(server, stream, **returned(("call-0", "hot"), **otid))
    assert again.text == first.text
    runs = [one for one in await server.events(stream) if isinstance(one, RunQueued)]
    assert len(runs) == 2


async def test_the_same_answer_goes_on_where_its_run_had_failed(tmp_path: Path) -> None:
    (broken,) = failing(ModelError("llm_authentication", "no"))
    model = Scripted(calling("weather"), broken, saying("Sunny."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await asked(server)
        failed = await send(server, stream, streaming=False, **returned(("call-0", "hot")))
        again = await send(server, stream, streaming=False, **returned(("call-0", "hot")))
        facts = await server.events(stream)
    assert failed.status_code == 401
    assert again.json()["messages"][-1]["content"] == "Sunny."
    assert len([one for one in facts if isinstance(one, ToolFinished)]) == 1
    assert told(model.requests[2]) == told(model.requests[1])


async def test_an_answer_to_nothing_is_refused(server: Server) -> None:
    stream = await server.conversation(model="script/x")
    document = await send(server, stream, streaming=False, **returned(("call-0", "hot")))
    assert document.status_code == 400
    assert "No tool call is currently awaiting approval" in document.json()["detail"]
    frames = frames_of((await send(server, stream, **returned(("call-0", "hot")))).text)
    assert [one["message_type"] for one in frames] == ["stop_reason", "error_message"]
    assert len(await server.events(stream)) == 1


async def test_an_older_form_names_the_message_and_one_call_is_meant(server: Server) -> None:
    stream = await asked(server)
    request = (await listed(server, stream))[-1]
    old = {"approve": False, "approval_request_id": request["id"], "reason": "no"}
    answer = await send(server, stream, messages=[old], streaming=False)
    assert answer.json()["messages"][0]["tool_call_id"] == "call-0"


async def test_approving_a_tool_of_one_s_own_is_refused(server: Server) -> None:
    stream = await asked(server)
    answer = await send(server, stream, **judged(("call-0", True)), **TOOLS, streaming=False)
    assert answer.status_code == 400
    assert "weather is the client's own tool" in answer.json()["detail"]


async def test_the_server_runs_its_tool_once_it_may(tmp_path: Path) -> None:
    model = Scripted(calling("demo_count", arguments='{"text": "a b"}'), saying("Two."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        agent = await server.agent("script/x", tools=("demo_count",))
        path = f"/v1/agents/{agent}/tools/approval/demo_count"
        answer = await server.http.patch(path, json={"requires_approval": True})
        assert answer.json() is None
        stream = await server.conversation(agent)
        asked = await send(server, stream, input="Count!", streaming=False)
        assert asked.json()["stop_reason"]["stop_reason"] == "requires_approval"
        done = await send(server, stream, **judged(("call-0", True)), streaming=False)
        facts = await server.events(stream)
        await server.http.patch(path, json={"requires_approval": False})
        shown = await server.get(f"/v1/agents/{agent}", include="agent.tools")
    assert [one["message_type"] for one in done.json()["messages"]] == [
        "tool_return_message",
        "assistant_message",
    ]
    assert done.json()["messages"][0]["tool_return"] == "2"
    names = [type(one) for one in facts if isinstance(one, ToolStarted | ToolFinished)]
    assert names == [ToolStarted, ToolFinished]
    assert [one["name"] for one in shown["tools"]] == ["demo_count"]
    assert shown["tool_rules"] == []


async def test_what_waits_behind_an_approval_goes_on_after_it(tmp_path: Path) -> None:
    both_are_queued = asyncio.Event()

    async def calling_then(request: ModelRequest) -> Said:
        await both_are_queued.wait()
        async for said in calling("weather")(request):
            yield said

    model = Scripted(calling_then, saying("Sunny."), saying("Next."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(send(server, stream, input="Weather?", **TOOLS))
        await server.until_there_is(stream, RunQueued)
        second = asyncio.create_task(
            send(server, stream, input="Then?", streaming=False, on_busy="enqueue")
        )
        await server.until_there_is(stream, MessageQueued)
        both_are_queued.set()
        await first
        await server.until_there_is(stream, RunFinished)
        if (await server.services.execute.conversation(stream)).asked is None:
            pytest.fail("the call does not wait")
        await send(server, stream, **returned(("call-0", "hot")))
        answer = await second
    assert json.loads(answer.text)["messages"][0]["content"] == "Next."


async def test_a_return_may_hold_pictures_and_what_was_printed(server: Server) -> None:
    stream = await asked(server)
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    body = returned(("call-0", "x"))
    body["messages"][0]["tool_returns"][0] |= {
        "tool_return": [{"type": "text", "text": "Look: "}, picture],
        "stdout": ["one"],
        "stderr": ["two"],
    }
    await send(server, stream, **body)
    message = (await listed(server, stream))[-2]
    assert message["tool_return"][1]["source"]["url"] == "https://example.org/a.png"
    assert (message["stdout"], message["stderr"]) == (["one"], ["two"])
