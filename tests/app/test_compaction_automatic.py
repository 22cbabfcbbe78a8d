"""A run whose window is full has it compacted, and goes on; or says why it cannot."""

from pathlib import Path
from typing import Any

import pytest

from app.providers import Reply
from domain.content import Text, ToolCall
from domain.conversation import WindowCompacted
from domain.run import RunFinished, StepStarted, StepSuperseded, Usage
from projections.request import ModelRequest
from projections.tokens import estimate
from tests.app.compacting import (
    LIMIT,
    LONG,
    SUMMARISER,
    SUMMARY,
    Cast,
    begun,
    casting,
    change_its_mind,
    compacted,
    done,
    endings,
    failed,
    overflow,
    remembering,
    seen,
    spoken_in,
    talked,
    used,
    window_of,
    words_in,
)
from tests.app.scripts import failing, saying, told
from tests.app.serving import Said, Script, frames_of, kinds_of

WEATHER: Any = [{"name": "weather", "parameters": {"type": "object", "properties": {}}}]


def calls(tokens: int, name: str, arguments: str = "{}") -> Script:
    """Call a tool, and report what the request came to."""

    async def script(_: ModelRequest) -> Said:
        parts = (Text(text="Let me see."), ToolCall(id="call-0", name=name, arguments=arguments))
        yield Reply(parts, Usage(input_tokens=tokens, output_tokens=1), "tool_call")

    return script


async def crowded(
    tmp_path: Path, *scripts: Script, **settings: Any
) -> tuple[list[WindowCompacted], RunFinished, Cast]:
    """Talk three times with room to spare, then as scripted; give what came of it."""
    cast = Cast(agent=[*[used(10, LONG)] * 3, *scripts])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *[LONG] * 3, limit=LIMIT, **settings)
        await server.post(stream, "Four.")
        return await done(server, stream), (await endings(server, stream))[-1], cast


# --- after a step -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "said", "compactions"),
    [(901, 1, 1), (900, 1, 0), (900, 5000, 0), (10, 950, 0), (10_000, 1, 1)],
)
async def test_the_window_is_compacted_above_nine_tenths_of_what_was_read(
    tmp_path: Path, read: int, said: int, compactions: int
) -> None:
    facts, ending, cast = await crowded(tmp_path, used(read, output_tokens=said))
    assert len(facts) == compactions
    assert (ending.status, ending.stop_reason) == ("completed", "end_turn")
    assert len(cast.agent.requests) == 4
    for fact in facts:
        assert fact.audit.trigger == "post_step_context_check"
        assert fact.audit.context_window == LIMIT
        assert fact.run_id == ending.run_id


async def test_a_window_is_as_full_as_was_reported(tmp_path: Path) -> None:
    facts, ending, _ = await crowded(tmp_path, used(950, output_tokens=7))
    audit = facts[0].audit
    assert audit.tokens_before == 957
    assert (audit.mode, len(audit.attempts)) == ("sliding_window", 1)
    assert audit.tokens_after < 900
    assert ending.usage.context_tokens == audit.tokens_after
    assert ending.usage.input_tokens == 950


async def test_an_estimate_serves_where_nothing_is_reported(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(agent=[saying(LONG)])) as (server, _):
        stream = await talked(server, *[LONG] * 4, limit=LIMIT)
        assert await begun(server, stream) == []
        await server.post(stream, LONG * 3)
        (fact,) = await done(server, stream)
        (start,) = await begun(server, stream)
    said = 8 * estimate(LONG) + estimate(LONG * 3)
    assert said < start.tokens == fact.audit.tokens_before < said + 2 * estimate(LONG)
    assert fact.audit.tokens_after < fact.audit.tokens_before


