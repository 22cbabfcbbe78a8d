"""Prompts compiled anew on request, and agents' windows reset."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest

from app.recall.search import Search
from domain.agent import ChangeAgent
from domain.conversation import WindowRecompiled
from domain.streams import default_conversation
from tests.app.scripts import Gate, calling, saying
from tests.app.serving import Scripted, Server, serving

NO_AGENT: Final = "agent-00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with asyncio.timeout(60), serving(tmp_path / "a.db") as running:
        yield running


async def recompile(server: Server, path: str, body: Any = None, **query: Any) -> str:
    answer = await server.http.post(f"/v1/{path}/recompile", params=query, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def recompiled(server: Server, stream: str) -> list[str]:
    events = await server.events(stream)
    return [one.system.text for one in events if isinstance(one, WindowRecompiled)]


async def be(server: Server, agent_id: str, system: str) -> None:
    await server.services.execute(agent_id, ChangeAgent({"system": system}), "user")


async def ask(server: Server, agent_id: str, words: str, **more: Any) -> Any:
    answer = await server.http.post(
        f"/v1/agents/{agent_id}/messages", json={"input": words, **more}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def contents(server: Server, agent_id: str, **query: Any) -> list[str]:
    query = {"agent_id": agent_id, "order": "asc", **query}
    listed = await server.get("/v1/conversations/default/messages", **query)
    return [one.get("content") for one in listed]


# --- recompile --------------------------------------------------------------------------------


async def test_a_prompt_is_compiled_anew_when_its_agent_has_changed(server: Server) -> None:
    agent = await server.agent(system="Be kind.")
    answer = await server.http.post("/v1/conversations/", params={"agent_id": agent})
    conversation = answer.json()["id"]
    await be(server, agent, "Be brief.")
    shown = await recompile(server, f"conversations/{conversation}", dry_run=True)
    assert shown.startswith("Be brief.")
    assert await recompiled(server, conversation) == []
    text = await recompile(server, f"conversations/{conversation}")
    assert await recompiled(server, conversation) == [text]
    assert text.startswith("Be brief.")
    (message,) = await server.get(f"/v1/conversations/{conversation}/messages")
    assert (message["message_type"], message["content"]) == ("system_message", text)


async def test_a_prompt_that_would_say_the_same_stays_as_it_is(server: Server) -> None:
    agent = await server.agent()
    answer = await server.http.post("/v1/conversations/", params={"agent_id": agent})
    path = f"conversations/{answer.json()['id']}"
    first = await recompile(server, path)
    assert await recompile(server, path, dry_run=True) == first
    assert await recompiled(server, answer.json()["id"]) == []


async def test_all_forms_of_an_agents_own_conversation_are_recompiled(server: Server) -> None:
    agent = await server.agent(system="Be kind.")
    stream = default_conversation(agent)
    shown = await recompile(server, f"agents/{agent}", dry_run=True)
    assert "CONVERSATION_ID: default" in shown
    assert await server.facts(stream) == []
    await recompile(server, "conversations/default", {"agent_id": agent})
    assert len(await server.facts(stream)) == 1
    texts: list[str] = []
    forms: list[tuple[str, Any]] = [
        (f"agents/{agent}", None),
        (f"conversations/{agent}", {}),
        ("conversations/default", {"agent_id": agent, "compaction_settings": {}}),
    ]
    for number, (path, body) in enumerate(forms):
        await be(server, agent, f"Be {number}.")
        texts.append(await recompile(server, path, body))
    assert await recompiled(server, stream) == texts
    await recompile(server, f"agents/{agent}", update_timestamp=True)
    assert len(await recompiled(server, stream)) == len(texts) + 1


async def test_the_next_run_is_told_the_new_prompt(tmp_path: Path) -> None:
    script = Scripted(saying("Hi."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", script) as server:
        agent = await server.agent("script/x", system="Be kind.")
        await ask(server, agent, "One.")
        await be(server, agent, "Be brief.")
        await ask(server, agent, "Two.")
        await recompile(server, f"agents/{agent}")
        await ask(server, agent, "Three.")
    assert [one.system.split("\n")[0] for one in script.requests] == [
        "Be kind.",
        "Be kind.",
        "Be brief.",
    ]


async def test_a_prompt_counts_the_messages_that_were_evicted_by_whomever(server: Server) -> None:
    agent = await server.agent()
    for words in ("One.", "Two.", "Three.", "Four."):
        await ask(server, agent, words)
    path = f"conversations/{agent}"
    told: list[int] = []
    compaction_id = ""
    for mode in ("sliding_window", "all"):
        body = {"compaction_settings": {"mode": mode}}
        answer = await server.http.post(f"/v1/{path}/compact", json=body)
        assert answer.status_code == 200, answer.text
        compaction_id = answer.json()["compaction_id"]
        told.append(earlier_in(await recompile(server, path)))
    undone = await server.http.post(f"/v1/{path}/compactions/{compaction_id}/undo")
    assert undone.status_code == 200, undone.text
    told.append(earlier_in(await recompile(server, path)))
    fork = await server.http.post(f"/v1/{path}/fork")
    (prompt,) = (await server.get(f"/v1/conversations/{fork.json()['id']}/messages"))[-1:]
    told.append(earlier_in(prompt["content"]))
    assert told == [3, 8, 3, 3]


def earlier_in(prompt: str) -> int:
    """Give what a prompt tells of earlier messages."""
    return int(prompt.partition("Earlier messages of this conversation: ")[2].partition("\n")[0])


async def test_what_is_not_there_cannot_be_recompiled_or_reset(server: Server) -> None:
    for path in (
        f"/v1/agents/{NO_AGENT}/recompile",
        "/v1/conversations/conv-00000000-0000-4000-8000-000000000000/recompile",
        f"/v1/conversations/{NO_AGENT}/recompile",
    ):
        assert (await server.http.post(path)).status_code == 404
    reset = await server.http.patch(f"/v1/agents/{NO_AGENT}/reset-messages", json={})
    assert reset.status_code == 404
    agent = await server.agent()
    no_body = await server.http.patch(f"/v1/agents/{agent}/reset-messages")
    assert no_body.status_code == 422


# --- reset ------------------------------------------------------------------------------------


async def reset(server: Server, agent_id: str) -> Any:
    answer = await server.http.patch(f"/v1/agents/{agent_id}/reset-messages", json={})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_reset_agent_begins_again_with_its_prompt_of_now(tmp_path: Path) -> None:
    script = Scripted(saying("Hi."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", script) as server:
        agent = await server.agent("script/x", system="Be kind.")
        assert len((await reset(server, agent))["message_ids"]) == 1
        for words in ("One.", "Two.", "Three."):
            await ask(server, agent, words)
        await be(server, agent, "Be brief.")
        state = await reset(server, agent)
        assert len(state["message_ids"]) == 1
        (prompt,) = await contents(server, agent)
        assert prompt.startswith("Be brief.")
        assert await contents(server, agent, order="desc") == [prompt]
        await ask(server, agent, "Four.")
        assert await contents(server, agent) == [prompt, "Four.", "Hi."]
        assert await contents(server, agent, order="desc", limit=1) == ["Hi."]
        words = [
            one.content
            for one in await server.events(default_conversation(agent))
            if one.type == "message.appended"
        ]
        found = await Search(server.services.log).find(default_conversation(agent), "Two")
        why = await server.get(f"/v1/conversations/{agent}/why", q="Two.")
    assert words == ["One.", "Two.", "Three.", "Four."]
    assert len(script.requests[-1].turns) == 1
    assert script.requests[-1].system.startswith("Be brief.")
    assert found.hits == ()
    assert (why["verdict"], why["occurrences"][0]["reachable"]) == ("evicted", "log")
    assert "when the window was emptied" in why["sentence"]


async def test_a_reset_stops_what_is_under_way_and_denies_what_is_asked(tmp_path: Path) -> None:
    gate = Gate("Wait")
    script = Scripted(gate, calling("look"), saying("Hi."))
    tools = [{"name": "look"}]
    async with asyncio.timeout(60), serving(tmp_path / "a.db", script) as server:
        agent = await server.agent("script/x")
        path = f"/v1/agents/{agent}/messages"
        busy = asyncio.create_task(server.http.post(path, json={"input": "One."}))
        await gate.begun.wait()
        assert len((await reset(server, agent))["message_ids"]) == 1
        await busy
        asked = await ask(server, agent, "Two.", client_tools=tools)
        assert asked["stop_reason"]["stop_reason"] == "requires_approval"
        shown = await server.get(f"/v1/agents/{agent}", include="agent.pending_approval")
        assert shown["pending_approval"]["tool_call"]["name"] == "look"
        state = await reset(server, agent)
        assert len(state["message_ids"]) == 1
        shown = await server.get(f"/v1/agents/{agent}", include="agent.pending_approval")
        assert shown["pending_approval"] is None
        await ask(server, agent, "Three.")
        assert (await contents(server, agent))[1:] == ["Three.", "Hi."]
    assert len(script.requests[-1].turns) == 1


async def test_a_reset_takes_compactions_along_for_good(server: Server) -> None:
    agent = await server.agent()
    for words in ("One.", "Two.", "Three.", "Four."):
        await ask(server, agent, words)
    path = f"/v1/conversations/{agent}"
    body = {"compaction_settings": {"mode": "all"}}
    compacted = await server.http.post(f"{path}/compact", json=body)
    assert compacted.status_code == 200, compacted.text
    compaction_id = compacted.json()["compaction_id"]
    await reset(server, agent)
    assert len(await contents(server, agent)) == 1
    undo = await server.http.post(f"{path}/compactions/{compaction_id}/undo")
    redo = await server.http.post(f"{path}/compactions/{compaction_id}/redo")
    assert (undo.status_code, redo.status_code) == (200, 409)
    state = await server.get(f"/v1/agents/{agent}")
    assert len(state["message_ids"]) == 1


async def test_a_forgetful_agent_begins_each_turn_in_an_empty_window(tmp_path: Path) -> None:
    script = Scripted(saying("Hi."), calling("look"), saying("Seen."), saying("Ho."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", script) as server:
        agent = await server.agent("script/x", message_buffer_autoclear=True)
        await ask(server, agent, "One.")
        await ask(server, agent, "Two.", client_tools=[{"name": "look"}])
        answers = [
            {"type": "tool", "tool_call_id": "call-0", "tool_return": "A cat.", "status": "success"}
        ]
        approval = [{"type": "approval", "approvals": answers}]
        path = f"/v1/agents/{agent}/messages"
        done = await server.http.post(path, json={"messages": approval})
        assert done.status_code == 200, done.text
        await ask(server, agent, "Three.")
        listed = await contents(server, agent)
        why = await server.get(f"/v1/conversations/{agent}/why", q="One.")
        assert await contents(server, agent, order="desc") == listed[::-1]
    assert why["occurrences"][0]["reachable"] == "search"
    assert [len(one.turns) for one in script.requests] == [1, 1, 3, 1]
    assert {"One.", "Two.", "Three.", "Hi.", "Seen.", "Ho."} <= {*listed}
