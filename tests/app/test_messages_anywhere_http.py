"""Messages by id, in order of time, and by what they say, whatever conversation they are in."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from app.providers import ModelError
from domain.conversation import DeleteConversation
from domain.run import StepDelta, StepStarted
from tests.app.scripts import Gate, calling, failing, saying
from tests.app.serving import Scripted, Server, serving

NOBODY = "message-123e4567-e89b-42d3-8456-426614174000"
AGENT = "agent-123e4567-e89b-42d3-8456-426614174000"
CONVERSATION = "conv-123e4567-e89b-42d3-8456-426614174000"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as running:
        yield running


async def heard(server: Server, *words: str, agent_id: str | None = None) -> str:
    """Begin a conversation, say something in it, and have it answered; give its id."""
    stream = await server.conversation(agent_id)
    for one in words:
        await server.post(stream, one, streaming=False)
    return stream


async def listed(server: Server, stream: str, **query: Any) -> list[dict[str, Any]]:
    return await server.get(f"/v1/conversations/{stream}/messages", order="asc", **query)


# --- one --------------------------------------------------------------------------------------


async def test_every_listed_message_is_found_by_its_id(tmp_path: Path) -> None:
    model = Scripted(
        calling("demo_count", arguments='{"text": "a"}', words="Let me count."), saying("One.")
    )
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(await server.agent("script/x", tools=("demo_count",)))
        await server.post(stream, streaming=False)
        items = await listed(server, stream)
        assert len({one["id"] for one in items}) == 5
        for one in items:
            found = await server.get(f"/v1/messages/{one['id']}")
            assert found == [each for each in items if each["id"] == one["id"]]


async def test_what_no_list_shows_is_not_found(tmp_path: Path) -> None:
    (down,) = failing(ModelError("llm_bad_request", "No."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(down)) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream)
        facts = await server.events(stream)
        (failed,) = [one.message_id for one in facts if isinstance(one, StepStarted)]
        for message_id in (failed, NOBODY):
            answer = await server.http.get(f"/v1/messages/{message_id}")
            assert answer.status_code == 404
            assert message_id in answer.json()["detail"]
        assert (await server.http.get("/v1/messages/message-1")).status_code == 422


async def test_what_was_taken_back_is_in_no_list_and_not_found(tmp_path: Path) -> None:
    gate = Gate("A lantern")
    model = Scripted(gate, saying("Sense."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(stream, "A lantern?"))
        await server.until_there_is(stream, StepDelta)
        (asked, *_) = await search(server, "lantern")
        await server.post(stream, "A candle.", on_busy="rollback", streaming=False)
        await first
        assert (await server.http.get(f"/v1/messages/{asked['message_id']}")).status_code == 404
        listed = await server.get("/v1/messages/", order="asc")
        assert [one["content"] for one in listed[1:]] == ["A candle.", "Sense."]
        assert await said(server, "lantern") <= {"A candle."}


async def test_the_messages_of_a_deleted_conversation_are_gone(server: Server) -> None:
    stream = await heard(server, "A lantern.")
    (*_, told, _) = await listed(server, stream)
    assert await server.get(f"/v1/messages/{told['id']}") == [told]
    await server.services.execute(stream, DeleteConversation(), "user")
    assert (await server.http.get(f"/v1/messages/{told['id']}")).status_code == 404
    assert await server.get("/v1/messages/") == []
    assert await said(server, "lantern") == set()


# --- all --------------------------------------------------------------------------------------


async def test_the_messages_of_all_conversations_are_in_order_of_time(server: Server) -> None:
    first, second = await heard(server, "One."), await heard(server, "Two.")
    await server.post(first, "Three.", streaming=False)
    shown = await server.get("/v1/messages/", order="asc")
    said = [one["content"] for one in shown if one["message_type"] == "user_message"]
    assert said == ["One.", "Two.", "Three."]
    of_each = [*await listed(server, first), *await listed(server, second)]
    assert sorted(one["otid"] or one["id"] for one in shown) == sorted(
        one["otid"] or one["id"] for one in of_each
    )
    assert await server.get("/v1/messages/") == shown[::-1]
    assert await server.get("/v1/messages/", order="asc", conversation_id=second) == await listed(
        server, second
    )
    assert await server.get("/v1/messages/", conversation_id=CONVERSATION) == []


async def test_all_messages_are_walked_in_both_orders_without_gaps(server: Server) -> None:
    for word in ("One.", "Two."):
        await heard(server, word)
    known = [one["id"] for one in await server.get("/v1/messages/", order="asc")]
    assert len(known) == 6
    # Going desc both cursors are older; going asc, `before` alone is what stands just before.
    for order, cursor in (("asc", "after"), ("desc", "after"), ("desc", "before")):
        walked: list[str] = []
        query: dict[str, Any] = {"order": order, "limit": 4}
        while page := await server.get("/v1/messages/", **query):
            walked += [one["id"] for one in page]
            query[cursor] = walked[-1]
        assert walked == (known if order == "asc" else known[::-1])
    page = await server.get("/v1/messages/", order="asc", before=known[3], limit=2)
    assert [one["id"] for one in page] == known[1:3]
    assert await server.get("/v1/messages/", limit=0) == []
    unknown = await server.http.get("/v1/messages/", params={"after": NOBODY})
    assert unknown.status_code == 404


async def test_what_lists_leave_out_takes_no_place_in_a_page(tmp_path: Path) -> None:
    model = Scripted(*failing(*(ModelError("llm_bad_request", "No.") for _ in range(3))))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        for _ in range(3):
            await server.post(await server.conversation(model="script/x"))
        whole = await server.get("/v1/messages/")
        page = await server.get("/v1/messages/", limit=5)
    assert [one["message_type"] for one in whole] == ["user_message", "system_message"] * 3
    assert page == whole[:5]


async def test_types_are_chosen_as_in_other_lists(server: Server) -> None:
    await heard(server, "Hello!")
    query = {"include_return_message_types": ["user_message"]}
    (said,) = await server.get("/v1/messages/", **query)
    assert said["content"] == "Hello!"


# --- those that match -------------------------------------------------------------------------


async def search(server: Server, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = await server.http.post("/v1/messages/search", json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def said(server: Server, query: str, **more: Any) -> set[str]:
    """Give what users said that is found."""
    return {one["content"] for one in await search(server, query, roles=["user"], **more)}


async def test_messages_are_found_in_all_conversations_of_an_agent_or_in_one(
    server: Server,
) -> None:
    agent_id = await server.agent()
    lake = await heard(server, "A lantern by the lake.", agent_id=agent_id)
    await heard(server, "A lantern in the hall.", agent_id=agent_id)
    await heard(server, "A lantern on the roof.")
    everywhere = {f"A lantern {where}." for where in ("by the lake", "in the hall", "on the roof")}
    assert await said(server, "lantern") == everywhere
    assert await said(server, "lantern", agent_id=agent_id) == everywhere - {
        "A lantern on the roof."
    }
    assert await said(server, "lantern", conversation_id=lake) == {"A lantern by the lake."}
    assert await said(server, "lantern", conversation_id=lake, agent_id=agent_id)
    assert await said(server, '"by the lake"') == {"A lantern by the lake."}
    assert await said(server, "nothing of it", limit=0) == set()


async def test_a_hit_names_its_message_conversation_and_agent(server: Server) -> None:
    agent_id = await server.agent()
    stream = await heard(server, "A lantern by the lake.", agent_id=agent_id)
    hits = await search(server, "lantern")
    items = {one["id"]: one for one in await listed(server, stream)}
    assert {one["message_type"] for one in hits} == {"user_message", "assistant_message"}
    for one in hits:
        item = items[one["message_id"]]
        assert (one["message_type"], one["content"]) == (item["message_type"], item["content"])
        assert (one["agent_id"], one["conversation_id"]) == (agent_id, stream)
        assert one["excerpt"].strip("…") in one["content"]
        assert one["search_mode"] == "fts"
    scores = [one["score"] for one in hits]
    assert scores == sorted(scores, reverse=True)


async def test_an_agents_own_conversation_is_found_without_an_id(server: Server) -> None:
    agent_id = await server.agent()
    await server.http.post(f"/v1/agents/{agent_id}/messages", json={"input": "A lantern."})
    hits = await search(server, "lantern", agent_id=agent_id)
    assert {one["conversation_id"] for one in hits} == {None}
    assert await said(server, "lantern", conversation_id="default", agent_id=agent_id)


async def test_the_rare_word_is_worth_more_in_all_conversations_too(server: Server) -> None:
    for words in ("A lantern here.", "A lantern there.", "A lantern and a barometer."):
        await heard(server, words)
    (best, *_) = await search(server, "lantern barometer", roles=["user"])
    assert best["content"] == "A lantern and a barometer."


async def test_messages_are_found_by_role_and_time(server: Server) -> None:
    await heard(server, "A lantern.", "Another lantern.")
    hits = await search(server, "lantern")
    users = await search(server, "lantern", roles=["user"])
    assert {one["message_type"] for one in users} == {"user_message"}
    assert len(hits) > len(users)
    first, second = sorted(users, key=lambda one: one["offset"])
    at = second["created_at"]
    assert await said(server, "lantern", start_date=at) == {second["content"]}
    assert await said(server, "lantern", end_date=first["created_at"]) == {first["content"]}
    assert await said(server, "lantern", end_date=at) == {"A lantern.", "Another lantern."}


ODD = ['"', "a AND (b", "NEAR(", "-", "\0", "'; DROP TABLE texts", "%", "💥"]
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({}, 422, "query"),
    ({"query": ""}, 422, "query"),
    ({"query": "x" * 2001}, 422, "2000"),
    ({"query": "x", "limit": 101}, 422, "limit"),
    ({"query": "x", "search_mode": "magic"}, 422, "search_mode"),
    ({"query": "x", "roles": ["king"]}, 422, "roles"),
    ({"query": "x", "start_date": "soon"}, 422, "start_date"),
    ({"query": "x", "search_mode": "vector"}, 501, "use search_mode fts"),
    ({"query": "x", "agent_id": "agent-1"}, 404, "agent-1"),
    ({"query": "x", "agent_id": AGENT}, 404, AGENT),
    ({"query": "x", "conversation_id": "conv-1"}, 404, "conv-1"),
    ({"query": "x", "conversation_id": CONVERSATION}, 404, CONVERSATION),
]


async def test_whatever_is_asked_is_answered(server: Server) -> None:
    await heard(server, "A lantern.")
    for query in ODD:
        assert isinstance(await search(server, query), list), query


async def test_what_cannot_be_searched_is_refused(server: Server) -> None:
    for body, status, says in REFUSED:
        answer = await server.http.post("/v1/messages/search", json=body)
        assert answer.status_code == status, body
        assert says in answer.json()["detail"]


async def test_a_conversation_is_not_searched_as_another_agents(server: Server) -> None:
    stream = await heard(server, "A lantern.")
    body = {"query": "lantern", "conversation_id": stream, "agent_id": AGENT}
    answer = await server.http.post("/v1/messages/search", json=body)
    assert answer.status_code == 404
