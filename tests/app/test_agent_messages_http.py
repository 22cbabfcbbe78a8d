"""An agent's messages over all its conversations: one list, in the order in which they came."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest

from app.history import of_agents
from app.history.holders import Holders
from app.history.pages import Page, Placed
from app.mapper import revive
from domain.conversation import CancelRuns
from domain.run import ToolFinished
from tests.app.scripts import Gate, calling, saying
from tests.app.serving import Scripted, Server, serving
from tests.examples import REPLY_ID

Items = list[dict[str, Any]]
NO_AGENT: Final = "agent-00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with asyncio.timeout(90), serving(tmp_path / "a.db") as running:
        yield running


async def talk(server: Server, agent_id: str, *streams: str) -> None:
    """Say something in conversations in turn; `default` is the agent's own."""
    for number, stream in enumerate(streams):
        path = f"/v1/conversations/{stream}/messages"
        body = {"input": f"Message {number}.", "streaming": False, "agent_id": agent_id}
        answer = await server.http.post(path, json=body)
        assert answer.status_code == 200, answer.text


async def listed(server: Server, agent_id: str, **query: Any) -> Items:
    return await server.get(f"/v1/agents/{agent_id}/messages", **query)


async def walked(server: Server, agent_id: str, cursor: str, **query: Any) -> list[str]:
    """Walk through pages to the end; give the ids of all."""
    ids: list[str] = []
    while page := await listed(server, agent_id, **query):
        ids += [one["id"] for one in page]
        query[cursor] = page[-1]["id"] if cursor == "after" else page[0]["id"]
        if query.get("order", "desc") == "desc":
            query[cursor] = page[-1]["id"]
        assert len(ids) < 200
    return ids


def said(items: Items) -> list[Any]:
    return [one["content"] for one in items if one["message_type"] == "user_message"]


async def test_messages_of_all_conversations_are_one_list_by_time(server: Server) -> None:
    agent = await server.agent()
    one, two = [await server.conversation(agent) for _ in range(2)]
    await talk(server, agent, one, two, "default", one, "default", two, one)
    items = await listed(server, agent, order="asc")
    assert said(items) == [f"Message {number}." for number in range(7)]
    assert [one["message_type"] for one in items].count("system_message") == 3
    ids = [one["id"] for one in items]
    newest_first = [one["id"] for one in await listed(server, agent)]
    assert newest_first == ids[::-1]
    for limit in (1, 2, 3, 50):
        assert await walked(server, agent, "after", order="asc", limit=limit) == ids
        assert await walked(server, agent, "after", limit=limit) == ids[::-1]
        assert await walked(server, agent, "before", limit=limit) == ids[::-1]
    before = await listed(server, agent, order="asc", before=ids[6], limit=3)
    assert [one["id"] for one in before] == ids[3:6]


async def test_a_page_lies_between_two_cursors(server: Server) -> None:
    agent = await server.agent()
    one, two = [await server.conversation(agent) for _ in range(2)]
    await talk(server, agent, one, two, one, two)
    ids = [one["id"] for one in await listed(server, agent, order="asc")]
    for order in ("asc", "desc"):
        page = await listed(server, agent, after=ids[2], before=ids[7], order=order)
        assert sorted(one["id"] for one in page) == sorted(ids[3:7])


async def test_the_list_is_of_one_conversation_if_asked(server: Server) -> None:
    agent = await server.agent()
    other = await server.conversation()
    one = await server.conversation(agent)
    await talk(server, agent, one, "default", one)
    mine = await listed(server, agent, conversation_id=one, order="asc")
    assert mine == await server.get(f"/v1/conversations/{one}/messages", order="asc")
    own = await listed(server, agent, conversation_id="default")
    assert said(own) == ["Message 1."]
    path = f"/v1/agents/{agent}/messages"
    for query in ({"conversation_id": other}, {"after": REPLY_ID}, {"before": REPLY_ID}):
        assert (await server.http.get(path, params=query)).status_code == 404
    strange = await listed(server, await server.agent(), conversation_id="default")
    assert [one["message_type"] for one in strange] == ["system_message"]
    assert (await server.http.get(f"/v1/agents/{NO_AGENT}/messages")).status_code == 404


async def test_messages_are_of_the_types_asked_for(server: Server) -> None:
    agent = await server.agent()
    await talk(server, agent, await server.conversation(agent), "default")
    types = ["user_message"]
    found = await listed(server, agent, include_return_message_types=types)
    assert said(found) == ["Message 1.", "Message 0."]
    assert len(found) == 2


async def test_a_fresh_agent_and_a_deleted_conversation_show_what_is_left(server: Server) -> None:
    agent = await server.agent()
    (prompt,) = await listed(server, agent)
    assert [prompt["id"]] == (await server.get(f"/v1/agents/{agent}"))["message_ids"]
    one, two = [await server.conversation(agent) for _ in range(2)]
    await talk(server, agent, one, two)
    await server.http.delete(f"/v1/conversations/{one}")
    assert said(await listed(server, agent)) == ["Message 1."]
    assert await listed(server, agent, limit=0) == []


async def test_many_conversations_are_opened_as_the_list_comes_to_them(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_agents, "STREAMS_AT_ONCE", 3)
    agent = await server.agent()
    streams = [await server.conversation(agent) for _ in range(8)]
    await talk(server, agent, *streams)
    items = await listed(server, agent, order="asc")
    assert said(items) == [f"Message {number}." for number in range(8)]
    opened: list[str] = []
    page_of = Holders.page

    def noted(self: Holders, stream: str, page: Page) -> Placed:
        opened.append(stream)
        return page_of(self, stream, page)

    monkeypatch.setattr(Holders, "page", noted)
    newest = await listed(server, agent, limit=4)
    assert said(newest) == ["Message 7.", "Message 6."]
    assert opened == [streams[7], streams[6]]


async def test_what_is_said_while_a_run_is_under_way_or_long_over_is_in_its_place(
    tmp_path: Path,
) -> None:
    gate = Gate("Well")
    script = Scripted(gate, calling("look"), saying("Hi."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", script) as server:
        agent = await server.agent("script/x")
        slow, quick = [await server.conversation(agent) for _ in range(2)]
        waiting = asyncio.create_task(talk(server, agent, slow))
        await gate.begun.wait()
        path = f"/v1/conversations/{quick}/messages"
        body = {"input": "Look!", "streaming": False, "client_tools": [{"name": "look"}]}
        await server.http.post(path, json=body)
        gate.opened.set()
        await waiting
        (newest,) = await listed(server, agent, limit=1)
        assert newest["message_type"] == "approval_request_message"
        await talk(server, agent, slow)
        await server.services.execute(quick, CancelRuns(), "user")
        rows = await server.services.log.read(quick)
        denied = [one for row in rows if isinstance(one := revive(row).event, ToolFinished)]
        (newest,) = await listed(server, agent, limit=1)
        assert newest["id"] == denied[0].message_id
