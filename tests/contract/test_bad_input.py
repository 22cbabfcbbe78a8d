"""What does not fit is answered with the documented 4xx, a clear detail, and nothing stored."""

import json
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

NOBODY = "123e4567-e89b-42d3-8456-426614174000"
DEEP = b'{"input": "x", "client_skills": [' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"]}"


@dataclass(frozen=True)
class Case:
    """A request, and what it is answered with; `says` must stand in the detail."""

    name: str
    method: str
    path: str
    status: int
    says: str
    body: Any = None
    raw: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


def post(name: str, path: str, body: Any, status: int, says: str) -> Case:
    return Case(name, "POST", path, status, says, body)


def get(name: str, path: str, status: int, says: str, **headers: str) -> Case:
    return Case(name, "GET", path, status, says, headers=tuple(headers.items()))


def patch(name: str, path: str, body: Any, status: int, says: str) -> Case:
    return Case(name, "PATCH", path, status, says, body)


def raw_post(name: str, raw: bytes, status: int, says: str) -> Case:
    return Case(name, "POST", "/v1/conversations/{conv}/messages", status, says, raw=raw)


CONV = "/v1/conversations/{conv}"
SEND = f"{CONV}/messages"
HELLO = b'{"input": "Hello!"}'
REBOUND = (("host", "rebound.example:8283"),)
PAGE = (("origin", "https://page.example"), ("content-type", "text/plain"))
CASES = [
    # wrong types and missing fields
    post("neither messages nor input", SEND, {}, 422, "exactly one of messages and input"),
    post(
        "both messages and input",
        SEND,
        {"messages": [{"role": "user", "content": "a"}], "input": "b"},
        422,
        "exactly one of messages and input",
    ),
    post("no messages", SEND, {"messages": []}, 422, "messages"),
    post("messages of a wrong type", SEND, {"messages": "hello"}, 422, "messages"),
    post("a message without a role", SEND, {"messages": [{"content": "a"}]}, 422, "role"),
    post(
        "a role that is none", SEND, {"messages": [{"role": "king", "content": "a"}]}, 422, "role"
    ),
    post(
        "content of a wrong type",
        SEND,
        {"messages": [{"role": "user", "content": 7}]},
        422,
        "content",
    ),
    post("empty words", SEND, {"input": ""}, 422, "input"),
    post(
        "a part that is none",
        SEND,
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        422,
        "content",
    ),
    post("a flag of a wrong type", SEND, {"input": "a", "streaming": "perhaps"}, 422, "streaming"),
    post("no steps at all", SEND, {"input": "a", "max_steps": 0}, 422, "max_steps"),
    post("too many steps", SEND, {"input": "a", "max_steps": 10**9}, 422, "max_steps"),
    post(
        "an unknown message type",
        SEND,
        {"input": "a", "include_return_message_types": ["smoke_message"]},
        422,
        "include_return_message_types",
    ),
    post(
        "an otid twice",
        SEND,
        {"messages": [{"role": "user", "content": "a", "otid": "1"}] * 2},
        422,
        "otid",
    ),
    post("a list for a body", SEND, [1, 2], 422, "dictionary"),
    post("an unknown model", SEND, {"input": "a", "override_model": "nobody/x"}, 404, "nobody/x"),
    post("a malformed model", SEND, {"input": "a", "override_model": "x"}, 400, "provider/model"),
    post(
        "a tool with a name that no vendor takes",
        SEND,
        {"input": "a", "client_tools": [{"name": "t t"}]},
        422,
        "client_tools",
    ),
    post("no agent", "/v1/conversations/", {}, 422, "agent_id"),
    post("an unknown agent", f"/v1/conversations/?agent_id=agent-{NOBODY}", {}, 404, NOBODY),
    post("a malformed agent", "/v1/conversations/?agent_id=x", {}, 422, "agent_id"),
    post(
        "a summary of a wrong type",
        "/v1/conversations/?agent_id={agent}",
        {"summary": 7},
        422,
        "summary",
    ),
    post(
        "a provider_type that is none",
        "/v1/conversations/?agent_id={agent}",
        {"model_settings": {"provider_type": "abacus"}},
        422,
        "provider_type",
    ),
    post(
        "a window limit below 1",
        "/v1/conversations/?agent_id={agent}",
        {"context_window_limit": 0},
        422,
        "context_window_limit",
    ),
    patch("an update without a body", CONV, None, 422, "JSON"),
    patch("a malformed model to keep", CONV, {"model": "x"}, 400, "provider/model"),
    post("an agent without a model", "/v1/agents/", {"name": "a"}, 400, "model is required"),
    post("an agent of an unknown model", "/v1/agents/", {"model": "nobody/x"}, 404, "nobody/x"),
    post("an agent with tools", "/v1/agents/", {"model": "demo/echo", "tools": ["x"]}, 404, "Tool"),
    post(
        "an agent with an unknown block",
        "/v1/agents/",
        {"model": "demo/echo", "block_ids": [f"block-{NOBODY}"]},
        404,
        NOBODY,
    ),
    post(
        "an agent with a label twice",
        "/v1/agents/",
        {"model": "demo/echo", "memory_blocks": [{"label": "a"}, {"label": "a"}]},
        409,
        "twice",
    ),
    post("a block without a label", "/v1/blocks/", {"value": "a"}, 422, "label"),
    post("a block of a wrong limit", "/v1/blocks/", {"label": "a", "limit": -1}, 422, "limit"),
    # ids
    get("an unknown conversation", f"/v1/conversations/conv-{NOBODY}", 404, NOBODY),
    get("a malformed conversation", "/v1/conversations/conv-1", 422, "conversation_id"),
    get("default where an id belongs", "/v1/conversations/default", 422, "conversation_id"),
    get("capitals in an id", f"/v1/conversations/conv-{NOBODY.upper()}", 422, "conversation_id"),
    get("an unknown agent to look at", f"/v1/agents/agent-{NOBODY}", 404, NOBODY),
    get("a malformed agent to look at", "/v1/agents/agent-1", 422, "agent_id"),
    get("an unknown block", f"/v1/blocks/block-{NOBODY}", 404, NOBODY),
    get("an unknown run", f"/v1/runs/run-{NOBODY}", 404, NOBODY),
    get("a malformed run", "/v1/runs/run-1", 400, "run-1"),
    get("an unknown label", "/v1/agents/{agent}/core-memory/blocks/nothing", 404, "nothing"),
    get("an unknown path", "/v1/nothing", 404, "Not Found"),
    Case("a wrong method", "PUT", CONV, 405, "Method Not Allowed"),
    post(
        "a message to nobody",
        f"/v1/conversations/conv-{NOBODY}/messages",
        {"input": "a"},
        404,
        NOBODY,
    ),
    post("a stream of nobody", f"/v1/conversations/conv-{NOBODY}/stream", {}, 404, NOBODY),
    post("a stream of no run", f"{CONV}/stream", {}, 400, "No active runs"),
    post("a stream of an unknown run", f"{CONV}/stream", {"run_id": f"run-{NOBODY}"}, 404, NOBODY),
    post("a stream of a malformed run", f"{CONV}/stream", {"run_id": "run-1"}, 400, "run-1"),
    post("a stream of an unknown otid", f"{CONV}/stream", {"otid": "x"}, 404, "otid=x"),
    post("a run's stream without a body", f"/v1/runs/run-{NOBODY}/stream", None, 422, "JSON"),
    get("a malformed user", "/v1/health/", 400, "user_id", user_id="user-1"),
    patch(
        "a window limit past all bounds", CONV, {"context_window_limit": 2**63}, 422, "2147483648"
    ),
    patch("a time before all time", CONV, {"last_message_at": "0001-01-01T00:00:00Z"}, 422, "1970"),
    patch("NUL in a summary", CONV, {"summary": "a\0b"}, 422, "NUL"),
    post("only spaces", SEND, {"input": "  "}, 422, "no words"),
    post(
        "an image that is none",
        SEND,
        {
            "input": [
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "!"},
                }
            ]
        },
        422,
        "base64",
    ),
    post(
        "a thousand times nothing",
        SEND,
        {"messages": [{"role": "user", "content": [{}] * 999}] * 99},
        422,
        "content",
    ),
    # pages and cursors
    get("a negative limit", "/v1/conversations/?limit=-1", 422, "limit"),
    get("a limit past the bound", "/v1/conversations/?limit=1000001", 422, "limit"),
    get("a limit that is no number", f"{SEND}?limit=many", 422, "limit"),
    get("runs without a limit", "/v1/runs/?limit=0", 422, "limit"),
    get("an order that is none", "/v1/conversations/?order=up", 422, "order"),
    get("a sort key that is none", "/v1/conversations/?order_by=colour", 422, "order_by"),
    get("an unknown cursor", f"/v1/conversations/?after=conv-{NOBODY}", 404, NOBODY),
    get("an unknown message cursor", f"{SEND}?after=message-{NOBODY}", 404, NOBODY),
    get("an unknown agent cursor", f"/v1/agents/?after=agent-{NOBODY}", 404, NOBODY),
    get("an unknown block cursor", f"/v1/blocks/?before=block-{NOBODY}", 404, NOBODY),
    get("an unknown run cursor", f"/v1/runs/?after=run-{NOBODY}", 404, NOBODY),
    get("a run status that is none", "/v1/runs/?statuses=asleep", 400, "asleep"),
    get("a stop reason that is none", "/v1/runs/?stop_reason=boredom", 422, "stop_reason"),
    # offsets
    get("an offset past the head", f"{CONV}/events?after=99", 409, "past the end"),
    get("a negative offset", f"{CONV}/events?after=-1", 422, "after"),
    get("an offset past all bounds", f"{CONV}/events?after={10**30}", 422, "after"),
    get("a fact type that is none", f"{CONV}/events?types=run.flown", 422, "run.flown"),
    get("a time that is none", f"{CONV}/events?since=yesterday", 422, "since"),
    get("a time without a zone", f"{CONV}/events?since=2026-01-01T00:00:00", 422, "since"),
    get("a window past the head", f"{CONV}/window?at=99", 409, "past the end"),
    get("a window before the start", f"{CONV}/window?at=0", 422, "at"),
    get(
        "a last event id that is none",
        f"{CONV}/events",
        422,
        "Last-Event-ID",
        accept="text/event-stream",
        **{"last-event-id": "soon"},
    ),
    get(
        "a followed offset past the head",
        f"{CONV}/events?after=99",
        409,
        "past the end",
        accept="text/event-stream",
    ),
    get(
        "following backwards",
        f"{CONV}/events?order=desc",
        422,
        "order=desc",
        accept="text/event-stream",
    ),
    # who calls
    Case("a name of elsewhere", "POST", SEND, 403, "rebound.example", raw=HELLO, headers=REBOUND),
    Case("a page of elsewhere", "POST", SEND, 403, "page.example", raw=HELLO, headers=PAGE),
    # bodies
    raw_post("no JSON", b"hello", 422, "JSON"),
    raw_post("half JSON", b'{"input": "a"', 422, "JSON"),
    raw_post("invalid UTF-8", b'{"input": "\xff\xfe"}', 422, "UTF-8"),
    raw_post("half a surrogate pair", rb'{"input": "\ud800"}', 422, "JSON"),
    raw_post("JSON that nests deep", DEEP, 422, "e"),
    raw_post(
        "JSON that nests deeper than we do",
        b'{"client_skills":' + b"[" * 99 + b"]" * 99 + b"}",
        422,
        "64",
    ),
    raw_post("a number of no end", b'{"input": "a", "max_steps": 1e999}', 422, "e"),
    raw_post(
        "more than 10 MiB", b'{"input": "' + b"a" * (10 * 1024 * 1024) + b'"}', 413, "10485760"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_input_is_turned_down_in_words_and_changes_nothing(
    case: Case, raw: httpx2.Client, agent_id: str, conversation_id: str
) -> None:
    before = raw.get(f"/v1/conversations/{conversation_id}/events").json()
    answer = raw.request(
        case.method,
        case.path.format(conv=conversation_id, agent=agent_id),
        content=case.raw if case.raw is not None else _json(case.body),
        headers=dict(case.headers),
    )
    assert answer.status_code == case.status, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str)
    assert case.says in detail
    assert raw.get(f"/v1/conversations/{conversation_id}/events").json() == before


