"""A model that summarises its own window: the vendor gets what it has cached, byte for byte."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from domain.conversation import WindowCompacted
from projections.prompts import CLOSING, PAUSE, PROMPTS
from tests.app.compacting import LIMIT, LONG, compacted, done, window_of
from tests.app.serving import Server
from tests.app.test_rebuilding import MODEL, calls, says, telling
from tests.vendor import Block, Received, Script, Vendor, words

ALL: Final = "self_compact_all"
SLIDING: Final = "self_compact_sliding_window"
MODES: Final = (ALL, SLIDING)
WEATHER: Any = [
    {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
SKILLS: Any = [{"name": "pdf & co", "description": "Reads <pages>.", "location": "/skills"}]


def sized(tokens: int, *blocks: Block) -> Script:
    """Reply, and report that the request had so many tokens."""
    usage = {"input_tokens": tokens, "output_tokens": 1}
    return Script(blocks or (Block("text", words(LONG)),), usage=usage)


def messages_in(received: Received) -> str:
    """Give the text of a body's messages, without the brackets around them."""
    raw = received.raw.decode()
    start = raw.index('"messages":') + len('"messages":')
    _, end = json.JSONDecoder().raw_decode(raw[start:])
    return raw[start : start + end][1:-1]


def without_messages(received: Received) -> str:
    """Give the text of a body, but for its messages."""
    return received.raw.decode().replace(messages_in(received), "")


def check_prefix(run: Received, compaction: Received, mode: str) -> list[Any]:
    """Check that a compaction begins as the run's own request does; give what it says after that.

    Of a sliding window it is the beginning of that.
    """
    assert without_messages(compaction) == without_messages(run)
    assert dict(compaction.headers) | {"content-length": ""} == dict(run.headers) | {
        "content-length": ""
    }
    said, asked = messages_in(run), messages_in(compaction)
    if mode == ALL:
        assert asked.startswith(said)
        return json.loads(f"[{asked[len(said) :].lstrip(',')}]")
    *shown, pause, prompt = json.loads(f"[{asked}]")
    spelled = asked[: asked.rindex(json.dumps(pause, ensure_ascii=False, separators=(",", ":")))]
    assert shown
    assert said.startswith(spelled.rstrip(","))
    return [pause, prompt]


def texts(message: Any) -> list[str]:
    """Give a message's words."""
    return [part["text"] for part in message["content"]]


@asynccontextmanager
async def asking(
    tmp_path: Path, *scripts: Script, mode: str = SLIDING, **agent: Any
) -> AsyncGenerator[tuple[Server, Vendor, str]]:
    """Serve a conversation with a vendor's model that summarises by itself."""
    async with telling(tmp_path / "everlog.db", *scripts) as (server, vendor):
        agent_id = await server.agent(MODEL, compaction_settings={"mode": mode}, **agent)
        yield server, vendor, await server.conversation(agent_id)


async def once(server: Server, stream: str) -> WindowCompacted:
    """Give the only compaction, which its own mode came to."""
    (fact,) = await done(server, stream)
    assert [one.failure for one in fact.audit.attempts] == [None]
    return fact


REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "client tools": {"client_tools": WEATHER},
    "skills": {"client_skills": SKILLS},
    "another prompt": {"override_system": "You are a pirate."},
    "another model": {"override_model": "anthropic/claude-opus-5"},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("request_of", REQUESTS)
async def test_by_hand_it_begins_as_the_last_run_s_request(
    tmp_path: Path, mode: str, request_of: str
) -> None:
    more = REQUESTS[request_of]
    async with asking(tmp_path, mode=mode) as (server, vendor, stream):
        for number in range(4):
            await server.post(stream, f"[[text:{LONG}]] Number {number}.", **more)
        await compacted(server, stream)
        fact = await once(server, stream)
        run, compaction = vendor.replied[-2:]
    rest = check_prefix(run, compaction, mode)
    said = LONG if mode == ALL else PAUSE
    assert [one["role"] for one in rest] == ["assistant", "user"]
    assert texts(rest[0]) == [said]
    assert texts(rest[1]) == [f"{PROMPTS[fact.audit.mode]}\n\n{CLOSING}"]
    assert fact.audit.model == f"anthropic/{run.body['model']}"


@pytest.mark.parametrize("mode", MODES)
async def test_with_server_tools_it_begins_as_the_last_run_s_request(
    tmp_path: Path, mode: str
) -> None:
    turn = [calls("t1", said="I count."), says(LONG)]
    async with asking(
        tmp_path, *turn, *turn, says("In short."), mode=mode, tools=("demo_count",)
    ) as (server, vendor, stream):
        await server.post(stream, LONG)
        await server.post(stream, "Again.")
        await compacted(server, stream)
        await once(server, stream)
        run, compaction = vendor.replied[-2:]
    rest = check_prefix(run, compaction, mode)
    assert [tool["name"] for tool in compaction.body["tools"]] == ["demo_count"]
    assert rest[-1]["role"] == "user"


