"""A summary that cannot be had in one mode is sought in the next; one that would do harm is none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.providers import Delta, ModelError, Reply
from domain.content import OutputPart, Text
from projections.prompts import CLOSING, PROMPTS
from projections.request import ModelRequest
from tests.app.compacting import (
    SUMMARY,
    WORDS,
    Cast,
    casting,
    compact,
    compacted,
    done,
    failed,
    overflow,
    seen,
    spoken_in,
    talked,
    transcript_in,
    used,
)
from tests.app.scripts import calling, failing, saying, told
from tests.app.serving import Said, Script

AYES = [saying("Aye.")] * 4
LONG = saying("blah " * 2000)


def filtered() -> Script:
    async def script(_: ModelRequest) -> Said:
        yield Delta(0, "text", "I must not.")
        yield Reply((Text(text="I must not."),), finish_reason="content_filter")

    return script


def wordless(*parts: OutputPart) -> Script:
    async def script(_: ModelRequest) -> Said:
        for part in parts:
            yield Reply((part,))

    return script


def error(error_type: Any) -> Script:
    (script,) = failing(ModelError(error_type, "it said"))
    return script


# What a summariser may do wrong, and what that is called.
WRONGS: dict[str, tuple[Script, str]] = {
    "refused": (filtered(), "refused_summary"),
    "blank": (wordless(Text(text=" \n\t ")), "empty_summary"),
    "nothing": (error("llm_empty_response"), "empty_summary"),
    "a tool": (calling("demo_count"), "summariser_failed"),
    "an error": (error("llm_bad_request"), "summariser_failed"),
    "no key": (error("llm_authentication"), "summariser_failed"),
    "a timeout": (error("llm_timeout"), "summariser_failed"),
    "too long": (LONG, "not_smaller"),
    "a flaw": (failing(RuntimeError("ours"))[0], "summariser_failed"),
}


@pytest.mark.parametrize("wrong", WRONGS)
@pytest.mark.parametrize("mode", ["all", "sliding_window"])
async def test_a_summary_that_would_do_harm_changes_nothing(
    tmp_path: Path, wrong: str, mode: str
) -> None:
    script, reason = WRONGS[wrong]
    async with casting(tmp_path, Cast(summaries=[script])) as (server, cast):
        stream = await talked(server, *WORDS)
        before = await seen(server, stream)
        answer = await compact(server, stream, mode=mode)
        assert await seen(server, stream) == before
        assert await done(server, stream) == []
        (fact,) = await failed(server, stream)
        await server.post(stream, "Five.")
        assert told(cast.agent.requests[-1])[:-1] == [
            turn for words in WORDS for turn in (("user", words), ("assistant", "Aye."))
        ]
    assert fact.reason == reason
    assert answer.status_code == 400
    if reason != "not_smaller":
        assert reason in answer.json()["detail"]


async def test_each_failure_has_the_next_mode_tried_and_is_recorded(tmp_path: Path) -> None:
    tried = [filtered(), error("llm_bad_request")]
    async with casting(tmp_path, Cast(agent=[*AYES, *tried])) as (server, cast):
        stream = await talked(server, *WORDS)
        answer = await compacted(server, stream, mode="self_compact_all", prompt="Mine.")
        (fact,) = await done(server, stream)
        asked = [told(one)[-1][1] for one in cast.agent.requests[-2:]]
        (last,) = cast.summariser.requests
    assert answer["summary"] == SUMMARY
    assert answer["num_messages_after"] == 2
    assert [(one.mode, one.failure) for one in fact.audit.attempts] == [
        ("self_compact_all", "refused_summary"),
        ("self_compact_sliding_window", "summariser_failed"),
        ("all", None),
    ]
    assert (fact.audit.mode, fact.audit.settings.mode) == ("all", "all")
    # A prompt was written for its mode: what is fallen back on brings its own.
    assert asked == [
        f"Mine.\n\n{CLOSING}",
        f"{PROMPTS['self_compact_sliding_window']}\n\n{CLOSING}",
    ]
    assert last.system == fact.audit.settings.prompt == PROMPTS["all"]


@pytest.mark.parametrize("wrong", WRONGS)
async def test_a_sliding_window_falls_back_on_all(tmp_path: Path, wrong: str) -> None:
    script, reason = WRONGS[wrong]
    async with casting(tmp_path, Cast(summaries=[script, saying(SUMMARY)])) as (server, cast):
        stream = await talked(server, *WORDS)
        answer = await compacted(server, stream, prompt="Mine.")
        (fact,) = await done(server, stream)
    assert answer["num_messages_after"] == 2
    assert [(one.mode, one.failure) for one in fact.audit.attempts] == [
        ("sliding_window", reason),
        ("all", None),
    ]
    assert [one.system for one in cast.summariser.requests] == ["Mine.", PROMPTS["all"]]


async def test_a_self_made_sliding_window_falls_back_on_all(tmp_path: Path) -> None:
    cast = Cast(agent=[*AYES, filtered()])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        await compacted(server, stream, mode="self_compact_sliding_window")
        (fact,) = await done(server, stream)
    assert [one.mode for one in fact.audit.attempts] == ["self_compact_sliding_window", "all"]


async def test_no_place_to_cut_is_a_reason_to_take_all(tmp_path: Path) -> None:
    async with casting(tmp_path) as (server, cast):
        stream = await talked(server, "One.")
        answer = await compacted(server, stream)
        (fact,) = await done(server, stream)
    assert answer["num_messages_after"] == 2
    first, second = fact.audit.attempts
    assert (first.mode, first.failure, first.model) == ("sliding_window", "nothing_to_evict", None)
    assert [(one.share, one.cut) for one in first.tries] == [(0.4, None), (0.5, 2)]
    assert (second.mode, second.failure) == ("all", None)
    assert len(cast.summariser.requests) == 1


async def test_trouble_that_passes_is_waited_for(tmp_path: Path) -> None:
    busy = failing(*[ModelError("llm_rate_limit", "slow down")] * 2)
    async with casting(tmp_path, Cast(summaries=[*busy, saying(SUMMARY)])) as (server, cast):
        stream = await talked(server, *WORDS)
        await compacted(server, stream)
        (fact,) = await done(server, stream)
        assert len(cast.summariser.requests) == 3
    assert [one.failure for one in fact.audit.attempts] == [None]


# --- too long for the summariser --------------------------------------------------------------


def returning(chars: int) -> Sequence[Script]:
    """Call the client's tool, and be glad of what it returned."""
    return [calling("weather"), saying("Noted."), *[saying("x" * chars)] * 3]


