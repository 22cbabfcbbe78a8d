"""Runs that call tools of MCP servers: allowed, cancelled, interrupted by a crash, on two nodes."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from domain.content import Image
from domain.run import RunFinished, ToolFinished, ToolStarted
from tests import mcp_lean
from tests.app.scripts import calling, saying, told
from tests.app.serving import Scripted, Server, serving
from tests.databases import raw
from tests.mcp_server import on_loopback

GUARD_S = 30
sqlite = pytest.mark.sqlite


def lean(tmp_path: Path, **more: Any) -> str:
    args = [str(mcp_lean.__file__), str(tmp_path)]
    return json.dumps({"mcpServers": {"x": {"command": sys.executable, "args": args, **more}}})


def of(facts: list[Any], kind: type[Any]) -> list[Any]:
    return [one for one in facts if isinstance(one, kind)]


def slowly(seconds: float, tool: str = "slow") -> Any:
    return calling(f"x__{tool}", arguments=json.dumps({"seconds": seconds}))


async def begun(server: Server, *tools: str) -> tuple[str, asyncio.Task[Any]]:
    """Begin a run whose model calls a tool; come back when the tool is under way."""
    stream = await server.conversation(await server.agent("script/x", tools=tools))
    post = asyncio.create_task(server.post(stream, "Use it.", streaming=False))
    await server.until_there_is(stream, ToolStarted)
    return stream, post


@sqlite
async def test_a_tool_of_a_server_is_offered_and_called(tmp_path: Path) -> None:
    model = Scripted(calling("web__picture"), saying("A dot."))
    async with asyncio.timeout(GUARD_S), on_loopback(tmp_path) as url:
        servers = json.dumps({"mcpServers": {"web": {"url": url}}})
        async with serving(tmp_path / "a.db", model, mcp_servers=servers) as server:
            names = ("web__picture", "web__count", "demo_count", "web__none", "gone__tool")
            stream = await server.conversation(await server.agent("script/x", tools=names))
            answer = await server.post(stream, "Draw.", streaming=False)
            facts = await server.events(stream)
    offered = [tool.name for tool in model.requests[0].tools]
    assert offered == ["web__picture", "web__count", "demo_count"]
    (done,) = of(facts, ToolFinished)
    assert done.status == "ok"
    assert [type(part) for part in done.content][-1] is Image
    assert answer.json()["messages"][1]["status"] == "success"
    assert answer.json()["messages"][-1]["content"] == "A dot."


@sqlite
async def test_a_server_that_is_away_is_told_to_the_model(tmp_path: Path) -> None:
    model = Scripted(slowly(0), saying("Pity."))
    servers = json.dumps({"mcpServers": {"x": {"command": "/nowhere/mcp"}}})
    async with (
        asyncio.timeout(GUARD_S),
        serving(tmp_path / "a.db", model, mcp_servers=servers) as server,
    ):
        agent_id = await server.agent("script/x", tools=("x__slow", "demo_count"))
        stream = await server.conversation(agent_id)
        answer = (await server.post(stream, streaming=False)).json()
    assert "There is no tool 'x__slow'" in answer["messages"][1]["tool_return"]
    assert answer["messages"][-1]["content"] == "Pity."


@sqlite
async def test_the_operators_approval_is_asked_for_unless_the_agent_says_else(
    tmp_path: Path,
) -> None:
    model = Scripted(slowly(0), saying("Done."))
    servers = lean(tmp_path, requires_approval=["slow"])
    async with (
        asyncio.timeout(GUARD_S),
        serving(tmp_path / "a.db", model, mcp_servers=servers) as server,
    ):
        await server.services.toolbox.settle(["x__slow"])
        body = {"model": "script/x", "tools": ["x__slow", "x__look"]}
        agent = (await server.http.post("/v1/agents/", json=body)).json()
        assert agent["tool_rules"] == [{"type": "requires_approval", "tool_name": "x__slow"}]
        stream = await server.conversation(agent["id"])
        asked = (await server.post(stream, streaming=False)).json()
        assert asked["stop_reason"]["stop_reason"] == "requires_approval"
        word = {"type": "approval", "tool_call_id": "call-0", "approve": True}
        path = f"/v1/conversations/{stream}/messages"
        yes = {"messages": [{"type": "approval", "approvals": [word]}], "streaming": False}
        answer = (await server.http.post(path, json=yes)).json()
    assert answer["messages"][0]["tool_return"] == "After 0 s."
    assert answer["messages"][-1]["content"] == "Done."


@sqlite
async def test_a_cancelled_run_stops_its_call_at_the_server(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        serving(tmp_path / "a.db", Scripted(slowly(20)), mcp_servers=lean(tmp_path)) as server,
    ):
        stream, post = await begun(server, "x__slow")
        while not (tmp_path / "slow").exists():
            await asyncio.sleep(0.01)
        await server.http.post(f"/v1/conversations/{stream}/cancel")
        await post
        while not (tmp_path / "cancelled").exists():
            await asyncio.sleep(0.01)
        facts = await server.events(stream)
    assert of(facts, ToolFinished)[0].status == "cancelled"
    assert of(facts, RunFinished)[0].status == "cancelled"


@sqlite
@pytest.mark.parametrize(("tool", "status"), [("slow", "unknown"), ("look", "ok")])
async def test_after_a_crash_a_call_is_made_again_only_if_the_server_calls_it_idempotent(
    tmp_path: Path, tool: str, status: str
) -> None:
    servers = lean(tmp_path)
    async with (
        asyncio.timeout(GUARD_S),
        serving(tmp_path / "a.db", Scripted(slowly(1, tool)), mcp_servers=servers) as server,
    ):
        stream, post = await begun(server, f"x__{tool}")
        await server.kill()
        await asyncio.wait([post])
    model = Scripted(saying("On."))
    async with (
        asyncio.timeout(GUARD_S),
        serving(tmp_path / "a.db", model, mcp_servers=servers) as server,
    ):
        await server.until_there_is(stream, RunFinished)
        (done,) = of(await server.events(stream), ToolFinished)
    assert done.status == status
    assert told(model.requests[0])[-1][1].startswith(f"{status}: ")


async def test_another_node_makes_the_call_again_through_its_own_connection(
    tmp_path: Path, engine: str
) -> None:
    if engine == "sqlite":
        pytest.skip("a file is served by one node")
    servers, path = lean(tmp_path), tmp_path / "a.db"
    async with asyncio.timeout(GUARD_S):
        async with serving(
            path, Scripted(slowly(1, "look")), node="node-1", mcp_servers=servers
        ) as one:
            stream, post = await begun(one, "x__look")
            await one.kill()
            await asyncio.wait([post])
        with raw(path) as database:
            database.execute("UPDATE leases SET expires_at = 0")
        model = Scripted(saying("On."))
        async with serving(path, model, node="node-2", mcp_servers=servers) as other:
            await other.until_there_is(stream, RunFinished)
            facts = await other.events(stream)
    assert [one.epoch for one in of(facts, ToolStarted)] == [1, 2]
    assert of(facts, ToolFinished)[0].content == "After 1 s."