async def test_all_goes_where_a_sliding_window_has_not_made_enough_room(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10)] * 3, used(950), used(10)])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, "One.", "Two.", "Three.", "Four.", limit=LIMIT)
        (fact,) = await done(server, stream)
        (start,) = await begun(server, stream)
        assert [role for role, _ in await words_in(server, stream)] == ["summary"]
        await server.post(stream, "Five.")
    assert [(one.mode, one.failure) for one in fact.audit.attempts] == [
        ("sliding_window", None),
        ("all", None),
    ]
    assert (fact.audit.mode, fact.audit.settings.mode) == ("all", "all")
    assert start.compaction_id == fact.compaction_id
    assert len(cast.summariser.requests) == 2


async def test_a_question_that_was_answered_leaves_with_its_answer(tmp_path: Path) -> None:
    """Left alone in the window, it would be answered once more."""
    (fact,), _, cast = await crowded(tmp_path, used(950, "The answer."), mode="all")
    assert ("user", "Four.") in spoken_in(cast.summariser.requests[0])
    assert fact.audit.messages_after == 2


async def test_the_first_summary_serves_if_there_is_no_second(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10)] * 3, used(950)], summaries=[saying(SUMMARY), saying(" ")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, "One.", "Two.", "Three.", "Four.", limit=LIMIT)
        (fact,) = await done(server, stream)
    assert fact.audit.mode == "sliding_window"
    assert [one.failure for one in fact.audit.attempts] == [None, "empty_summary"]


async def test_a_run_ends_where_the_system_prompt_alone_fills_the_window(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(agent=[used(10), used(2000)])) as (server, _):
        agent_id = await server.agent(
            "script/agent",
            system="You are thorough. " * 300,
            context_window_limit=LIMIT,
            compaction_settings={"model": SUMMARISER, "mode": "all"},
        )
        made = await server.http.post("/v1/conversations/", params={"agent_id": agent_id})
        stream = made.json()["id"]
        await server.post(stream, LONG)
        frames = frames_of((await server.post(stream, LONG)).text)
        (ending,) = (await endings(server, stream))[1:]
        (fact,) = await done(server, stream)
        document = await server.post(stream, LONG, streaming=False)
    assert document.status_code == 400
    assert document.json()["detail"].startswith("CONTEXT_WINDOW_EXCEEDED: The system prompt alone")
    assert fact.audit.system_tokens >= LIMIT
    assert (ending.status, ending.stop_reason) == (
        "failed",
        "context_window_overflow_in_system_prompt",
    )
    assert frames[-2]["stop_reason"] == "context_window_overflow_in_system_prompt"
    assert frames[-1]["error_type"] == frames[-2]["stop_reason"]


async def test_a_run_goes_on_where_little_room_was_made(tmp_path: Path) -> None:
    """Its own question may be what is large; only a step can tell whether it is too large."""
    cast = Cast(agent=[used(10), calls(950, "demo_count", '{"text": "a b"}'), used(20, "Two.")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, "One.", limit=LIMIT, tools=("demo_count",), mode="all")
        answer = await server.post(stream, LONG * 5)
        (fact,) = await done(server, stream)
    assert fact.audit.tokens_after >= 900
    assert "Two." in answer.text
    assert "end_turn" in answer.text


async def test_a_summary_that_fails_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10)] * 3, used(950)], summaries=[saying(" ")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, "One.", "Two.", "Three.", limit=LIMIT)
        before = (await seen(server, stream))["messages"]
        await server.post(stream, "Four.")
        after = (await seen(server, stream))["messages"]
        (ending,) = (await endings(server, stream))[3:]
        (fact,) = await failed(server, stream)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
    assert fact.reason == "empty_summary"
    assert (ending.stop_reason, ending.usage.context_tokens) == ("end_turn", 951)


# --- when the model has no room ---------------------------------------------------------------


async def test_a_step_that_the_model_has_no_room_for_is_taken_again(tmp_path: Path) -> None:
    (fact,), ending, cast = await crowded(tmp_path, *failing(overflow()), used(20, "Room."))
    assert fact.audit.trigger == "context_window_exceeded"
    assert (ending.status, ending.usage.step_count) == ("completed", 1)
    assert SUMMARY in told(cast.agent.requests[-1])[0][1]
    assert told(cast.agent.requests[-1])[-1][1].endswith("Four.")


