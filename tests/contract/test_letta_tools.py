"""letta-client 1.12.1, unchanged: tools, an agent's tools, approval, MCP servers."""

from collections.abc import Generator
from typing import Any

import letta_client
import pytest
from letta_client import Letta


@pytest.fixture
def agent_id(client: Letta) -> Generator[str]:
    made = client.agents.create(name="handy", model="demo/echo", tools=["demo_count"])
    yield made.id
    client.agents.delete(made.id)


def names_of(client: Letta, agent_id: str) -> list[str | None]:
    return [tool.name for tool in client.agents.tools.list(agent_id, order="asc")]


def test_tools_are_listed_page_by_page_retrieved_and_searched(client: Letta) -> None:
    everything = [tool.name for tool in client.tools.list(limit=2)]
    assert len(set(everything)) == len(everything) > 2
    (found,) = client.tools.list(names=["demo_wait"]).items
    assert client.tools.retrieve(found.id) == found
    assert (found.json_schema or {})["name"] == "demo_wait"
    best: Any = client.tools.search(query="count words")[0]
    assert best.tool.name == "demo_count"


def test_tools_are_attached_detached_and_gated(client: Letta, agent_id: str) -> None:
    before = names_of(client, agent_id)
    (wait,) = client.tools.list(name="demo_wait").items
    assert client.agents.tools.attach(wait.id, agent_id=agent_id) is None
    assert names_of(client, agent_id) == [*before, "demo_wait"]
    tools = client.agents.tools
    assert (
        tools.update_approval("demo_wait", agent_id=agent_id, body_requires_approval=True) is None
    )
    state = client.agents.retrieve(agent_id, include=["agent.tools"])
    assert [tool.name for tool in state.tools] == [*before, "demo_wait"]
    rules: Any = state.tool_rules
    assert [(rule.type, rule.tool_name) for rule in rules] == [("requires_approval", "demo_wait")]
    assert client.agents.tools.detach(wait.id, agent_id=agent_id) is None
    assert names_of(client, agent_id) == before


def test_an_agent_is_made_with_tools_by_id(client: Letta) -> None:
    (wait,) = client.tools.list(name="demo_wait").items
    made = client.agents.create(model="demo/echo", tool_ids=[wait.id])
    assert "demo_wait" in [tool.name for tool in made.tools]
    client.agents.delete(made.id)


def test_code_and_servers_are_not_taken(client: Letta, agent_id: str) -> None:
    stdio: Any = {"command": "true", "args": []}
    for refused in (
        lambda: client.tools.create(source_code="def f(): ..."),
        lambda: client.tools.upsert(source_code="def f(): ..."),
        lambda: client.mcp_servers.create(server_name="x", config=stdio),
        lambda: client.agents.tools.run("demo_count", agent_id=agent_id),
    ):
        with pytest.raises(letta_client.InternalServerError) as error:
            refused()
        assert error.value.status_code == 501


def test_the_operators_mcp_servers_are_listed_with_their_tools(client: Letta) -> None:
    (server,) = client.mcp_servers.list()
    assert (server.server_name, server.mcp_server_type) == ("lean", "stdio")
    assert server.id is not None
    assert client.mcp_servers.retrieve(server.id).server_name == "lean"
    client.mcp_servers.refresh(server.id)
    tools = client.mcp_servers.tools.list(server.id)
    assert [tool.name for tool in tools] == ["lean__slow", "lean__look", "lean__grow"]
    one = client.mcp_servers.tools.retrieve(tools[0].id, mcp_server_id=server.id)
    assert (one.name, one.tool_type) == ("lean__slow", "external_mcp")


def test_a_call_of_an_mcp_tool_is_carried_out_in_a_turn(client: Letta) -> None:
    (slow,) = client.tools.list(name="lean__slow").items
    made = client.agents.create(model="demo/echo", tool_ids=[slow.id])
    answer: Any = client.agents.messages.create(
        made.id, messages=[{"role": "user", "content": 'call lean__slow {"seconds": 0}'}]
    )
    (done,) = [one for one in answer.messages if one.message_type == "tool_return_message"]
    assert (done.tool_return, done.status) == ("After 0 s.", "success")
    client.agents.delete(made.id)
