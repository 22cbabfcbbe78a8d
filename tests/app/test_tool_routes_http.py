"""Tools and MCP servers over HTTP: listed, attached, gated; what is the operator's is left to him."""

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests import mcp_lean
from tests.app.serving import Server, serving

SECRET = "s3cret"
NOWHERE = "tool-00000000-0000-4000-8000-000000000000"
pytestmark = pytest.mark.sqlite


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    """A server with one MCP server that is there and one that is not."""
    files = {
        "command": sys.executable,
        "args": [str(mcp_lean.__file__), str(tmp_path)],
        "env": {"KEY": SECRET},
        "requires_approval": ["slow"],
    }
    away = {
        "url": f"http://user:{SECRET}@127.0.0.1:9/mcp?key={SECRET}",
        "headers": {"Authorization": SECRET},
    }
    servers = json.dumps({"mcpServers": {"files": files, "away": away}})
    async with (
        asyncio.timeout(30),
        serving(tmp_path / "a.db", mcp_servers=servers) as running,
    ):
        await running.services.toolbox.settle(["files__slow", "away__x"])
        yield running


async def tools(server: Server, **query: Any) -> list[str]:
    return [one["name"] for one in await server.get("/v1/tools/", **query)]


async def by_name(server: Server, name: str) -> dict[str, Any]:
    (found,) = await server.get("/v1/tools/", name=name)
    return found


