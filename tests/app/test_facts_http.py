import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.mapper import event_json
from app.web.stream import GOODBYE, SILENCE, Wanted, facts_stream
from domain.agent import ChangeAgent
from domain.conversation import ChangeConversation, ConversationChanged, DeleteConversation
from domain.run import RunFinished
from domain.streams import system_message_id
from projections.window import window_of
from tests.app.serving import Server, serving
from tests.databases import opened, raw

UNKNOWN = "conv-99999999-9999-4999-8999-999999999999"
SSE = {"accept": "text/event-stream"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
async def talk(server: Server) -> str:
    """A conversation with a reply in it."""
    conversation_id = await server.conversation()
    await server.post(conversation_id, "Think!", stream_tokens=True)
    return conversation_id


def events_of(conversation_id: str) -> str:
    return f"/v1/conversations/{conversation_id}/events"


async def page(server: Server, stream: str, **query: Any) -> list[dict[str, Any]]:
    return (await server.get(events_of(stream), **query))["events"]


async def offsets(server: Server, stream: str, **query: Any) -> list[int]:
    return [event["offset"] for event in await page(server, stream, **query)]


async def rename(server: Server, stream: str, summary: str) -> None:
    command = ChangeConversation(ConversationChanged(summary=summary))
    await server.services.execute(stream, command, "user")


# --- pages ------------------------------------------------------------------------------------


async def test_a_page_shows_facts_as_they_are_stored(server: Server, talk: str) -> None:
    answer = await server.http.get(events_of(talk), params={"limit": 1000})
    rows = await server.services.log.read(talk)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["head"] == len(rows)
    spliced = b",".join(map(event_json, rows))
    assert answer.content == b'{"events":[' + spliced + f'],"head":{len(rows)}}}'.encode()
    first = answer.json()["events"][0]
    assert set(first) == {"offset", "type", "id", "at", "by", "v", "hash", "data"}
    assert (first["offset"], first["type"]) == (1, "conversation.started")
    assert (first["id"], first["by"], first["v"]) == (f"{talk}@1", "user", 1)


@pytest.mark.parametrize("limit", [1, 7, 100])
async def test_pages_forward_come_to_the_end_and_miss_nothing(
    server: Server, talk: str, limit: int
) -> None:
    head = len(await server.facts(talk))
    walked: list[int] = []
    while found := await offsets(server, talk, after=walked[-1] if walked else 0, limit=limit):
        walked += found
    assert walked == list(range(1, head + 1))


async def test_pages_backward_come_to_the_beginning_and_miss_nothing(
    server: Server, talk: str
) -> None:
    head = len(await server.facts(talk))
    walked = await offsets(server, talk, order="desc", limit=7)
    while found := await offsets(server, talk, order="desc", before=walked[-1], limit=7):
        walked += found
    assert walked == list(range(head, 0, -1))


async def test_after_and_before_bound_a_page_on_both_sides(server: Server, talk: str) -> None:
    assert await offsets(server, talk, after=2, before=6) == [3, 4, 5]
    assert await offsets(server, talk, after=2, before=6, order="desc") == [5, 4, 3]
    assert await offsets(server, talk, after=2, before=3) == []
    assert await offsets(server, talk, limit=0) == []


async def test_a_page_holds_the_types_asked_for(server: Server, talk: str) -> None:
    async def types(**query: Any) -> list[str]:
        return [event["type"] for event in await page(server, talk, **query)]

    assert await types(types="run.queued,run.finished") == ["run.queued", "run.finished"]
    assert await types(types=["run.queued", "run.claimed"]) == ["run.queued", "run.claimed"]
    assert await types(types="run.queued,run.finished", limit=1, order="desc") == ["run.finished"]
    assert set(await types(types="step.delta", limit=1000)) == {"step.delta"}
    assert await types(types="agent.created") == []


async def test_types_are_found_beyond_many_facts_of_others(server: Server) -> None:
    conversation_id = await server.conversation()
    events = [ConversationChanged(summary=f"{n}") for n in range(1200)]
    await server.services.log.append(conversation_id, 1, events, "user")
    await server.services.log.append(
        conversation_id, 1201, [ConversationChanged(summary="last")], "user"
    )
    assert await offsets(server, conversation_id, types="conversation.started", order="desc") == [1]
    newest = await page(
        server, conversation_id, types="conversation.changed", order="desc", limit=1
    )
    assert newest[0]["data"] == {"summary": "last"}


async def test_a_page_holds_the_time_asked_for(server: Server) -> None:
    conversation_id = await server.conversation()
    for name in ("a", "b", "c"):
        await asyncio.sleep(0.002)
        await rename(server, conversation_id, name)
    at = [fact.at.isoformat() for fact in await server.facts(conversation_id)]
    soon = (datetime.fromisoformat(at[3]) + timedelta(microseconds=1)).isoformat()
    assert await offsets(server, conversation_id, since=at[1]) == [2, 3, 4]
    assert await offsets(server, conversation_id, until=at[2]) == [1, 2]
    assert await offsets(server, conversation_id, since=at[1], until=at[3]) == [2, 3]
    assert await offsets(server, conversation_id, since=at[1], order="desc") == [4, 3, 2]
    assert await offsets(server, conversation_id, since=soon) == []
    assert await offsets(server, conversation_id, until=at[0]) == []
    assert await offsets(server, conversation_id, since=at[1], after=2, before=4) == [3]


async def test_a_cursor_past_the_end_is_a_conflict_that_no_retry_mends(
    server: Server, talk: str
) -> None:
    head = len(await server.facts(talk))
    assert await offsets(server, talk, after=head) == []
    for headers in ({}, SSE):
        answer = await server.http.get(events_of(talk), params={"after": head + 1}, headers=headers)
        assert answer.status_code == 409
        assert answer.headers["x-should-retry"] == "false"
        assert answer.json()["head"] == head
        assert answer.json()["detail"].startswith("CONFLICT: ")


@pytest.mark.parametrize(
    "query",
    [
        {"after": -1},
        {"after": 2**63},
        {"before": 0},
        {"limit": 1001},
        {"order": "up"},
        {"types": "no.such"},
        {"since": "yesterday"},
        {"since": "2026-01-01T00:00:00"},
    ],
    ids=str,
)
async def test_a_bad_query_is_answered_in_words(
    server: Server, talk: str, query: dict[str, Any]
) -> None:
    answer = await server.http.get(events_of(talk), params=query)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


async def test_a_stream_that_is_not_there_is_not_found(server: Server) -> None:
    for name in ("events", "window", "verify"):
        answer = await server.http.get(f"/v1/conversations/{UNKNOWN}/{name}")
        assert answer.status_code == 404
        assert answer.json() == {"detail": f"Conversation not found with id={UNKNOWN}"}


async def test_a_deleted_conversation_is_shown_only_if_asked_for(server: Server, talk: str) -> None:
    await server.services.execute(talk, DeleteConversation(), "user")
    for name in ("events", "window", "verify"):
        path = f"/v1/conversations/{talk}/{name}"
        assert (await server.http.get(path)).status_code == 404
        assert (await server.http.get(path, params={"deleted": True})).status_code == 200
    newest = await page(server, talk, deleted=True, order="desc", limit=1)
    assert newest[0]["type"] == "conversation.deleted"


# --- server-sent events -----------------------------------------------------------------------


def parsed(body: str) -> list[tuple[int, str, bytes]]:
    """Take a stream of events apart: offset, type, data."""
    blocks = [block.split("\n") for block in body.split("\n\n") if block]
    return [
        (
            int(number.removeprefix("id: ")),
            name.removeprefix("event: "),
            data.removeprefix("data: ").encode(),
        )
        for number, name, data in blocks
    ]


async def streamed(
    server: Server, stream: str, headers: dict[str, str] | None = None, **query: Any
) -> httpx2.Response:
    return await server.http.get(
        events_of(stream), params={"follow": False, **query}, headers=SSE | (headers or {})
    )


@pytest.mark.parametrize("after", [0, 3, 10])
async def test_what_is_streamed_is_what_a_page_shows_byte_for_byte(
    server: Server, talk: str, after: int
) -> None:
    answer = await streamed(server, talk, after=after)
    whole = await server.http.get(events_of(talk), params={"after": after, "limit": 1000})
    sent = parsed(answer.text)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b'{"events":[' + b",".join(data for _, _, data in sent) in whole.content
    for (offset, kind, _), event in zip(sent, whole.json()["events"], strict=True):
        assert (offset, kind) == (event["offset"], event["type"])


async def test_a_stream_ends_after_as_many_facts_as_are_asked_for(
    server: Server, talk: str
) -> None:
    whole = parsed((await streamed(server, talk)).text)
    assert len(whole) > 7
    for limit in (0, 1, 7, 1000):
        # It ends, though it would go on to follow.
        follow = limit <= 7
        some = await streamed(server, talk, limit=limit, follow=follow)
        assert parsed(some.text) == whole[:limit]
    types = "run.queued,run.finished"
    first = await streamed(server, talk, limit=1, types=types, follow=True)
    assert [kind for _, kind, _ in parsed(first.text)] == ["run.queued"]


async def test_a_client_that_reconnects_goes_on_after_the_last_event_that_it_saw(
    server: Server, talk: str
) -> None:
    whole = await streamed(server, talk)
    rest = await streamed(server, talk, {"last-event-id": "4"}, after=1)
    assert parsed(rest.text) == parsed(whole.text)[4:]
    assert (await streamed(server, talk, {"last-event-id": "0"}, after=3)).text == whole.text


@pytest.mark.parametrize("last", ["", "x", "-1", "1.5", "٣", "9" * 30])
async def test_a_last_event_id_that_is_no_offset_is_refused(
    server: Server, talk: str, last: str
) -> None:
    headers = {b"accept": b"text/event-stream", b"last-event-id": last.encode()}
    answer = await server.http.get(events_of(talk), headers=headers)
    assert answer.status_code == 422
    assert "Last-Event-ID" in answer.json()["detail"]


async def test_a_stream_holds_the_types_and_the_time_asked_for(server: Server, talk: str) -> None:
    facts = await server.facts(talk)
    kinds = [
        kind for _, kind, _ in parsed((await streamed(server, talk, types="run.claimed")).text)
    ]
    assert kinds == ["run.claimed"]
    late = facts[-1].at.isoformat()
    numbers = [number for number, *_ in parsed((await streamed(server, talk, since=late)).text)]
    assert numbers == [fact.version for fact in facts if fact.at >= facts[-1].at]


async def test_what_only_pages_can_do_is_refused_for_streams(server: Server, talk: str) -> None:
    pages: list[dict[str, Any]] = [{"order": "desc"}, {"before": 3}, {"until": "2026-01-01T00:00Z"}]
    for query in pages:
        answer = await streamed(server, talk, **query)
        assert answer.status_code == 422
        assert "server-sent events" in answer.json()["detail"]


async def test_a_stream_goes_on_as_facts_are_stored(server: Server) -> None:
    conversation_id = await server.conversation()
    pieces = await facts_stream(server.services, conversation_id, 0, Wanted())
    async with asyncio.timeout(30):
        first = await anext(pieces)
        await rename(server, conversation_id, "a")
        second = await anext(pieces)
        await rename(server, conversation_id, "b")
        third = await anext(pieces)
    assert [number for number, *_ in parsed((first + second + third).decode())] == [1, 2, 3]
    whole = await streamed(server, conversation_id)
    assert first + second + third == whole.content


async def test_two_readers_of_a_live_run_get_the_same_bytes_from_their_own_places(
    tmp_path: Path,
) -> None:

    async with serving(tmp_path / "a.db", demo_word_delay_s=0.001) as server:
        conversation_id = await server.conversation(model="demo/steady")
        async with asyncio.timeout(30):
            reading = asyncio.create_task(_read_run(server, conversation_id, 0))
            await server.post(conversation_id, "Think!")
            whole, rest = await reading, await _read_run(server, conversation_id, 5)
        again = (await streamed(server, conversation_id)).content
    assert whole.endswith(rest)
    assert whole == again


async def _read_run(server: Server, stream: str, after: int) -> bytes:
    body = b""
    async for piece in await facts_stream(server.services, stream, after, Wanted()):
        body += piece
        if b"event: run.finished\n" in body:
            break
    return body


async def test_while_nothing_happens_a_stream_says_that_it_is_there(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db", ping_interval_s=0.01) as server:
        conversation_id = await server.conversation()
        pieces = await facts_stream(server.services, conversation_id, 1, Wanted())
        async with asyncio.timeout(30):
            assert await anext(pieces) == SILENCE
            await rename(server, conversation_id, "a")
            while (piece := await anext(pieces)) == SILENCE:
                pass
    assert parsed(piece.decode())[0][:2] == (2, "conversation.changed")


async def test_a_shutdown_says_goodbye_to_who_follows(server: Server) -> None:
    conversation_id = await server.conversation()
    pieces = await facts_stream(server.services, conversation_id, 0, Wanted())
    async with asyncio.timeout(30):
        first = await anext(pieces)
        server.tail.close()
        rest = [piece async for piece in pieces]
    assert parsed(first.decode())[0][0] == 1
    assert rest == [GOODBYE]


async def test_a_client_that_goes_away_ends_its_stream(server: Server) -> None:
    conversation_id = await server.conversation()
    sent: list[dict[str, Any]] = []
    told = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            told.set()

    async def receive() -> dict[str, Any]:
        await told.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": events_of(conversation_id),
        "query_string": b"",
        "headers": [(b"accept", b"text/event-stream")],
    }
    async with asyncio.timeout(30):
        await server.app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"]


# --- other streams ----------------------------------------------------------------------------


async def test_agents_and_blocks_have_facts_and_chains_too(server: Server) -> None:
    agent_id = await server.agent()
    await server.services.execute(agent_id, ChangeAgent({"name": "Grace"}), "user")
    created = await server.http.post("/v1/blocks/", json={"label": "a", "value": "b"})
    for name, stream, types in (
        ("agents", agent_id, ["agent.created", "agent.changed"]),
        ("blocks", created.json()["id"], ["block.created"]),
    ):
        facts = await server.get(f"/v1/{name}/{stream}/events")
        verdict = await server.get(f"/v1/{name}/{stream}/verify")
        assert [event["type"] for event in facts["events"]] == types
        assert (verdict["ok"], verdict["head"]) == (True, len(types))
        events = await server.http.get(
            f"/v1/{name}/{stream}/events", params={"follow": False}, headers=SSE
        )
        assert [kind for _, kind, _ in parsed(events.text)] == types


# --- the window -------------------------------------------------------------------------------


async def test_the_window_at_every_offset_is_the_fold_of_the_facts_up_to_it(
    server: Server, talk: str
) -> None:
    facts, answer = await server.facts(talk), None
    for at in range(1, len(facts) + 1):
        window = window_of(facts[:at])
        answer = await server.get(f"/v1/conversations/{talk}/window", at=at)
        assert answer["at"] == at
        assert [(one["offset"], one["message_id"]) for one in answer["messages"]] == [
            (item.offset, item.message_id) for item in window.items
        ]
    newest = await server.get(f"/v1/conversations/{talk}/window")
    assert newest == answer


async def test_a_window_says_where_each_part_of_it_comes_from(server: Server, talk: str) -> None:
    window = await server.get(f"/v1/conversations/{talk}/window")
    assert set(window) == {
        "at",
        "system",
        "summary",
        "messages",
        "tokens",
        "cutoff",
        "compaction_id",
    }
    assert (window["system"]["offset"], window["system"]["text"]) == (1, "You are kind.")
    assert window["system"]["message_id"] == system_message_id(talk)
    user, reply = window["messages"]
    assert (user["role"], user["parts"]) == ("user", [{"type": "text", "text": "Think!"}])
    assert [part["type"] for part in reply["parts"]] == ["reasoning", "text"]
    assert (window["cutoff"], window["summary"]) == (user["offset"], None)
    assert window["tokens"]["reported_at"] == reply["offset"]
    facts = await server.facts(talk)
    usage = next(fact.event.usage for fact in facts if isinstance(fact.event, RunFinished))
    assert window["tokens"]["total"] == usage.input_tokens + usage.output_tokens


async def test_a_window_past_the_end_is_a_conflict_and_there_is_none_at_zero(
    server: Server, talk: str
) -> None:
    head = len(await server.facts(talk))
    path = f"/v1/conversations/{talk}/window"
    past = await server.http.get(path, params={"at": head + 1})
    zero = await server.http.get(path, params={"at": 0})
    assert (past.status_code, past.json()["head"]) == (409, head)
    assert zero.status_code == 422


# --- verify -----------------------------------------------------------------------------------


async def test_an_intact_chain_is_confirmed(server: Server, talk: str) -> None:
    verdict = await server.get(f"/v1/conversations/{talk}/verify")
    newest = await page(server, talk, order="desc", limit=1)
    assert verdict == {
        "ok": True,
        "head": newest[0]["offset"],
        "hash": newest[0]["hash"],
        "first_bad": None,
        "reason": None,
    }


async def test_a_changed_fact_is_found(server: Server, talk: str) -> None:
    await server.stop()
    await asyncio.to_thread(_forge, server.database, talk, 3)
    await server.start()
    verdict = await server.get(f"/v1/conversations/{talk}/verify")
    assert not verdict["ok"]
    assert verdict["first_bad"] == 3
    assert verdict["reason"]


def _forge(path: Path, stream: str, version: int) -> None:
    store = opened(path)
    (row,) = store.read(stream, after=version - 1, limit=1)
    store.close()
    with raw(path) as connection:
        connection.execute(
            "UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = ?",
            (row.state + b" ", stream, version),
        )
