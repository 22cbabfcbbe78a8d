"""Messages that a fork inherited, once their own conversation is deleted: there in every list, once."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import Server, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with asyncio.timeout(60), serving(tmp_path / "a.db") as running:
        yield running


@dataclass(frozen=True)
class Orphaned:
    """A fork whose parent is deleted: what it inherited, and what came too late for it."""

    agent_id: str
    parent: str
    fork: str
    inherited: list[dict[str, Any]]
    later: list[dict[str, Any]]


async def fork(server: Server, stream: str, **query: Any) -> str:
    answer = await server.http.post(f"/v1/conversations/{stream}/fork", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def delete(server: Server, stream: str) -> None:
    assert (await server.http.delete(f"/v1/conversations/{stream}")).status_code == 200


async def listed(server: Server, path: str, **query: Any) -> list[dict[str, Any]]:
    return await server.get(path, order="asc", **query)


async def search(server: Server, word: str, **where: str) -> list[dict[str, Any]]:
    body = {"query": f'"{word}"', "roles": ["user"], **where}
    answer = await server.http.post("/v1/messages/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def said(items: list[dict[str, Any]]) -> list[Any]:
    return [one["content"] for one in items if one["message_type"] == "user_message"]


async def begun(server: Server) -> tuple[str, str]:
    """Have an agent and a conversation in which something was said; give both."""
    agent_id = await server.agent()
    stream = await server.conversation(agent_id)
    await server.post(stream, "A lantern.")
    return agent_id, stream


async def orphaned(server: Server) -> Orphaned:
    agent_id, parent = await begun(server)
    before = await listed(server, f"/v1/conversations/{parent}/messages")
    fork_id = await fork(server, parent)
    await server.post(parent, "A candle.")
    items = await listed(server, f"/v1/conversations/{parent}/messages")
    await server.post(fork_id, "A torch.")
    await delete(server, parent)
    return Orphaned(agent_id, parent, fork_id, before[1:], [items[0], *items[len(before) :]])


# --- each route -------------------------------------------------------------------------------


async def test_a_message_that_a_fork_inherited_is_found_by_its_id(server: Server) -> None:
    case = await orphaned(server)
    assert len(case.inherited) == 2
    for one in case.inherited:
        assert await server.get(f"/v1/messages/{one['id']}") == [one]
    for one in case.later:
        assert (await server.http.get(f"/v1/messages/{one['id']}")).status_code == 404


async def test_the_list_of_all_messages_has_what_a_fork_inherited(server: Server) -> None:
    case = await orphaned(server)
    shown = await listed(server, "/v1/messages/")
    assert shown[:2] == case.inherited
    assert said(shown) == ["A lantern.", "A torch."]
    assert said(await server.get("/v1/messages/", limit=4)) == ["A torch."]
    older = await server.get("/v1/messages/", after=case.inherited[1]["id"])
    assert older == case.inherited[:1]


async def test_an_agents_messages_have_what_a_fork_inherited(server: Server) -> None:
    case = await orphaned(server)
    path = f"/v1/agents/{case.agent_id}/messages"
    shown = await listed(server, path)
    assert shown[:2] == case.inherited
    assert said(shown) == ["A lantern.", "A torch."]
    assert await server.get(path) == shown[::-1]
    assert await server.get(path, before=case.inherited[1]["id"]) == case.inherited[:1]
    assert await listed(server, path, after=case.inherited[0]["id"], limit=1) == shown[1:2]


async def test_a_search_finds_what_a_fork_inherited_and_says_that_the_fork_has_it(
    server: Server,
) -> None:
    case = await orphaned(server)
    (asked, _) = case.inherited
    for where in ({}, {"agent_id": case.agent_id}, {"conversation_id": case.fork}):
        (hit,) = await search(server, "lantern", **where)
        assert (hit["message_id"], hit["content"]) == (asked["id"], "A lantern.")
        assert (hit["conversation_id"], hit["stream"]) == (case.fork, case.parent)
        (row,) = await server.services.log.query(
            "SELECT version FROM locators WHERE id = ?", (asked["id"],)
        )
        assert hit["offset"] == row["version"]
        assert await search(server, "candle", **where) == []
        (own,) = await search(server, "torch", **where)
        assert (own["conversation_id"], "stream" in own) == (case.fork, False)


async def test_runs_and_steps_go_with_their_conversation_and_the_forks_own_stay(
    server: Server,
) -> None:
    case = await orphaned(server)
    (_, reply) = case.inherited
    own = (await server.get(f"/v1/conversations/{case.fork}/messages"))[0]
    for one, status in ((reply, 404), (own, 200)):
        for path in (
            f"/v1/runs/{one['run_id']}",
            f"/v1/runs/{one['run_id']}/messages",
            f"/v1/steps/{one['step_id']}",
            f"/v1/steps/{one['step_id']}/messages",
        ):
            assert (await server.http.get(path)).status_code == status, path
    runs = await server.get("/v1/runs/", agent_id=case.agent_id)
    assert [one["id"] for one in runs] == [own["run_id"]]
    steps = await server.get("/v1/steps/", agent_id=case.agent_id)
    assert [one["id"] for one in steps] == [own["step_id"]]


# --- whose they are ---------------------------------------------------------------------------


async def test_what_is_inherited_is_its_own_conversations_as_long_as_that_lives(
    server: Server,
) -> None:
    agent_id, parent = await begun(server)
    await fork(server, parent)
    assert said(await server.get("/v1/messages/")) == ["A lantern."]
    assert said(await server.get(f"/v1/agents/{agent_id}/messages")) == ["A lantern."]
    (hit,) = await search(server, "lantern")
    assert (hit["conversation_id"], "stream" in hit) == (parent, False)


async def test_a_fork_of_a_fork_has_it_last_and_then_it_is_gone(server: Server) -> None:
    agent_id, first = await begun(server)
    second = await fork(server, first)
    await server.post(second, "A candle.")
    third = await fork(server, second)
    (asked,) = await search(server, "lantern")
    for gone, holder in ((second, first), (first, third)):
        await delete(server, gone)
        (hit,) = await search(server, "lantern")
        assert (hit["conversation_id"], hit["message_id"]) == (holder, asked["message_id"])
        listing = await server.get(f"/v1/agents/{agent_id}/messages")
        assert said(listing) == ["A candle.", "A lantern."]
    await delete(server, third)
    assert (await server.http.get(f"/v1/messages/{asked['message_id']}")).status_code == 404
    assert await server.get("/v1/messages/") == []
    assert await search(server, "lantern") == []


async def test_of_several_forks_the_one_that_has_most_shows_it_all(server: Server) -> None:
    _, parent = await begun(server)
    short = await fork(server, parent)
    await server.post(parent, "A candle.")
    long, also = await fork(server, parent), await fork(server, parent, hidden=True)
    await delete(server, parent)
    for word in ("lantern", "candle"):
        (hit,) = await search(server, word)
        assert hit["conversation_id"] == long
    await delete(server, long)
    (hit,) = await search(server, "lantern")
    assert hit["conversation_id"] == short
    # A hidden conversation is in no list, but what it has is there for who knows its id.
    assert await search(server, "candle") == []
    (told,) = await search(server, "candle", conversation_id=also)
    assert said(await server.get(f"/v1/messages/{told['message_id']}")) == ["A candle."]
    assert said(await server.get("/v1/messages/")) == ["A lantern."]


async def test_what_was_forgotten_where_it_was_said_is_still_in_the_fork(server: Server) -> None:
    agent_id = await server.agent()
    path = f"/v1/agents/{agent_id}/messages"
    await server.http.post(path, json={"input": "A lantern."})
    fork_id = await fork(server, "default", agent_id=agent_id)
    reset = {"add_default_initial_messages": False}
    await server.http.patch(f"/v1/agents/{agent_id}/reset-messages", json=reset)
    (hit,) = await search(server, "lantern")
    assert hit["conversation_id"] == fork_id
    assert said(await server.get(f"/v1/messages/{hit['message_id']}")) == ["A lantern."]
    assert said(await server.get(path)) == ["A lantern."]
    assert said(await server.get(path, conversation_id="default")) == []
    await delete(server, fork_id)
    assert said(await server.get(path)) == []
    assert await search(server, "lantern") == []