async def test_a_model_that_thinks_is_asked_with_its_thinking_on(tmp_path: Path) -> None:
    """To turn it off would cost what the vendor has cached."""
    thinking = {
        "provider_type": "anthropic",
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    async with asking(tmp_path, mode=ALL, model_settings=thinking) as (server, vendor, stream):
        await server.post(stream, f"[[think:Let me see.]] [[text:{LONG}]]")
        await compacted(server, stream)
        await once(server, stream)
        run, compaction = vendor.replied
    rest = check_prefix(run, compaction, ALL)
    assert compaction.body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert rest[0]["content"][0]["thinking"] == "Let me see."


@pytest.mark.parametrize("mode", MODES)
async def test_after_earlier_compactions_too(tmp_path: Path, mode: str) -> None:
    async with asking(tmp_path, mode=mode) as (server, vendor, stream):
        for _ in range(2):
            for number in range(4):
                await server.post(stream, f"[[text:{LONG}]] Number {number}.", client_tools=WEATHER)
            await compacted(server, stream)
        facts = await done(server, stream)
        run, compaction = vendor.replied[-2:]
    assert [len(one.audit.attempts) for one in facts] == [1, 1]
    check_prefix(run, compaction, mode)
    assert "system_alert" in texts(compaction.body["messages"][0])[0]


# --- inside a run -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_in_a_run_it_begins_as_the_step_s_request(tmp_path: Path, mode: str) -> None:
    scripts = [*[sized(10)] * 8, sized(950), sized(10, Block("text", ("Short.",)))]
    async with asking(tmp_path, *scripts, mode=mode, context_window_limit=LIMIT) as (
        server,
        vendor,
        stream,
    ):
        for number in range(9):
            await server.post(stream, f"{LONG} {number}", client_tools=WEATHER)
        fact = await once(server, stream)
        run, compaction = vendor.replied[-2:]
    assert fact.audit.trigger == "post_step_context_check"
    assert fact.audit.mode == mode
    check_prefix(run, compaction, mode)


async def test_a_call_that_waits_for_the_client_is_not_shown_and_stays(tmp_path: Path) -> None:
    call = Block("tool_use", ("{}",), call_id="t1", name="weather")
    scripts = [
        sized(10),
        sized(950, Block("text", words(LONG)), call),
        sized(10, Block("text", ("Short.",))),
    ]
    async with asking(tmp_path, *scripts, mode=ALL, context_window_limit=LIMIT) as (
        server,
        vendor,
        stream,
    ):
        await server.post(stream, LONG, client_tools=WEATHER)
        answer = await server.post(stream, "Weather?", client_tools=WEATHER)
        await once(server, stream)
        window = await window_of(server, stream)
        run, compaction = vendor.replied[-2:]
    assert "requires_approval" in answer.text
    pause, prompt = check_prefix(run, compaction, ALL)
    assert texts(pause) == [PAUSE]
    assert texts(prompt) == [f"{PROMPTS[ALL]}\n\n{CLOSING}"]
    assert [one["role"] for one in window["messages"]] == ["summary", "user", "assistant"]


async def test_between_a_tool_s_return_and_the_next_step_it_begins_the_same(
    tmp_path: Path,
) -> None:
    call = Block("tool_use", ('{"text": "a b"}',), call_id="t1", name="demo_count")
    scripts = [
        sized(10),
        sized(950, Block("text", words(LONG)), call),
        sized(10, Block("text", ("Short.",))),
        sized(10),
    ]
    async with asking(
        tmp_path, *scripts, mode=ALL, context_window_limit=LIMIT, tools=("demo_count",)
    ) as (server, vendor, stream):
        await server.post(stream, LONG)
        answer = await server.post(stream, "Count.")
        await once(server, stream)
        run, compaction, last = vendor.replied[-3:]
    assert "end_turn" in answer.text
    reply, returned, pause, prompt = check_prefix(run, compaction, ALL)
    assert [one["type"] for one in reply["content"]] == ["text", "tool_use"]
    assert returned["content"][0]["type"] == "tool_result"
    assert (texts(pause), texts(prompt)[0].startswith(PROMPTS[ALL])) == ([PAUSE], True)
    (turn,) = last.body["messages"]
    assert ["system_alert" in one for one in texts(turn)] == [True, False]
