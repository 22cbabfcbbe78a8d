import asyncio
from collections.abc import AsyncGenerator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest

from app.providers import Delta, ModelError, Reply
from domain.content import Text
from domain.conversation import DeleteConversation, MessageQueued
from domain.run import RunFinished, RunQueued, StepDelta
from projections.request import ModelRequest
from tests.app.serving import Said, Scripted, Server, frames_of, kinds_of, serving

UNKNOWN = "conv-99999999-9999-4999-8999-999999999999"
NO_MESSAGE = "message-99999999-9999-4999-8999-999999999999"
NO_RUN = "run-99999999-9999-4999-8999-999999999999"


class Gated:
    """A model that says two words and, between them, waits to be let through."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _: ModelRequest) -> Said:
        yield Delta(0, "text", "Good ")
        await self.opened.wait()
        yield Delta(0, "text", "day.")
        yield Reply((Text(text="Good day."),))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
async def gate() -> Gated:
    return Gated()


@pytest.fixture
async def gated(tmp_path: Path, gate: Gated) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "gated.db", Scripted(gate)) as running:
        yield running


def messages_of(conversation_id: str) -> str:
    return f"/v1/conversations/{conversation_id}/messages"


async def listed(server: Server, conversation_id: str, **query: Any) -> list[dict[str, Any]]:
    return await server.get(messages_of(conversation_id), **query)


def ids(messages: list[dict[str, Any]]) -> list[str]:
    """Name stored messages in their order, each once."""
    return list(dict.fromkeys(one["id"] for one in messages))


async def with_turns(server: Server, *words: str) -> str:
    conversation_id = await server.conversation()
    for one in words:
        await server.post(conversation_id, one, streaming=False)
    return conversation_id


# --- list -------------------------------------------------------------------------------------


async def test_a_new_conversation_lists_its_system_prompt(server: Server) -> None:
    (message,) = await listed(server, await server.conversation())
    assert (message["message_type"], message["content"]) == ("system_message", "You are kind.")


async def test_messages_are_listed_newest_first_or_oldest_first(server: Server) -> None:
    conversation_id = await with_turns(server, "Think!", "And now?")
    oldest_first = await listed(server, conversation_id, order="asc")
    assert [one["message_type"] for one in oldest_first] == [
        "system_message",
        "user_message",
        "reasoning_message",
        "assistant_message",
        "user_message",
        "assistant_message",
    ]
    assert await listed(server, conversation_id) == oldest_first[::-1]


@pytest.mark.parametrize(
    ("order", "cursor"), [("asc", "after"), ("desc", "before"), ("desc", "after")]
)
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_a_cursor_walks_to_the_end_and_sees_every_message_once(
    server: Server, order: str, cursor: str, limit: int
) -> None:
    conversation_id = await with_turns(server, "Think!", "One.", "Think of two!", "Three.")
    whole = await listed(server, conversation_id, order=order)
    walked = page = await listed(server, conversation_id, order=order, limit=limit)
    while page:
        query = {"order": order, "limit": limit, cursor: page[-1]["id"]}
        page = await listed(server, conversation_id, **query)
        assert len(ids(page)) <= limit
        walked += page
    assert walked == whole


async def test_ascending_before_a_message_gives_those_just_before_it(server: Server) -> None:
    conversation_id = await with_turns(server, "One.", "Think of two!", "Three.")
    whole = ids(await listed(server, conversation_id, order="asc"))
    page = await listed(server, conversation_id, order="asc", before=whole[5], limit=2)
    assert ids(page) == whole[3:5]
    rest = await listed(server, conversation_id, order="asc", before=whole[3])
    assert ids(rest) == whole[:3]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_two_cursors_bound_a_list_on_both_sides(server: Server, order: str) -> None:
    conversation_id = await with_turns(server, "One.", "Two.", "Three.")
    whole = ids(await listed(server, conversation_id, order="asc"))
    query = {"order": order, "after": whole[1], "before": whole[5]}
    between = ids(await listed(server, conversation_id, **query))
    assert between == (whole[2:5] if order == "asc" else whole[4:1:-1])


async def test_a_limit_counts_messages_and_never_parts_them(server: Server) -> None:
    conversation_id = await with_turns(server, "Think!")
    newest = await listed(server, conversation_id, limit=1)
    assert [one["message_type"] for one in newest] == ["assistant_message", "reasoning_message"]
    assert await listed(server, conversation_id, limit=0) == []


async def test_filters_are_applied_after_the_limit(server: Server) -> None:
    conversation_id = await with_turns(server, "Think!")
    query: dict[str, Any] = {"include_return_message_types": ["user_message", "reasoning_message"]}
    both = await listed(server, conversation_id, **query)
    assert [one["message_type"] for one in both] == ["reasoning_message", "user_message"]
    newest = await listed(server, conversation_id, limit=1, **query)
    assert [one["message_type"] for one in newest] == ["reasoning_message"]


async def test_a_page_in_the_middle_of_many_is_the_same_from_both_ends(server: Server) -> None:
    conversation_id = await with_turns(server, *(f"Number {n}." for n in range(30)))
    whole = await listed(server, conversation_id, order="asc")
    assert len(whole) == 61
    back = await listed(server, conversation_id, before=whole[40]["id"], limit=35)
    forth = await listed(server, conversation_id, order="asc", after=whole[4]["id"], limit=35)
    assert back[::-1] == forth == whole[5:40]


async def test_a_cursor_that_is_no_message_of_the_conversation_is_not_found(
    server: Server,
) -> None:
    conversation_id = await with_turns(server, "One.")
    other = await listed(server, await server.conversation())
    for cursor in (NO_MESSAGE, "nonsense", other[0]["id"]):
        for name in ("after", "before"):
            answer = await server.http.get(messages_of(conversation_id), params={name: cursor})
            assert answer.status_code == 404
            assert answer.json() == {"detail": f"Message not found with id={cursor}"}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": -1},
        {"limit": 1001},
        {"limit": "x"},
        {"order": "up"},
        {"include_return_message_types": "no_message"},
    ],
    ids=str,
)
async def test_a_bad_query_is_answered_in_words(server: Server, query: dict[str, Any]) -> None:
    answer = await server.http.get(messages_of(UNKNOWN), params=query)
    assert answer.status_code == 422
    assert answer.json()["trace_id"] == ""
    assert isinstance(answer.json()["detail"], str)


async def test_an_unknown_conversation_lists_nothing(server: Server) -> None:
    assert await listed(server, UNKNOWN) == []


async def test_a_deleted_conversation_lists_nothing_and_is_otherwise_gone(server: Server) -> None:
    conversation_id = await with_turns(server, "One.")
    await server.services.execute(conversation_id, DeleteConversation(), "user")
    assert await listed(server, conversation_id) == []
    post = await server.post(conversation_id)
    resume = await server.http.post(f"/v1/conversations/{conversation_id}/stream", json={})
    assert (post.status_code, resume.status_code) == (404, 404)
    assert post.json() == {"detail": f"Conversation not found with id={conversation_id}"}


@pytest.mark.parametrize(
    ("name", "status"), [("default", 400), ("agent-11111111-1111-4111-8111-111111111111", 404)]
)
async def test_a_conversation_of_no_agent_is_not_there(
    server: Server, name: str, status: int
) -> None:
    assert (await server.http.get(messages_of(name))).json() == []
    assert (await server.post(name)).status_code == 404
    resume = await server.http.post(f"/v1/conversations/{name}/stream", json={})
    assert resume.status_code == status


@pytest.mark.parametrize("name", ["conv-1", "x", "run-11111111-1111-4111-8111-111111111111"])
async def test_a_malformed_id_is_refused_before_anything_is_looked_up(
    server: Server, name: str
) -> None:
    answer = await server.http.get(messages_of(name))
    assert answer.status_code == 422
    assert answer.json()["examples"] == ["agent-123e4567-e89b-42d3-8456-426614174000"]


# --- create: streams --------------------------------------------------------------------------


async def test_a_stream_is_told_as_one_in_its_headers(server: Server) -> None:
    answer = await server.post(await server.conversation())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "content-length" not in answer.headers


async def test_a_stream_begins_with_a_ping_and_ends_with_why_how_much_and_done(
    server: Server,
) -> None:
    answer = await server.post(await server.conversation())
    frames = frames_of(answer.text)
    assert kinds_of(frames) == ["ping", "assistant_message", "stop_reason", "usage_statistics"]
    assert "event:" not in answer.text
    assert "id:" not in answer.text.replace('"id":', "").replace("_id", "")
    assert frames[-2]["stop_reason"] == "end_turn"
    assert frames[-1]["step_count"] == 1


async def test_frames_of_foreground_runs_are_numbered_too(server: Server) -> None:
    conversation_id = await server.conversation()
    frames = frames_of((await server.post(conversation_id, stream_tokens=True)).text)
    numbers = [frame["seq_id"] for frame in frames if "seq_id" in frame]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == len(frames) - 2
    offsets = {fact.version for fact in await server.facts(conversation_id)}
    assert set(numbers) <= offsets


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "whole"])
async def test_what_is_streamed_is_what_is_listed(server: Server, tokens: bool) -> None:
    conversation_id = await server.conversation()
    answer = await server.post(conversation_id, "Think!", stream_tokens=tokens)
    joined: dict[str, str] = {}
    for frame in frames_of(answer.text):
        if frame.get("otid"):
            words = frame.get("content") or frame.get("reasoning") or ""
            joined[frame["otid"]] = joined.get(frame["otid"], "") + words
    kept = (await listed(server, conversation_id, order="asc"))[2:]
    assert joined == {one["otid"]: one.get("content") or one.get("reasoning") for one in kept}


async def test_without_pings_a_stream_begins_with_words(server: Server) -> None:
    answer = await server.post(await server.conversation(), include_pings=False)
    assert kinds_of(frames_of(answer.text))[0] == "assistant_message"


async def test_while_nothing_is_said_pings_repeat_the_last_number(
    tmp_path: Path, gate: Gated
) -> None:
    async with serving(tmp_path / "a.db", Scripted(gate), ping_interval_s=0.01) as server:
        conversation_id = await server.conversation(model="script/x")
        post = asyncio.create_task(server.post(conversation_id, stream_tokens=True))
        await server.until_there_is(conversation_id, StepDelta)
        await asyncio.sleep(0.1)
        gate.opened.set()
        frames = frames_of((await post).text)
    alive = [frame for frame in frames[1:] if frame["message_type"] == "ping"]
    assert alive
    assert {frame["run_id"] for frame in alive} == {frames[0]["run_id"]}
    numbers = [frame["seq_id"] for frame in frames if "seq_id" in frame]
    assert numbers == sorted(numbers)


async def test_a_filter_drops_words_and_never_the_ping_or_the_end(server: Server) -> None:
    answer = await server.post(
        await server.conversation(),
        "Think!",
        include_return_message_types=["reasoning_message"],
    )
    assert kinds_of(frames_of(answer.text)) == [
        "ping",
        "reasoning_message",
        "stop_reason",
        "usage_statistics",
    ]


async def test_a_failed_run_ends_with_an_error_event_and_without_usage(tmp_path: Path) -> None:
    async def failing(_: ModelRequest) -> Said:
        yield Delta(0, "text", "Goo")
        raise ModelError("llm_timeout", "Too slow.", detail="after 120 s")

    async with serving(tmp_path / "a.db", Scripted(failing)) as server:
        answer = await server.post(await server.conversation(model="script/x"))
    *_, stop, error, done, rest = answer.text.split("\n\n")
    name, data = error.split("\n")
    shown = orjson.loads(data.removeprefix("data: "))
    assert answer.status_code == 200
    assert orjson.loads(stop.removeprefix("data: "))["stop_reason"] == "llm_api_error"
    assert name == "event: error"
    assert (shown["error_type"], shown["detail"]) == ("llm_timeout", "after 120 s")
    assert (done, rest) == ("data: [DONE]", "")


async def test_what_was_said_is_kept_word_for_word(server: Server) -> None:
    conversation_id = await server.conversation()
    otid = str(uuid4())
    parts = [
        {"type": "text", "text": "Look: "},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a"}},
    ]
    body = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": parts, "otid": otid},
        ]
    }
    answer = await server.http.post(messages_of(conversation_id), json=body)
    assert answer.status_code == 200
    _, system, user, _ = await listed(server, conversation_id, order="asc")
    assert (system["message_type"], system["content"]) == ("system_message", "Be brief.")
    assert (user["content"], user["otid"]) == (parts, otid)


# --- create: documents ------------------------------------------------------------------------


async def test_a_document_holds_what_came_out_and_not_what_was_put_in(server: Server) -> None:
    conversation_id = await server.conversation()
    answer = await server.post(conversation_id, "Think!", streaming=False)
    document = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert set(document) == {"messages", "stop_reason", "usage", "logprobs", "turns"}
    assert document["stop_reason"] == {"message_type": "stop_reason", "stop_reason": "end_turn"}
    assert document["usage"]["message_type"] == "usage_statistics"
    assert (document["logprobs"], document["turns"]) == (None, None)
    assert document["messages"] == (await listed(server, conversation_id, order="asc"))[2:]


async def test_a_documents_messages_are_filtered(server: Server) -> None:
    answer = await server.post(
        await server.conversation(),
        "Think!",
        streaming=False,
        include_return_message_types=["assistant_message"],
    )
    assert [one["message_type"] for one in answer.json()["messages"]] == ["assistant_message"]


@pytest.mark.parametrize(
    ("error_type", "status"),
    [
        ("llm_authentication", 401),
        ("llm_insufficient_credits", 402),
        ("llm_rate_limit", 429),
        ("llm_bad_request", 400),
        ("context_window_overflow", 400),
        ("llm_timeout", 504),
        ("llm_error", 500),
        ("stream_incomplete", 500),
    ],
)
async def test_a_failed_document_is_an_error_of_its_kind(
    tmp_path: Path, error_type: Any, status: int
) -> None:
    async def failing(_: ModelRequest) -> Said:
        yield Delta(0, "text", "Goo")
        raise ModelError(error_type, "No.")

    async with serving(tmp_path / "a.db", Scripted(failing)) as server:
        answer = await server.post(await server.conversation(model="script/x"), streaming=False)
    assert answer.status_code == status
    error = {"type": error_type, "message": "No.", "detail": None}
    told = {"detail": "CONTEXT_WINDOW_EXCEEDED: No."}
    overflowed = error_type == "context_window_overflow"
    assert answer.json() == {"error": error, **(told if overflowed else {})}


# --- create: refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": "a", "messages": [{"role": "user", "content": "a"}]},
        {"messages": []},
        {"messages": [{"content": "a"}]},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"input": "a", "max_steps": 0},
        {"input": "a", "include_return_message_types": ["no_message"]},
        {
            "messages": [
                {"role": "user", "content": "a", "otid": "1"},
                {"role": "user", "content": "b", "otid": "1"},
            ]
        },
    ],
    ids=[
        "neither",
        "both",
        "none",
        "no role",
        "no content",
        "bad role",
        "no steps",
        "bad filter",
        "one otid twice",
    ],
)
async def test_a_bad_request_records_nothing(server: Server, body: dict[str, Any]) -> None:
    conversation_id = await server.conversation()
    answer = await server.http.post(messages_of(conversation_id), json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert len(await server.facts(conversation_id)) == 1


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_an_unknown_model_is_refused_before_anything_is_recorded(
    server: Server, streaming: bool
) -> None:
    conversation_id = await server.conversation()
    unknown = await server.post(conversation_id, streaming=streaming, override_model="no/model")
    malformed = await server.post(conversation_id, streaming=streaming, override_model="model")
    assert unknown.status_code == 404
    assert unknown.json()["detail"].startswith(
        "NOT_FOUND: Handle no/model not found, must be one of ["
    )
    assert malformed.status_code == 400
    assert malformed.json()["detail"].startswith("INVALID_ARGUMENT: ")
    assert len(await server.facts(conversation_id)) == 1


ANSWERS: list[Any] = [
    {"messages": [{"type": "approval", "approvals": []}]},
    {"messages": [{"type": "approval", "approve": True}]},
    {"messages": [{"type": "tool_return", "tool_returns": []}]},
    {"messages": [{"type": "tool_return", "tool_returns": [{"tool_call_id": "1"}]}]},
    {"messages": [{"role": "user", "content": "a"}, {"type": "tool_return", "tool_returns": [{}]}]},
]


@pytest.mark.parametrize("body", ANSWERS, ids=str)
async def test_an_answer_to_tools_that_is_none_is_refused(
    server: Server, body: dict[str, Any]
) -> None:
    conversation_id = await server.conversation()
    answer = await server.http.post(messages_of(conversation_id), json=body)
    assert answer.status_code == 422
    assert len(await server.facts(conversation_id)) == 1


async def test_who_said_something_is_kept_whether_it_had_to_wait_or_not(
    gated: Server, gate: Gated
) -> None:
    conversation_id = await gated.conversation(model="script/x")
    path = messages_of(conversation_id)
    asking: list[asyncio.Task[Any]] = []
    for name, until in (("Ada", StepDelta), ("Ines", MessageQueued)):
        said = {"role": "user", "content": "Hello!", "name": name, "sender_id": f"user-{name}"}
        body = {"messages": [said], "streaming": False}
        asking.append(asyncio.create_task(gated.http.post(path, json=body)))
        await gated.until_there_is(conversation_id, until)
    gate.opened.set()
    assert [one.status_code for one in await asyncio.gather(*asking)] == [200, 200]
    shown = [
        (one["message_type"], one["name"], one["sender_id"])
        for one in await listed(gated, conversation_id, order="asc")
    ]
    assert shown == [
        ("system_message", None, None),
        ("user_message", "Ada", "user-Ada"),
        ("assistant_message", None, None),
        ("user_message", "Ines", "user-Ines"),
        ("assistant_message", None, None),
    ]


async def test_more_requests_than_may_wait_are_asked_to_come_back_later(
    gated: Server, gate: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("domain.conversation.queueing")
    monkeypatch.setattr(module, "WAITING_RUNS_MAX", 2)
    conversation_id = await gated.conversation(model="script/x")
    first = asyncio.create_task(gated.post(conversation_id, streaming=False))
    await gated.until_there_is(conversation_id, StepDelta)
    second = asyncio.create_task(gated.post(conversation_id, streaming=False))
    await gated.until_there_is(conversation_id, MessageQueued)
    third = await gated.post(conversation_id, streaming=False)
    gate.opened.set()
    answers = await asyncio.gather(first, second)
    assert third.status_code == 429
    assert third.headers["retry-after"] == "1"
    assert third.json()["detail"].startswith("RATE_LIMIT_EXCEEDED: 2 requests are waiting")
    assert [answer.status_code for answer in answers] == [200, 200]


@pytest.mark.parametrize(
    "body",
    [b'{"input": "' + b"a" * 2000 + b'"}', b'{"input": ' + b"[" * 400 + b"]" * 400 + b"}"],
    ids=["large", "deep"],
)
async def test_what_is_too_large_or_too_deep_is_not_taken_in(tmp_path: Path, body: bytes) -> None:
    async def pieces() -> AsyncGenerator[bytes]:
        yield body

    async with serving(tmp_path / "a.db", body_bytes_max=1024) as server:
        conversation_id = await server.conversation()
        path, expected = messages_of(conversation_id), 413 if len(body) > 1024 else 422
        for content in (body, pieces()):
            answer = await server.http.post(path, content=content)
            assert answer.status_code == expected
            assert isinstance(answer.json()["detail"], str)
        assert len(await server.facts(conversation_id)) == 1


async def test_an_unknown_conversation_is_not_found(server: Server) -> None:
    answer = await server.post(UNKNOWN)
    assert answer.status_code == 404
    assert answer.json() == {"detail": f"Conversation not found with id={UNKNOWN}"}


# --- resume -----------------------------------------------------------------------------------


async def resumed(server: Server, conversation_id: str, **body: Any) -> Any:
    return await server.http.post(f"/v1/conversations/{conversation_id}/stream", json=body)


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "whole"])
async def test_a_resume_from_any_offset_sends_the_rest_byte_for_byte(
    server: Server, tokens: bool
) -> None:
    conversation_id = await server.conversation()
    await server.post(conversation_id, "Before.")
    answer = await server.post(conversation_id, "Think!", stream_tokens=tokens)
    run_id = frames_of(answer.text)[0]["run_id"]
    await server.post(conversation_id, "After.")
    head = len(await server.facts(conversation_id))
    (end,) = [
        fact.version
        for fact in await server.facts(conversation_id)
        if isinstance(fact.event, RunFinished) and fact.event.run_id == run_id
    ]
    numbered = [(frame.get("seq_id"), frame) for frame in frames_of(answer.text)]
    blocks = answer.text.removesuffix("\n\n").split("\n\n")
    for cut in range(head + 1):
        rest = await resumed(server, conversation_id, run_id=run_id, starting_after=cut)
        left = [
            block
            for block, (number, _) in zip(blocks, [*numbered, (None, {})], strict=True)
            if number is None or number > cut
        ]
        expected = left if cut < end else ["data: [DONE]"]
        assert rest.text.removesuffix("\n\n").split("\n\n") == expected


async def test_a_run_is_resumed_by_the_otid_of_any_of_its_messages(server: Server) -> None:
    conversation_id = await server.conversation()
    otids = [str(uuid4()), "mine"]
    body = {"messages": [{"role": "user", "content": "a", "otid": otid} for otid in otids]}
    first = await server.http.post(messages_of(conversation_id), json=body)
    for otid in otids:
        again = await resumed(server, conversation_id, otid=otid)
        assert again.text == first.text


async def test_an_otid_may_be_asked_for_before_its_message_is_there(server: Server) -> None:
    conversation_id = await server.conversation()
    early = asyncio.create_task(resumed(server, conversation_id, otid="late"))
    await asyncio.sleep(0.05)
    body = {"messages": [{"role": "user", "content": "a", "otid": "late"}]}
    first = await server.http.post(messages_of(conversation_id), json=body)
    assert (await early).text == first.text


async def test_an_otid_that_never_comes_is_not_found(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.messages.OTID_WAITS_S", (0.01,))
    conversation_id = await server.conversation()
    answer = await resumed(server, conversation_id, otid="never")
    assert answer.status_code == 404
    assert answer.json() == {"detail": "No run found for otid=never"}


async def test_an_otid_of_another_conversation_is_not_found(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.web.messages.OTID_WAITS_S", ())
    body = {"messages": [{"role": "user", "content": "a", "otid": "mine"}]}
    await server.http.post(messages_of(await server.conversation()), json=body)
    answer = await resumed(server, await server.conversation(), otid="mine")
    assert answer.status_code == 404


async def test_without_a_name_the_newest_run_that_is_not_over_is_resumed(
    gated: Server, gate: Gated
) -> None:
    conversation_id = await gated.conversation(model="script/x")
    first = asyncio.create_task(gated.post(conversation_id, streaming=False))
    await gated.until_there_is(conversation_id, StepDelta)
    second = asyncio.create_task(gated.post(conversation_id, streaming=False))
    facts = await gated.until_there_is(conversation_id, MessageQueued)
    newest = [fact.event for fact in facts if isinstance(fact.event, RunQueued)][-1].run_id
    reader = await gated.reader(f"/v1/conversations/{conversation_id}/stream", b"{}")
    gate.opened.set()
    assert frames_of(await reader.whole())[0]["run_id"] == newest
    await asyncio.gather(first, second)


async def test_a_body_is_not_needed_to_resume(gated: Server, gate: Gated) -> None:
    conversation_id = await gated.conversation(model="script/x")
    first = asyncio.create_task(gated.post(conversation_id))
    await gated.until_there_is(conversation_id, StepDelta)
    reader = await gated.reader(f"/v1/conversations/{conversation_id}/stream")
    gate.opened.set()
    assert await reader.whole() == (await first).content


async def test_with_no_run_under_way_there_is_nothing_to_resume(server: Server) -> None:
    conversation_id = await with_turns(server, "One.")
    answer = await resumed(server, conversation_id)
    assert answer.status_code == 400
    assert answer.json() == {"detail": "No active runs found for this conversation."}


async def test_a_run_is_resumed_in_its_own_conversation_only(server: Server) -> None:
    run_id = frames_of((await server.post(await server.conversation())).text)[0]["run_id"]
    for run, status in ((run_id, 404), (NO_RUN, 404), ("run-1", 400)):
        answer = await resumed(server, await server.conversation(), run_id=run)
        assert answer.status_code == status
        assert isinstance(answer.json()["detail"], str)


async def test_a_cursor_past_the_end_is_a_conflict_that_no_retry_mends(server: Server) -> None:
    conversation_id = await server.conversation()
    run_id = frames_of((await server.post(conversation_id)).text)[0]["run_id"]
    head = len(await server.facts(conversation_id))
    answer = await resumed(server, conversation_id, run_id=run_id, starting_after=head + 1)
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["head"] == head
    assert answer.json()["detail"].startswith("CONFLICT: ")


async def test_a_resume_in_the_middle_of_a_call_still_says_whose_arguments_they_are(
    tmp_path: Path,
) -> None:
    """Also if somebody has queued another message since the step started."""
    going_on, ending = asyncio.Event(), asyncio.Event()

    async def calling(_: ModelRequest) -> Said:
        yield Delta(0, "arguments", "{", call_id="call-1", call_name="weather")
        await going_on.wait()
        yield Delta(0, "arguments", "}")
        await ending.wait()
        raise ModelError("llm_error", "No.")

    async with serving(tmp_path / "a.db", Scripted(calling)) as server:
        conversation_id = await server.conversation(model="script/x")
        first = asyncio.create_task(server.post(conversation_id, stream_tokens=True))
        await server.until_there_is(conversation_id, StepDelta)
        waiting = asyncio.create_task(server.post(conversation_id, streaming=False))
        cut = len(await server.until_there_is(conversation_id, MessageQueued))
        going_on.set()
        await server.until(conversation_id, lambda facts: len(facts) > cut)
        ending.set()
        whole, _ = await asyncio.gather(first, waiting)
        run_id = frames_of(whole.text)[0]["run_id"]
        rest = await resumed(server, conversation_id, run_id=run_id, starting_after=cut)
    assert frames_of(rest.text)[0]["tool_call"]["tool_call_id"] == "call-1"
    assert whole.text.endswith(rest.text)