@pytest.mark.parametrize(("overflows", "ended"), [(3, "end_turn"), (4, "llm_api_error")])
async def test_three_times_at_most(tmp_path: Path, overflows: int, ended: str) -> None:
    script = [*[used(10, LONG)] * 6, *failing(*[overflow()] * overflows), used(20, "Room.")]
    async with casting(tmp_path, Cast(agent=script)) as (server, cast):
        stream = await talked(server, *[LONG] * 6, limit=100_000)
        frames = frames_of((await server.post(stream, "Seven.")).text)
        facts = await done(server, stream)
        events = await server.events(stream)
        (ending,) = (await endings(server, stream))[6:]
    assert [one.audit.trigger for one in facts] == ["context_window_exceeded"] * 3
    lost = [one.reason for one in events if isinstance(one, StepSuperseded)]
    assert lost == ["context_exceeded"] * 3
    assert len(cast.agent.requests) == 6 + 4
    assert ending.stop_reason == ended
    if overflows == 4:
        assert ending.status == "failed"
        assert frames[-1]["error_type"] == "context_window_overflow"


async def test_a_window_with_nothing_to_evict_ends_the_run_at_once(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(agent=failing(overflow()))) as (server, cast):
        stream = await talked(server, "Too long for anybody.", limit=LIMIT)
        (fact,) = await failed(server, stream)
        (ending,) = await endings(server, stream)
        assert await done(server, stream) == []
    assert fact.reason == "nothing_to_evict"
    assert (ending.status, ending.stop_reason) == ("failed", "llm_api_error")
    assert ending.error is not None
    assert ending.error.error_type == "context_window_overflow"
    assert len(cast.agent.requests) == 1


async def test_a_message_that_no_window_holds_does_not_empty_it(tmp_path: Path) -> None:
    script = [*[used(300, LONG)] * 3, *failing(overflow()), used(20, "Room.")]
    async with casting(tmp_path, Cast(agent=script)) as (server, cast):
        stream = await talked(server, *[LONG] * 3, limit=LIMIT)
        before = (await seen(server, stream))["messages"]
        answer = await server.post(stream, "x" * 50_000, streaming=False)
        after = (await seen(server, stream))["messages"]
        (fact,) = await failed(server, stream)
        assert await done(server, stream) == []
    assert (answer.status_code, len(cast.agent.requests)) == (400, 4)
    assert after[:-1] == before
    assert fact.reason == "not_smaller"
    assert f"tokens of {LIMIT}" in (fact.detail or "")


async def test_what_was_said_before_the_overflow_is_gone_from_the_window(tmp_path: Path) -> None:
    async with casting(
        tmp_path,
        Cast(agent=[*[used(10)] * 3, *failing(overflow(), words=["Half"]), used(20, "Whole.")]),
    ) as (server, _):
        stream = await talked(server, *[LONG] * 3, limit=LIMIT)
        await server.post(stream, "Four.", stream_tokens=True)
        events = await server.events(stream)
        words = [words for _, words in await words_in(server, stream)]
    assert "Half" not in words
    # What a client has seen is not taken back: then the run fails, and nothing is compacted.
    assert [one for one in events if isinstance(one, WindowCompacted)] == []
    assert len([one for one in events if isinstance(one, StepStarted)]) == 4


# --- what else is in the window ---------------------------------------------------------------


async def test_memory_is_read_anew_after_an_automatic_compaction(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(agent=[used(10), used(950), used(10)])) as (server, cast):
        agent_id, stream = await remembering(server)
        await server.post(stream, LONG)
        await change_its_mind(server, agent_id)
        assert "likes tea" in (await window_of(server, stream))["system"]["text"]
        await server.post(stream, LONG)
        window = await window_of(server, stream)
        (fact,) = await done(server, stream)
        await server.post(stream, "Three.")
        shown = await server.get(f"/v1/conversations/{stream}/compactions/{fact.compaction_id}")
    assert "likes coffee" in window["system"]["text"]
    assert fact.system is not None
    assert window["system"]["text"] == fact.system.text
    assert ["coffee" in one.system for one in cast.agent.requests] == [False, False, True]
    assert shown["recompiled"] is True