async def answered(tmp_path: Path, *ladder: Script) -> tuple[Any, Cast]:
    """Have a window with a long return and long replies compacted; give the audit's attempts."""
    long = "r" * 20_000
    cast = Cast(agent=returning(150_000), summaries=ladder)
    async with casting(tmp_path, cast) as (server, _):
        tools: Any = [{"name": "weather", "parameters": {"type": "object", "properties": {}}}]
        stream = await talked(server)
        await server.post(stream, "Weather?", client_tools=tools)
        approvals = [
            {"type": "tool", "tool_call_id": "call-0", "tool_return": long, "status": "success"}
        ]
        body = {"messages": [{"type": "approval", "approvals": approvals}], "client_tools": tools}
        answer = await server.http.post(f"/v1/conversations/{stream}/messages", json=body)
        assert answer.status_code == 200, answer.text
        for _ in range(3):
            await server.post(stream, "Say something long.")
        await compacted(server, stream, mode="all")
        return (await done(server, stream))[0].audit.attempts, cast


async def test_a_transcript_too_long_has_its_returns_clamped(tmp_path: Path) -> None:
    (attempt,), cast = await answered(tmp_path, *failing(overflow()), saying(SUMMARY))
    whole, clamped = (dict(spoken_in(one)) for one in cast.summariser.requests)
    returned = "tool weather returns (ok)"
    assert (attempt.given, attempt.failure) == ("clamped", None)
    assert len(whole[returned]) == 20_000
    assert clamped[returned] == f"{'r' * 5000}\n[Cut here: 5000 of 20000 characters are shown.]"