async def made(server: Server, **body: Any) -> dict[str, Any]:
    answer = await server.http.post("/v1/agents/", json={"model": "demo/echo", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def names_of(server: Server, agent_id: str) -> list[str]:
    found = await server.get(f"/v1/agents/{agent_id}/tools", order="asc")
    return [one["name"] for one in found]


# --- /v1/tools ------------------------------------------------------------------------------------


async def test_the_tools_there_are_can_be_listed_and_filtered(server: Server) -> None:
    everything = await tools(server, order="asc", limit=1000)
    assert everything[:2] == ["demo_count", "demo_wait"]
    assert everything[-3:] == ["files__slow", "files__look", "files__grow"]
    assert await tools(server, tool_types="external_mcp", order="asc") == everything[-3:]
    assert await tools(server, tool_types="external_mcp,custom", limit=1) == ["files__grow"]
    assert "files__slow" not in await tools(server, exclude_tool_types="external_mcp")
    assert await tools(server, search="LOOK") == ["files__look"]
    assert await tools(server, names=["demo_wait", "files__slow"]) == ["files__slow", "demo_wait"]
    assert not {*everything[-3:]} & {*await tools(server, return_only_letta_tools=True)}
    identity = (await by_name(server, "demo_wait"))["id"]
    assert await tools(server, tool_ids=identity) == ["demo_wait"]


async def test_pages_of_tools_end(server: Server) -> None:
    everything = await tools(server, limit=1000)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while page := await server.get("/v1/tools/", limit=2, **cursor):
        seen += [one["name"] for one in page]
        cursor = {"after": page[-1]["id"]}
    assert seen == everything
    assert (await server.http.get("/v1/tools/", params={"after": NOWHERE})).status_code == 404


async def test_a_tool_says_what_it_takes_and_where_it_is_from(server: Server) -> None:
    listed = await by_name(server, "files__slow")
    tool = await server.get(f"/v1/tools/{listed['id']}")
    assert tool == listed
    assert tool["json_schema"]["parameters"] == {"type": "object"}
    assert (tool["tool_type"], tool["tags"]) == ("external_mcp", ["mcp:files"])
    assert tool["default_requires_approval"] is True
    assert tool["source_code"] is None
    assert (await by_name(server, "conversation_search"))["tool_type"] == "letta_core"
    assert (await server.http.get(f"/v1/tools/{NOWHERE}")).status_code == 404
    assert (await server.http.get("/v1/tools/demo_wait")).status_code == 422


async def test_tools_are_found_by_their_words(server: Server) -> None:
    async def found(**body: Any) -> list[str]:
        answer = await server.http.post("/v1/tools/search", json=body)
        return [one["tool"]["name"] for one in answer.json()]

    assert (await found(query="demo count words"))[0] == "demo_count"
    assert await found(query="files", tags=["mcp:files"], limit=1) == ["files__slow"]
    assert await found(query="zebra") == []
    assert len(await found()) == len(await tools(server))
    vector = await server.http.post("/v1/tools/search", json={"search_mode": "vector"})
    assert vector.status_code == 501


async def test_code_is_not_taken_and_it_is_said_what_to_do_instead(server: Server) -> None:
    tool = f"/v1/tools/{(await by_name(server, 'demo_wait'))['id']}"
    body = {"source_code": "def f(): pass"}
    for method, path in (
        ("POST", "/v1/tools/"),
        ("PUT", "/v1/tools/"),
        ("PATCH", tool),
        ("DELETE", tool),
    ):
        answer = await server.http.request(method, path, json=body)
        assert answer.status_code == 501, (method, path)
        assert answer.json()["detail"].startswith("NOT_IMPLEMENTED: ")
        assert answer.headers["x-should-retry"] == "false"
    gone = await server.http.request("PATCH", f"/v1/tools/{NOWHERE}", json=body)
    assert gone.status_code == 404


# --- an agent's -----------------------------------------------------------------------------------


async def test_tools_are_attached_and_detached_by_id(server: Server) -> None:
    agent = await made(server)
    path = f"/v1/agents/{agent['id']}/tools"
    before = await names_of(server, agent["id"])
    slow, wait = await by_name(server, "files__slow"), await by_name(server, "demo_wait")
    for one in (slow, wait, slow):
        answer = await server.http.patch(f"{path}/attach/{one['id']}")
        assert answer.status_code == 200
    assert [one["name"] for one in answer.json()["tools"]] == [*before, "files__slow", "demo_wait"]
    assert answer.json()["tool_rules"] == [
        {"type": "requires_approval", "tool_name": "files__slow"}
    ]
    newer = {"x-stainless-package-version": "1.12.1"}
    answer = await server.http.patch(f"{path}/detach/{slow['id']}", headers=newer)
    assert (answer.status_code, answer.json()) == (200, None)
    assert await names_of(server, agent["id"]) == [*before, "demo_wait"]
    assert (await server.get(f"/v1/agents/{agent['id']}"))["tool_rules"] == []
    assert (await server.http.patch(f"{path}/detach/{slow['id']}")).status_code == 404
    assert (await server.http.patch(f"{path}/attach/{NOWHERE}")).status_code == 404


async def test_attaching_at_once_loses_none(server: Server) -> None:
    agent = await made(server, tools=[])
    before = await names_of(server, agent["id"])
    ids = [one["id"] for one in await server.get("/v1/tools/", tool_types="external_mcp")]
    path = f"/v1/agents/{agent['id']}/tools/attach"
    await asyncio.gather(*(server.http.patch(f"{path}/{one}") for one in ids))
    assert len(await names_of(server, agent["id"])) == len(before) + len(ids)


async def test_an_agent_is_given_tools_by_name_and_by_id(server: Server) -> None:
    look, wait = await by_name(server, "files__look"), await by_name(server, "demo_wait")
    agent = await made(server, tools=["demo_wait"], tool_ids=[look["id"], wait["id"]])
    assert {"demo_wait", "files__look"} <= {one["name"] for one in agent["tools"]}
    path = f"/v1/agents/{agent['id']}"
    changed = await server.http.patch(path, json={"tool_ids": [wait["id"]]})
    assert [one["name"] for one in changed.json()["tools"]] == ["demo_wait"]
    assert (await server.http.patch(path, json={"tool_ids": [NOWHERE]})).status_code == 404


async def test_a_tool_whose_server_is_away_stays_the_agents(server: Server) -> None:
    agent_id = await server.agent(tools=("away__x", "demo_wait"))
    path = f"/v1/agents/{agent_id}"
    shown = (await server.get(path))["tools"]
    assert [one["name"] for one in shown] == ["away__x", "demo_wait"]
    assert "not there now" in shown[0]["description"]
    ids = [one["id"] for one in shown]
    kept = await server.http.patch(path, json={"tool_ids": ids, "name": "new"})
    assert [one["name"] for one in kept.json()["tools"]] == ["away__x", "demo_wait"]
    gated = await server.http.patch(
        f"{path}/tools/approval/away__x", json={"requires_approval": True}
    )
    assert (gated.status_code, gated.json()) == (200, None)
    other = await server.http.patch(path, json={"tools": ["away__y"]})
    assert (other.status_code, other.headers["retry-after"]) == (503, "1")
    assert (await server.http.patch(f"{path}/tools/detach/{ids[0]}")).status_code == 200
    assert await names_of(server, agent_id) == ["demo_wait"]


async def test_whether_a_tool_needs_approval_may_be_said_in_either_place(server: Server) -> None:
    agent = await made(server, tools=["demo_wait"])
    path = f"/v1/agents/{agent['id']}/tools/approval/demo_wait"
    rule = {"type": "requires_approval", "tool_name": "demo_wait"}
    asked: Any = [
        ({"json": {"requires_approval": True}}, [rule]),
        ({"params": {"requires_approval": "false"}}, []),
    ]
    for sent, rules in asked:
        answer = await server.http.patch(path, **sent)
        assert (answer.status_code, answer.json()) == (200, None)
        assert (await server.get(f"/v1/agents/{agent['id']}"))["tool_rules"] == rules
    assert (await server.http.patch(path)).status_code == 422


async def test_an_agent_has_only_so_many_tools(server: Server) -> None:
    agent_id = await server.agent(tools=tuple(f"tool_{n}" for n in range(128)))
    wait = await by_name(server, "demo_wait")
    answer = await server.http.patch(f"/v1/agents/{agent_id}/tools/attach/{wait['id']}")
    assert answer.status_code == 409
    assert "128" in answer.json()["detail"]


async def test_a_tool_is_run_in_runs_only(server: Server) -> None:
    agent = await made(server, tools=["demo_wait"])
    path = f"/v1/agents/{agent['id']}/tools"
    assert (await server.http.post(f"{path}/demo_wait/run", json={})).status_code == 501
    assert (await server.http.post(f"{path}/nothing/run", json={})).status_code == 404


# --- MCP servers ----------------------------------------------------------------------------------


async def test_the_operators_servers_are_shown_without_what_is_secret(server: Server) -> None:
    answer = await server.http.get("/v1/mcp-servers/")
    assert SECRET not in answer.text
    files, away = answer.json()
    assert (files["server_name"], files["mcp_server_type"]) == ("files", "stdio")
    assert (files["command"], files["args"], files["connected"]) == (sys.executable, [], True)
    assert (away["server_url"], away["connected"]) == ("http://127.0.0.1:9/mcp", False)
    assert away["problem"] == "ConnectError"
    one = await server.get(f"/v1/mcp-servers/{files['id']}")
    assert one == files
    found = await server.get(f"/v1/mcp-servers/{files['id']}/tools")
    assert [tool["name"] for tool in found] == ["files__slow", "files__look", "files__grow"]
    tool = await server.get(f"/v1/mcp-servers/{files['id']}/tools/{found[0]['id']}")
    assert tool == found[0]


async def test_a_server_can_be_asked_what_is_new(server: Server) -> None:
    files, _ = await server.get("/v1/mcp-servers/")
    answer = await server.http.patch(f"/v1/mcp-servers/{files['id']}/refresh")
    assert answer.json() == {"added": [], "updated": [], "deleted": []}


async def test_a_server_that_is_away_is_said_to_be_when_it_is_asked_what_is_new(
    server: Server,
) -> None:
    _, away = await server.get("/v1/mcp-servers/")
    answer = await server.http.patch(f"/v1/mcp-servers/{away['id']}/refresh")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    assert answer.json()["detail"].startswith("The MCP server 'away' is away (")
    assert SECRET not in answer.text


async def test_servers_are_not_configured_over_http(server: Server) -> None:
    files, _ = await server.get("/v1/mcp-servers/")
    one = f"/v1/mcp-servers/{files['id']}"
    (tool, *_) = await server.get(f"{one}/tools")
    body: Any = {"server_name": "x", "config": {"command": "sh", "args": []}}
    for method, path in (
        ("POST", "/v1/mcp-servers/"),
        ("PATCH", one),
        ("DELETE", one),
        ("POST", f"{one}/tools/{tool['id']}/run"),
    ):
        answer = await server.http.request(method, path, json=body)
        assert answer.status_code == 501, (method, path)
    unknown = "/v1/mcp-servers/mcp_server-00000000-0000-4000-8000-000000000000"
    assert (await server.http.get(unknown)).status_code == 404


async def test_rules_and_tools_that_are_set_at_the_same_time_all_count(server: Server) -> None:
    agent_id = (await made(server, include_base_tools=False))["id"]
    bodies = [
        {"tool_rules": [{"type": "requires_approval", "tool_name": "conversation_search"}]},
        {"tools": ["files__slow", "conversation_search"]},
    ]
    path = f"/v1/agents/{agent_id}"
    first = [server.http.patch(path, json=body) for body in bodies]
    assert [one.status_code for one in await asyncio.gather(*first)] == [200, 200]
    rules = {one["tool_name"] for one in (await server.get(path))["tool_rules"]}
    assert rules == {"conversation_search", "files__slow"}