async def test_but_not_after_one_that_a_person_asked_for(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        agent_id, stream = await remembering(server)
        await server.post(stream, "One.")
        await change_its_mind(server, agent_id)
        await compacted(server, stream)
        await server.post(stream, "Two.")
        window = await window_of(server, stream)
    assert "likes tea" in window["system"]["text"]
    assert "likes tea" in cast.agent.requests[-1].system


async def test_a_run_goes_on_with_its_tools(tmp_path: Path) -> None:
    count = calls(950, "demo_count", '{"text": "a b"}')
    cast = Cast(agent=[used(10, LONG), used(10, LONG), count, used(20, "Two.")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, LONG, LONG, limit=LIMIT, tools=("demo_count",), mode="all")
        answer = await server.post(stream, "Count.")
        (fact,) = await done(server, stream)
        roles = [role for role, _ in await words_in(server, stream)]
    assert kinds_of(frames_of(answer.text))[1:-2] == [
        "assistant_message",
        "tool_call_message",
        "tool_return_message",
        "assistant_message",
    ]
    assert fact.audit.mode == "all"
    # The call had its return, so both could go; the question is what the run goes on with.
    assert roles == ["summary", "user", "assistant"]
    assert told(cast.agent.requests[-1])[-1][1].endswith("|Count.")
    assert ("tool demo_count returns (ok)", "2") in spoken_in(cast.summariser.requests[0])


@pytest.mark.parametrize("mode", ["all", "sliding_window"])
async def test_calls_that_wait_for_approval_stay_and_are_answered(
    tmp_path: Path, mode: str
) -> None:
    asking = calls(950, "demo_count", '{"text": "a b"}')
    cast = Cast(agent=[*[used(10, LONG)] * 3, asking, used(20, "Two.")])
    async with casting(tmp_path, cast) as (server, _):
        tools = ("demo_count",)
        stream = await talked(
            server, *[LONG] * 3, limit=LIMIT, tools=tools, approval_tools=tools, mode=mode
        )
        asked = frames_of((await server.post(stream, "Count.")).text)
        (fact,) = await done(server, stream)
        waiting = [role for role, _ in await words_in(server, stream)]
        approval = {"type": "approval", "tool_call_id": "call-0", "approve": True}
        answer = await server.http.post(
            f"/v1/conversations/{stream}/messages",
            json={"messages": [{"type": "approval", "approvals": [approval]}]},
        )
    assert asked[-2]["stop_reason"] == "requires_approval"
    assert waiting[-2:] == ["user", "assistant"]
    assert fact.audit.mode == mode
    assert "Two." in answer.text
    last = told(cast.agent.requests[-1])
    assert last[-2:] == [
        ("assistant", 'Let me see.|demo_count({"text": "a b"})'),
        ("user", "ok: 2"),
    ]


async def test_a_tool_of_the_client_s_is_still_on_offer_after_it(tmp_path: Path) -> None:
    cast = Cast(agent=[used(10, LONG), calls(950, "weather"), used(20, "Fine.")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, LONG, limit=LIMIT, mode="all")
        await server.post(stream, "Weather?", client_tools=WEATHER)
        returned = {
            "type": "tool",
            "tool_call_id": "call-0",
            "tool_return": "Sun.",
            "status": "success",
        }
        answer = await server.http.post(
            f"/v1/conversations/{stream}/messages",
            json={
                "messages": [{"type": "approval", "approvals": [returned]}],
                "client_tools": WEATHER,
            },
        )
    assert "Fine." in answer.text
    assert [tool.name for tool in cast.agent.requests[-1].tools] == ["weather"]
    assert told(cast.agent.requests[-1])[-1] == ("user", "ok: Sun.")