async def test_one_still_too_long_has_its_middle_taken_out(tmp_path: Path) -> None:
    (attempt,), cast = await answered(tmp_path, *failing(overflow(), overflow()), saying(SUMMARY))
    clamped, cut = (transcript_in(one) for one in cast.summariser.requests[1:])
    budget = int(0.6 * 128_000 * 4)
    assert len(clamped.encode()) > budget
    assert attempt.given == "cut"
    assert "bytes of the middle are left out here" in cut
    assert cut.startswith(clamped[: int(0.3 * budget)])
    assert cut.endswith(clamped[-int(0.3 * budget) :])
    assert len(cut.encode()) <= budget


@pytest.mark.parametrize("mode", ["all", "sliding_window"])
async def test_one_too_long_even_so_is_given_up(tmp_path: Path, mode: str) -> None:
    """A sliding window does not fall back then: a longer transcript would not fit either."""
    async with casting(tmp_path, Cast(summaries=failing(overflow()))) as (server, cast):
        stream = await talked(server, *WORDS)
        before = await seen(server, stream)
        answer = await compact(server, stream, mode=mode)
        assert await seen(server, stream) == before
        (fact,) = await failed(server, stream)
        assert len(cast.summariser.requests) == 3
    assert answer.status_code == 400
    (attempt,) = fact.attempts
    assert (attempt.mode, attempt.given) == (mode, "cut")
    assert attempt.failure == fact.reason == "context_window_overflow"


async def test_a_conversation_too_long_for_its_own_model_goes_to_a_summariser(
    tmp_path: Path,
) -> None:
    cast = Cast(agent=[*AYES, *failing(overflow())])
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, *WORDS)
        await compacted(server, stream, mode="self_compact_all")
        (fact,) = await done(server, stream)
    overflowed = "context_window_overflow"
    assert [(one.mode, one.failure) for one in fact.audit.attempts] == [
        ("self_compact_all", overflowed),
        ("self_compact_sliding_window", overflowed),
        ("all", None),
    ]


# --- what a summary must keep -----------------------------------------------------------------

FACTS = "My number is 555-0199, and the meeting is on 2026-03-04 in /srv/plans/harbour.txt."


async def automatically(
    tmp_path: Path, *summaries: Script, **settings: Any
) -> tuple[Any, Any, Cast]:
    """Have a run's window compacted; give what was recorded and what was not."""
    cast = Cast(agent=[*[used(10)] * 3, used(950)], summaries=summaries)
    async with casting(tmp_path, cast) as (server, _):
        stream = await talked(server, FACTS, *WORDS[:2], limit=1000, min_retention=0.5, **settings)
        answer = await server.post(stream, "Four.")
        assert "end_turn" in answer.text
        return await done(server, stream), await failed(server, stream), cast


async def test_an_automatic_summary_that_keeps_too_little_is_sought_again(tmp_path: Path) -> None:
    (fact,), bad, cast = await automatically(tmp_path, saying("They talked."), saying(FACTS))
    assert bad == []
    assert [(one.mode, one.failure) for one in fact.audit.attempts] == [
        ("sliding_window", "retention_too_low"),
        ("all", None),
    ]
    assert "below 0.5" in fact.audit.attempts[0].detail
    assert fact.audit.retention.score >= 0.5
    assert len(cast.summariser.requests) == 2


async def test_and_refused_if_it_never_keeps_enough(tmp_path: Path) -> None:
    good, (fact,), _ = await automatically(tmp_path, saying("They talked."))
    assert good == []
    assert fact.reason == "retention_too_low"
    assert [one.failure for one in fact.attempts] == ["retention_too_low"] * 2


async def test_a_person_may_lose_what_they_like(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast(summaries=[saying("They talked.")])) as (server, _):
        stream = await talked(server, FACTS, *WORDS, min_retention=1.0)
        await compacted(server, stream)
        (fact,) = await done(server, stream)
    assert fact.audit.retention.score < 1
    assert fact.audit.settings.min_retention == 1.0