def _json(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def test_a_body_that_never_says_its_size_is_cut_off_at_the_bound(
    raw: httpx2.Client, conversation_id: str
) -> None:
    def endless() -> Any:
        yield b'{"input": "'
        for _ in range(11):
            yield b"a" * 1024 * 1024
        yield b'"}'

    answer = raw.post(f"/v1/conversations/{conversation_id}/messages", content=endless())
    assert answer.status_code == 413


def test_a_conflict_that_will_not_pass_tells_the_client_not_to_retry(
    raw: httpx2.Client, conversation_id: str
) -> None:
    answer = raw.get(f"/v1/conversations/{conversation_id}/events", params={"after": 99})
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["head"] == 1


def test_a_validation_error_has_the_originals_shape(raw: httpx2.Client) -> None:
    answer = raw.get("/v1/conversations/conv-1")
    assert answer.json()["trace_id"] == ""
    assert answer.json()["examples"] == ["agent-123e4567-e89b-42d3-8456-426614174000"]


def test_a_url_that_is_too_long_is_told_as_everything_else_is(raw: httpx2.Client) -> None:
    answer = raw.get("/v1/blocks/", params={"label": "é" * 10_920})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert "65535 bytes" in answer.json()["detail"]


@pytest.mark.parametrize("zone", ["0" * 300, "Mars/Olympus", "../etc/passwd", "Europe"])
def test_a_time_zone_that_nobody_knows_is_turned_down(raw: httpx2.Client, zone: str) -> None:
    answer = raw.post("/v1/agents/", json={"model": "demo/echo", "timezone": zone})
    assert answer.status_code == 422
    assert "timezone" in answer.json()["detail"]
