"""Forks over HTTP: at every moment of a conversation, and what becomes of both afterwards."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.history.exporting import lines_of, state_of
from domain.conversation import ConversationStarted
from domain.run import RunFinished, StepDelta, ToolFinished
from domain.streams import default_conversation, system_message_id
from projections.interchange import HeaderLine
from tests.app.compacting import (
    LONG,
    SUMMARY,
    WORDS,
    Cast,
    casting,
    compacted,
    head_of,
    remembering,
    talked,
    turn,
    window_of,
    words_in,
)
from tests.app.compacting import change_its_mind as change_memory
from tests.app.scripts import Gate, calling, saying, told
from tests.app.serving import Scripted, Server, serving
from tests.databases import raw

WEATHER = {"name": "weather", "parameters": {"type": "object"}}
UNKNOWN = "99999999-9999-4999-8999-999999999999"


async def ask(server: Server, stream: str, **query: Any) -> httpx2.Response:
    return await server.http.post(f"/v1/conversations/{stream}/fork", params=query)


async def fork(server: Server, stream: str, **query: Any) -> str:
    answer = await ask(server, stream, **query)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def positions(server: Server, stream: str) -> list[tuple[str, int]]:
    """Give where each message of a window is stored."""
    window = await window_of(server, stream)
    return [(one.get("stream") or stream, one["offset"]) for one in window["messages"]]


async def listed(server: Server, stream: str, **query: Any) -> list[dict[str, Any]]:
    return await server.get(f"/v1/conversations/{stream}/messages", **query)


async def verdict(server: Server, stream: str) -> dict[str, Any]:
    return await server.get(f"/v1/conversations/{stream}/verify")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with casting(tmp_path) as (running, _):
        yield running


# --- what a fork is ---------------------------------------------------------------------------


async def test_a_fork_shares_what_was_said_and_has_a_prompt_and_a_future_of_its_own(
    server: Server,
) -> None:
    agent_id, stream = await remembering(server)
    for words in WORDS[:2]:
        await server.post(stream, words)
    await change_memory(server, agent_id)
    answer = (await ask(server, stream, hidden=True)).json()
    before, ids = await positions(server, stream), answer["in_context_message_ids"]
    fork_id = answer["id"]
    assert (answer["agent_id"], answer["hidden"], answer["summary"]) == (agent_id, True, None)
    assert await positions(server, fork_id) == before
    assert ids[0] == system_message_id(fork_id)
    window, theirs = await window_of(server, fork_id), await window_of(server, stream)
    assert "coffee" in window["system"]["text"]
    assert "coffee" not in theirs["system"]["text"]
    assert [one["message_id"] for one in theirs["messages"]] == ids[1:]
    # Nothing was copied: the fork has one fact, which says where it comes from.
    (started,) = await server.facts(fork_id)
    events = await server.get(f"/v1/conversations/{stream}/events", order="desc", limit=1)
    head = events["events"][0]
    assert started.event.parent.model_dump() == {
        "conversation_id": stream,
        "at": head["offset"],
        "hash": head["hash"],
    }
    await server.post(fork_id, "To the fork.")
    await server.post(stream, "To the parent.")
    assert [words for _, words in await words_in(server, fork_id)][-2:] == ["To the fork.", "Aye."]
    assert [words for _, words in await words_in(server, stream)][-2:] == ["To the parent.", "Aye."]


async def test_a_fork_has_its_parents_model_but_not_what_it_was_about(server: Server) -> None:
    stream = await server.conversation()
    settings = {"model": "demo/steady", "context_window_limit": 9000, "summary": "plans"}
    await server.http.patch(f"/v1/conversations/{stream}", json=settings)
    answer = (await ask(server, stream)).json()
    assert (answer["model"], answer["context_window_limit"]) == ("demo/steady", 9000)
    assert (answer["summary"], answer["hidden"]) == (None, False)


async def test_the_model_is_told_what_was_said_before_the_fork(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, "One.", "Two.")
        await server.post(await fork(server, stream), "Three.")
        said = [words for _, words in told(cast.agent.requests[-1])]
        assert said == ["One.", "Aye.", "Two.", "Aye.", "Three."]


async def test_an_agents_own_conversation_is_forked_under_each_of_its_names(
    server: Server,
) -> None:
    agent_id = await server.agent("demo/echo")
    await server.http.post(f"/v1/agents/{agent_id}/messages", json={"input": "Hello!"})
    first = await fork(server, "default", agent_id=agent_id)
    second = await fork(server, agent_id)
    own = await positions(server, default_conversation(agent_id))
    assert await positions(server, first) == await positions(server, second) == own
    assert len(own) == 2


async def test_a_key_stands_for_one_fork(server: Server) -> None:
    stream = await talked(server, "One.")
    path, headers = f"/v1/conversations/{stream}/fork", {"idempotency-key": "once"}
    first = await server.http.post(path, headers=headers)
    await server.post(stream, "Two.")
    second = await server.http.post(path, headers=headers)
    assert first.json() == second.json()
    assert (await fork(server, stream)) != first.json()["id"]


# --- where it begins --------------------------------------------------------------------------


async def test_a_fork_at_an_offset_has_the_window_of_that_offset(server: Server) -> None:
    stream = await talked(server, *WORDS[:2])
    await compacted(server, stream, mode="all")
    for at in range(1, await head_of(server, stream) + 1):
        fork_id = await fork(server, stream, at=at)
        then = await window_of(server, stream, at=at)
        shown = (await window_of(server, fork_id))["messages"]
        here = [(one["message_id"], one["stream"], one["offset"]) for one in shown]
        assert here == [(one["message_id"], stream, one["offset"]) for one in then["messages"]]


async def test_where_to_fork_may_be_said_in_the_body(server: Server) -> None:
    stream = await talked(server, "One.", "Two.")
    path = f"/v1/conversations/{stream}/fork"
    told = await server.http.post(path, json={"at": 3})
    assert await positions(server, told.json()["id"]) == [(stream, 3)]
    assert (await server.http.post(path, json={"at": 0})).status_code == 422
    assert (await server.http.post(path, content=b"{")).status_code == 422


async def test_a_fork_after_a_message_ends_with_it(server: Server) -> None:
    stream = await talked(server, *WORDS[:2])
    ids = [one["message_id"] for one in (await window_of(server, stream))["messages"]]
    for count, message_id in enumerate(ids, start=1):
        fork_id = await fork(server, stream, message_id=message_id)
        got = await server.get(f"/v1/conversations/{fork_id}")
        assert got["in_context_message_ids"] == [system_message_id(fork_id), *ids[:count]]
        # The same of a fork that has inherited the message: it goes on from where that was said.
        again = await fork(server, await fork(server, stream), message_id=message_id)
        assert len(await positions(server, again)) == count
        (started,) = await server.facts(again)
        assert started.event.parent.conversation_id == stream
    for one in (stream, await fork(server, stream)):
        alone = await fork(server, one, message_id=system_message_id(one))
        assert await positions(server, alone) == []


async def test_what_cannot_be_forked_is_told_in_the_contracts_words(server: Server) -> None:
    stream = await talked(server, "One.")
    head = await head_of(server, stream)
    past = await ask(server, stream, at=head + 1)
    assert (past.status_code, past.json()["head"]) == (409, head)
    assert (await ask(server, stream, at=0)).status_code == 422
    assert (await ask(server, stream, at=1, message_id=f"message-{UNKNOWN}")).status_code == 422
    assert (await ask(server, stream, message_id=f"message-{UNKNOWN}")).status_code == 404
    assert (await ask(server, stream, message_id="x")).status_code == 422
    assert (await ask(server, f"conv-{UNKNOWN}")).status_code == 404
    assert (await ask(server, "default")).status_code == 404
    assert (await ask(server, "default", agent_id=await server.agent())).status_code == 404


async def test_a_fork_has_a_bounded_number_of_conversations_behind_it(server: Server) -> None:
    stream = await talked(server, "One.")
    for _ in range(32):
        stream = await fork(server, stream)
    refused = await ask(server, stream)
    assert (refused.status_code, "32" in refused.text) == (409, True)
    await server.post(stream, "Two.")
    assert len(await positions(server, stream)) == 4
    assert len(await listed(server, stream)) == 5
    assert (await verdict(server, stream))["ok"]


# --- in the middle of things ------------------------------------------------------------------


async def test_a_reply_under_way_stays_with_the_parent(tmp_path: Path) -> None:
    gate = Gate("Half ", after="and half.")
    async with casting(tmp_path, Cast([gate])) as (server, _):
        stream = await talked(server)
        going = asyncio.create_task(server.post(stream, "Tell me."))
        await server.until_there_is(stream, StepDelta)
        fork_id = await fork(server, stream)
        gate.opened.set()
        await going
        assert [words for _, words in await words_in(server, fork_id)] == ["Tell me."]
        assert len(await words_in(server, stream)) == 2
        await server.post(fork_id, "And me?")
        assert await words_in(server, fork_id) == [
            ("user", "Tell me."),
            ("user", "And me?"),
            ("assistant", "Half and half."),
        ]


async def test_a_tool_under_way_is_closed_in_the_forks_first_append(tmp_path: Path) -> None:
    model = Scripted(calling("demo_wait", arguments='{"seconds": 30}'), saying("Well."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(await server.agent("script/x", tools=("demo_wait",)))
        going = asyncio.create_task(server.post(stream, "Wait."))
        await server.until(
            stream, lambda facts: any(one.event.type == "tool.started" for one in facts)
        )
        fork_id = await fork(server, stream)
        started, closed = await server.events(fork_id)
        assert isinstance(started, ConversationStarted)
        assert (closed.status, closed.stream, closed.source) == ("cancelled", stream, "system")
        window = await window_of(server, fork_id)
        assert [one["role"] for one in window["messages"]] == ["user", "assistant", "tool"]
        await server.post(fork_id, "Never mind.")
        assert (await words_in(server, fork_id))[-1] == ("assistant", "Well.")
        # The list has the call from the parent, the return from the fork.
        kinds = [one["message_type"] for one in await listed(server, fork_id, order="asc")]
        assert kinds[:4] == [
            "system_message",
            "user_message",
            "tool_call_message",
            "tool_return_message",
        ]
        await server.http.post(f"/v1/conversations/{stream}/cancel")
        await going


async def test_a_call_that_waits_for_the_client_is_answered_in_both(tmp_path: Path) -> None:
    model = Scripted(calling("weather", words="Let me see."), saying("So be it."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream, "Weather?", client_tools=[WEATHER])
        fork_id = await fork(server, stream)
        refused = await server.post(fork_id, "Well?", streaming=False)
        assert refused.status_code == 409
        for one, words in ((fork_id, "Rain"), (stream, "Sun")):
            returned = {"type": "tool", "tool_call_id": "call-0", "status": "success"}
            message = {"type": "tool_return", "tool_returns": [{**returned, "tool_return": words}]}
            answer = await server.http.post(
                f"/v1/conversations/{one}/messages",
                json={"messages": [message], "client_tools": [WEATHER], "streaming": False},
            )
            assert answer.status_code == 200, answer.text
            assert (await words_in(server, one))[-1] == ("assistant", "So be it.")
            assert f"ok: {words}" in str(told(model.requests[-1]))
        ours = [one for one in await server.events(fork_id) if isinstance(one, ToolFinished)]
        theirs = [one for one in await server.events(stream) if isinstance(one, ToolFinished)]
        assert (ours[0].s, ours[0].stream) == (theirs[0].s, stream)
        assert theirs[0].stream is None
        # A fork after the reply has the call waiting, one after its return has it returned.
        reply = (await window_of(server, stream))["messages"][1]["message_id"]
        after = await fork(server, stream, message_id=reply)
        assert len(await positions(server, after)) == 3
        assert (await verdict(server, fork_id))["ok"]
        # It is exported as one whole conversation, the return behind its call.
        assert exported(server, fork_id) == ["user", "assistant", "tool", "assistant"]


def exported(server: Server, stream: str) -> list[str]:
    """Export a conversation; give who says something in it."""
    store = server.services.log.store
    _, *lines = lines_of(store, stream, state_of(store, stream), lambda _: None)
    return [one.role for one in lines if not isinstance(one, HeaderLine)]


async def test_a_request_that_waits_stays_with_the_parent(tmp_path: Path) -> None:
    gate = Gate("Half ", after="and half.")
    async with casting(tmp_path, Cast([gate])) as (server, _):
        stream = await talked(server)
        first = asyncio.create_task(server.post(stream, "One."))
        await server.until_there_is(stream, StepDelta)
        second = asyncio.create_task(server.post(stream, "Two.", streaming=False))
        facts = await server.until(
            stream, lambda facts: any(one.event.type == "message.queued" for one in facts)
        )
        waiting = next(one.event for one in facts if one.event.type == "message.queued")
        refused = await ask(server, stream, message_id=waiting.message_id)
        fork_id = await fork(server, stream)
        gate.opened.set()
        await asyncio.gather(first, second)
        assert refused.status_code == 409
        assert await words_in(server, fork_id) == [("user", "One.")]


# --- compactions ------------------------------------------------------------------------------


async def test_a_fork_compacts_what_it_inherited_and_its_parent_keeps_it(server: Server) -> None:
    stream = await talked(server, *WORDS)
    before = await window_of(server, stream)
    fork_id = await fork(server, stream)
    await server.post(fork_id, "Five.")
    done = await compacted(server, fork_id, mode="sliding_window")
    (event,) = [one for one in await server.events(fork_id) if one.type == "window.compacted"]
    assert {one.stream for one in event.evicted.ranges} == {stream}
    assert event.before_stream == stream
    assert (await words_in(server, fork_id))[0][0] == "summary"
    assert await window_of(server, stream) == before
    shown = await server.get(f"/v1/conversations/{fork_id}/compactions/{done['compaction_id']}")
    assert [one["stream"] for one in shown["evicted"]] == [stream] * len(shown["evicted"])
    await turn(server, fork_id, done["compaction_id"], "undo", force=True)
    assert len(await positions(server, fork_id)) == 10


async def test_a_parents_compaction_holds_in_the_fork_and_is_undone_there_alone(
    server: Server,
) -> None:
    stream = await talked(server, *WORDS)
    done = await compacted(server, stream, mode="all")
    compaction_id = done["compaction_id"]
    fork_id = await fork(server, stream)
    assert await words_in(server, fork_id) != []
    (row,) = await server.get(f"/v1/conversations/{fork_id}/compactions")
    assert (row["stream"], row["status"]) == (stream, "active")
    undone = await turn(server, fork_id, compaction_id, "undo", force=True)
    assert undone.json()["active"] is False
    assert [words for _, words in await words_in(server, fork_id)][::2] == [*WORDS]
    assert len(await positions(server, stream)) == 1
    shown = await server.get(f"/v1/conversations/{fork_id}/compactions/{compaction_id}")
    assert (shown["status"], "undone_stream" in shown, shown["undone_at"]) == ("undone", False, 2)
    assert {one["stream"] for one in shown["evicted"]} == {stream}
    redone = await turn(server, fork_id, compaction_id, "redo")
    assert redone.json()["active"] is True
    assert len(await positions(server, fork_id)) == 1
    # What the parent does afterwards is nothing to the fork.
    await turn(server, stream, compaction_id, "undo", force=True)
    assert len(await positions(server, fork_id)) == 1
    replayed = await server.http.post(
        f"/v1/conversations/{fork_id}/compactions/{compaction_id}/replay", json={}
    )
    assert replayed.json()["evicted_only_as_replayed"] == []


async def test_a_fork_of_a_fork_has_the_summary_that_stands_for_what_both_inherited(
    tmp_path: Path,
) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, LONG, LONG, mode="all")
        fork_id = await fork(server, stream)
        await compacted(server, fork_id, mode="all")
        again = await fork(server, fork_id)
        await server.post(again, "And now?")
        said = await words_in(server, again)
        assert [who for who, _ in said] == ["summary", "user", "assistant"]
        assert SUMMARY in said[0][1]


# --- reading it -------------------------------------------------------------------------------


async def test_a_forks_messages_are_its_prompt_what_it_inherited_and_its_own(
    server: Server,
) -> None:
    stream = await talked(server, *WORDS[:2])
    fork_id = await fork(server, stream)
    await server.post(fork_id, "Three.")
    await server.post(stream, "Elsewhere.")
    whole = [one["id"] for one in await listed(server, fork_id, order="asc")]
    theirs = [one["id"] for one in await listed(server, stream, order="asc")]
    assert whole[0] == system_message_id(fork_id)
    assert whole[1:5] == theirs[1:5]
    assert [one["id"] for one in await listed(server, fork_id)] == whole[::-1]
    walked: list[str] = []
    while page := await listed(
        server, fork_id, order="asc", limit=2, **({"after": walked[-1]} if walked else {})
    ):
        walked += [one["id"] for one in page]
    assert walked == whole
    back: list[str] = []
    while page := await listed(server, fork_id, limit=2, **({"before": back[-1]} if back else {})):
        back += [one["id"] for one in page]
    assert back == whole[::-1]


async def test_what_was_said_before_a_fork_is_found_and_explained_in_it(server: Server) -> None:
    stream = await talked(server, "My sister is called Ida.", "Two.")
    fork_id = await fork(server, stream)
    await server.post(fork_id, "Three.")
    await server.post(stream, "My brother is called Ole.")
    hit, *_ = (await server.get(f"/v1/conversations/{fork_id}/search", q="sister"))["hits"]
    assert (hit["stream"], hit["offset"]) == (stream, 3)
    assert (await server.get(f"/v1/conversations/{fork_id}/search", q="brother"))["hits"] == []
    why = await server.get(f"/v1/conversations/{fork_id}/why", q="sister")
    assert why["verdict"] == "in_window"
    assert (why["occurrences"][0]["stream"], why["occurrences"][0]["offset"]) == (stream, 3)
    assert f"offset 3 of {stream}" in why["sentence"]
    await compacted(server, fork_id, mode="all")
    gone = await server.get(f"/v1/conversations/{fork_id}/why", q="sister")
    assert gone["verdict"] == "evicted"
    assert gone["occurrences"][0]["compaction"]["ranges"][0]["stream"] == stream
    message_id = gone["occurrences"][0]["message_id"]
    assert (await server.get(f"/v1/conversations/{fork_id}/why", q=message_id))["total"] == 1
    assert (await server.get(f"/v1/conversations/{stream}/why", q="sister"))["verdict"] == (
        "in_window"
    )


async def test_a_model_looks_back_to_before_the_fork(tmp_path: Path) -> None:
    model = Scripted(
        saying("Noted."),
        saying("Noted."),
        calling("conversation_search", arguments='{"query": "sister"}'),
        calling("recall", arguments='{"offset": -14}'),
        saying("Ida."),
    )
    async with asyncio.timeout(60), serving(tmp_path / "a.db", model) as server:
        tools = ("conversation_search", "recall")
        stream = await server.conversation(await server.agent("script/x", tools=tools))
        await server.post(stream, "My sister is Ida.", streaming=False)
        await server.post(stream, "Two.", streaming=False)
        place = 3 - 17
        fork_id = await fork(server, stream, at=17)
        await server.post(fork_id, "Who is she?", streaming=False)
        done = [one for one in await server.events(fork_id) if isinstance(one, ToolFinished)]
        assert [one.status for one in done] == ["ok", "ok"]
        assert f"[offset {place}," in str(done[0].content)
        assert all("user: My sister is Ida." in str(one.content) for one in done)


async def test_the_requests_of_a_forks_steps_are_rebuilt_those_it_inherited_too(
    server: Server,
) -> None:
    stream = await talked(server, "One.", "Two.")
    fork_id = await fork(server, stream)
    await server.post(fork_id, "Three.")
    await compacted(server, fork_id, mode="all")
    await server.post(fork_id, "Four.")
    steps = [one.event for one in await server.facts(stream) if one.event.type == "step.started"]
    own = [one.event for one in await server.facts(fork_id) if one.event.type == "step.started"]
    assert [span.stream for span in own[0].manifest.items] == [stream, None]
    for step in (*steps, *own):
        path = f"/v1/conversations/{fork_id}/steps/{step.step_id}/request"
        assert (await server.get(path))["matches"] is True


async def test_a_message_is_pinned_in_a_fork_and_not_in_its_parent(server: Server) -> None:
    stream = await talked(server, *WORDS)
    fork_id = await fork(server, stream)
    message_id = (await window_of(server, stream))["messages"][0]["message_id"]
    path = f"/v1/conversations/{fork_id}/messages/{message_id}"
    pinned = await server.http.patch(path, json={"pinned": True})
    assert pinned.json() == {"id": message_id, "offset": 3, "stream": stream, "pinned": True}
    await compacted(server, fork_id, mode="all")
    assert [words for who, words in await words_in(server, fork_id) if who == "user"] == ["One."]
    assert not any(one["pinned"] for one in (await window_of(server, stream))["messages"])


# --- what happens to its parent ---------------------------------------------------------------


async def test_a_fork_of_a_deleted_conversation_lives_on(server: Server) -> None:
    stream = await talked(server, *WORDS[:2])
    fork_id = await fork(server, stream)
    before = await window_of(server, fork_id)
    await server.http.delete(f"/v1/conversations/{stream}")
    assert await window_of(server, fork_id) == before
    await server.post(fork_id, "Three.")
    assert len(await positions(server, fork_id)) == 6
    assert len(await listed(server, fork_id)) == 7
    assert (await verdict(server, fork_id))["ok"]
    assert (await ask(server, stream)).status_code == 404


async def test_a_fork_comes_back_as_it_was_after_a_restart(tmp_path: Path) -> None:
    model = Scripted(calling("weather"), saying("Sunny."))
    async with asyncio.timeout(60), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        await server.post(stream, "Weather?", client_tools=[WEATHER])
        fork_id = await fork(server, await fork(server, stream))
        live = await server.services.execute.conversation(fork_id)
        before = await window_of(server, fork_id)
        await server.stop()
        await server.start()
        assert await server.services.execute.conversation(fork_id) == live
        assert await window_of(server, fork_id) == before
        word = {"type": "approval", "tool_call_id": "call-0", "approve": False}
        answer = await server.http.post(
            f"/v1/conversations/{fork_id}/messages",
            json={"messages": [{"type": "approval", "approvals": [word]}], "streaming": False},
        )
        assert answer.status_code == 200, answer.text
        (ended,) = [one for one in await server.events(fork_id) if isinstance(one, RunFinished)]
        assert ended.status == "completed"


async def test_what_is_wrong_with_an_ancestor_is_wrong_with_its_forks(
    server: Server, tmp_path: Path
) -> None:
    stream = await talked(server, *WORDS[:2])
    middle = await fork(server, stream, at=5)
    fork_id = await fork(server, middle)
    with raw(tmp_path / "everlog.db") as database:
        # Of the three streams only the first has as much.
        database.execute("UPDATE stored_events SET topic = 'x' WHERE originator_version = 4")
    found = await verdict(server, fork_id)
    assert (found["ok"], found["first_bad"], found["stream"]) == (False, 4, stream)
    assert (await verdict(server, middle))["ok"] is False


async def test_a_fork_of_a_conversation_that_was_reset_begins_as_empty_as_that(
    server: Server,
) -> None:
    agent = await server.agent()
    said = f"/v1/agents/{agent}/messages"
    for words in ("A quagga.", "Two quaggas."):
        assert (await server.http.post(said, json={"input": words})).status_code == 200
    path = f"/v1/agents/{agent}/reset-messages"
    assert (await server.http.patch(path, json={})).status_code == 200
    assert (await server.http.post(said, json={"input": "After."})).status_code == 200
    answer = await server.http.post("/v1/conversations/default/fork", params={"agent_id": agent})
    forked = answer.json()["id"]
    parent = default_conversation(agent)
    here, there = [await positions(server, one) for one in (forked, parent)]
    assert len(here) == len(there) == 2
    texts = [one["content"] for one in await listed(server, forked) if "content" in one]
    assert "After." in texts
    assert "A quagga." not in texts
    found = await server.get(f"/v1/conversations/{forked}/search", q="quagga")
    assert not any("quagga" in one["text"] for one in found["hits"])
    assert (await verdict(server, forked))["ok"]
