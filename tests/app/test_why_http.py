"""The route that tells why something is forgotten, on a server that really compacts."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.conversation import DeleteConversation, WindowCompacted
from domain.streams import default_conversation
from projections.search_questions import QUESTION_CHARS_MAX
from tests.app.serving import Server, serving

UNKNOWN = "conv-99999999-9999-4999-8999-999999999999"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


async def talk(server: Server, *words: str) -> str:
    conversation_id = await server.conversation()
    for one in words:
        assert (await server.post(conversation_id, one, streaming=False)).status_code == 200
    return conversation_id


async def why(server: Server, conversation_id: str, q: str, **query: Any) -> Any:
    return await server.get(f"/v1/conversations/{conversation_id}/why", q=q, **query)


async def compact(server: Server, conversation_id: str, **settings: Any) -> str:
    path = f"/v1/conversations/{conversation_id}/compact"
    answer = await server.http.post(path, json={"compaction_settings": settings})
    assert answer.status_code == 200, answer.text
    return answer.json()["compaction_id"]


async def test_a_phrase_is_followed_through_a_real_compaction_and_its_undoing(
    server: Server,
) -> None:
    filler = [f"Number {n} is a long story about nothing. " * 20 for n in range(6)]
    stream = await talk(server, "Ana likes quartz lanterns.", *filler)
    before = await why(server, stream, "quartz lanterns")
    assert before["verdict"] == "in_window"
    compaction_id = await compact(server, stream, mode="all")
    fact = next(one for one in await server.facts(stream) if isinstance(one.event, WindowCompacted))
    answer = await why(server, stream, "quartz lanterns")
    summarised = "quartz" in fact.event.summary
    assert answer["verdict"] == ("summarised" if summarised else "evicted")
    # The demo model says what it is told, so that it was said twice.
    assert {one["compaction_id"] for one in answer["occurrences"]} == {compaction_id}
    assert {one["evicted_at"] for one in answer["occurrences"]} == {fact.version}
    assert answer["occurrences"][0]["compaction"]["mode"] == "all"
    assert f"offset {fact.version}" in answer["sentence"]
    undone = await server.http.post(f"/v1/conversations/{stream}/compactions/{compaction_id}/undo")
    assert undone.status_code == 200, undone.text
    back = await why(server, stream, "quartz lanterns")
    assert back["verdict"] == "in_window"
    assert back["occurrences"][0]["windows"][-1]["brought_by"] == "undone"


async def test_an_agents_own_conversation_is_asked_by_the_agents_id(server: Server) -> None:
    agent_id = await server.agent()
    path = f"/v1/agents/{agent_id}/messages"
    sent = await server.http.post(path, json={"input": "quartz", "streaming": False})
    assert sent.status_code == 200, sent.text
    by_agent = await why(server, agent_id, "quartz")
    assert by_agent["verdict"] == "in_window"
    assert await why(server, "default", "quartz", agent_id=agent_id) == by_agent
    head = len(await server.facts(default_conversation(agent_id)))
    for route in ("window", "events", "verify"):
        named = await server.get(f"/v1/conversations/{agent_id}/{route}")
        query = {"agent_id": agent_id}
        assert await server.get(f"/v1/conversations/default/{route}", **query) == named
    assert (await server.get(f"/v1/conversations/{agent_id}/window"))["at"] == head


async def test_a_deleted_conversation_is_told_of_only_if_asked_for(server: Server) -> None:
    stream = await talk(server, "quartz")
    await server.services.execute(stream, DeleteConversation(), "user")
    path = f"/v1/conversations/{stream}/why"
    assert (await server.http.get(path, params={"q": "quartz"})).status_code == 404
    assert (await why(server, stream, "quartz", deleted=True))["total"] == 2


async def test_a_conversation_that_is_not_there_is_not_found(server: Server) -> None:
    for one in (UNKNOWN, UNKNOWN.replace("conv", "agent"), "default", "default?agent_id=nobody"):
        name, _, query = one.partition("?")
        for route in ("why?q=x", "window?", "events?", "verify?", "compactions?"):
            answer = await server.http.get(f"/v1/conversations/{name}/{route}&{query}")
            assert answer.status_code == 404, (one, route)


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": ""},
        {"q": "x" * (QUESTION_CHARS_MAX + 1)},
        {"q": "x", "limit": 0},
        {"q": "x", "limit": 101},
    ],
    ids=["missing", "empty", "too long", "none", "too many"],
)
async def test_a_question_out_of_bounds_is_refused(server: Server, query: dict[str, Any]) -> None:
    stream = await talk(server)
    answer = await server.http.get(f"/v1/conversations/{stream}/why", params=query)
    assert answer.status_code == 422
    assert ("q" if query.get("limit") is None else "limit") in answer.json()["detail"]


@pytest.mark.parametrize("q", ["\x00", "' OR 1=1 --", '"', "%", "NEAR(a b)", "\ud7ff" * 50, "🦊"])
async def test_any_question_is_answered(server: Server, q: str) -> None:
    stream = await talk(server, "quartz")
    assert (await why(server, stream, q))["verdict"] in ("never_said", "in_window")


async def test_the_call_of_a_tool_is_found_by_its_id(server: Server) -> None:
    agent_id = await server.agent(tools=("demo_count",))
    stream = await server.conversation(agent_id)
    sent = await server.post(stream, 'call demo_count {"text": "a b"}', streaming=False)
    assert sent.status_code == 200, sent.text
    (call,) = [one for one in sent.json()["messages"] if "tool_call" in one]
    answer = await why(server, stream, call["tool_call"]["tool_call_id"])
    assert (answer["asked"], answer["verdict"]) == ("tool_call", "in_window")
    assert [one["kind"] for one in answer["occurrences"]] == ["call", "return"]
