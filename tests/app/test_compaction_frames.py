"""What clients see of a compaction in their run: all of it, or nothing."""

from pathlib import Path
from typing import Any, Final

import pytest

from domain.conversation import WindowCompacted, WindowCompactionStarted
from tests.app.compacting import (
    LIMIT,
    LONG,
    SUMMARY,
    Cast,
    begun,
    casting,
    compacted,
    done,
    overflow,
    seen,
    talked,
    used,
)
from tests.app.scripts import failing, saying
from tests.app.serving import Script, Server, frames_of, kinds_of

TOLD: Final = ["ping", "assistant_message", "event_message", "summary_message"]
END: Final = ["stop_reason", "usage_statistics"]


def scripts(*last: Script) -> Cast:
    return Cast(agent=[*[used(10, LONG)] * 3, *(last or (used(950, "The ", "answer."),))])


async def started(server: Server) -> str:
    """Talk until the next step fills the window."""
    return await talked(server, *[LONG] * 3, limit=LIMIT)


async def resumed(server: Server, run_id: str, after: int = 0) -> bytes:
    path = f"/v1/runs/{run_id}/stream"
    answer = await server.http.post(path, json={"starting_after": after})
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.mark.parametrize("stream_tokens", [False, True], ids=["whole", "tokens"])
async def test_a_stream_that_asked_is_told_before_its_end(
    tmp_path: Path, stream_tokens: bool
) -> None:
    async with casting(tmp_path, scripts()) as (server, _):
        stream = await started(server)
        answer = await server.post(
            stream, "Four.", stream_tokens=stream_tokens, include_compaction_messages=True
        )
        frames = frames_of(answer.text)
        (start,) = [
            one
            for one in await server.facts(stream)
            if isinstance(one.event, WindowCompactionStarted)
        ]
        (fact,) = [
            one for one in await server.facts(stream) if isinstance(one.event, WindowCompacted)
        ]
    assert kinds_of(frames) == [*TOLD, *END]
    event, summary, _, usage = frames[-4:]
    audit = fact.event.audit
    assert (event["seq_id"], summary["seq_id"]) == (start.version, fact.version)
    assert event["event_type"] == "compaction"
    assert event["event_data"] == {
        "trigger": "post_step_context_check",
        "context_token_estimate": 951,
        "context_window": LIMIT,
    }
    assert summary["summary"] == SUMMARY
    assert summary["id"] == fact.event.summary_message_id
    assert summary["compaction_stats"] == {
        "trigger": "post_step_context_check",
        "context_tokens_before": 951,
        "context_tokens_after": audit.tokens_after,
        "context_window": LIMIT,
        "messages_count_before": 9,
        "messages_count_after": audit.messages_after,
    }
    assert summary["step_id"] == event["step_id"] == frames[-5]["step_id"]
    assert summary["run_id"] == event["run_id"] == frames[0]["run_id"]
    assert usage["context_tokens"] == audit.tokens_after


@pytest.mark.parametrize("more", [{}, {"include_compaction_messages": False}], ids=["", "no"])
@pytest.mark.parametrize("stream_tokens", [False, True], ids=["whole", "tokens"])
async def test_one_that_did_not_is_told_nothing(
    tmp_path: Path, more: dict[str, Any], stream_tokens: bool
) -> None:
    async with casting(tmp_path, scripts()) as (server, _):
        stream = await started(server)
        frames = frames_of(
            (await server.post(stream, "Four.", stream_tokens=stream_tokens, **more)).text
        )
        assert len(await done(server, stream)) == 1
    assert kinds_of(frames) == ["ping", "assistant_message", *END]


@pytest.mark.parametrize("asked", [True, False])
async def test_a_document_has_the_summary_if_it_was_asked_for(tmp_path: Path, asked: bool) -> None:
    async with casting(tmp_path, scripts()) as (server, _):
        stream = await started(server)
        answer = await server.post(
            stream, "Four.", streaming=False, include_compaction_messages=asked
        )
        (fact,) = await done(server, stream)
        body = answer.json()
    kinds = ["assistant_message", "summary_message"] if asked else ["assistant_message"]
    assert [one["message_type"] for one in body["messages"]] == kinds
    assert body["usage"]["context_tokens"] == fact.audit.tokens_after
    if asked:
        assert body["messages"][1]["summary"] == SUMMARY


@pytest.mark.parametrize("wanted", ["summary_message", "event_message", "assistant_message"])
async def test_a_filter_picks_among_them(tmp_path: Path, wanted: str) -> None:
    async with casting(tmp_path, scripts()) as (server, _):
        stream = await started(server)
        answer = await server.post(
            stream,
            "Four.",
            include_compaction_messages=True,
            include_return_message_types=[wanted],
        )
    assert kinds_of(frames_of(answer.text)) == ["ping", wanted, *END]


@pytest.mark.parametrize("stream_tokens", [False, True], ids=["whole", "tokens"])
@pytest.mark.parametrize("asked", [True, False])
async def test_whoever_resumes_reads_the_same_bytes(
    tmp_path: Path, stream_tokens: bool, asked: bool
) -> None:
    async with casting(tmp_path, scripts()) as (server, _):
        stream = await started(server)
        answer = await server.post(
            stream,
            "Four.",
            background=True,
            include_pings=False,
            stream_tokens=stream_tokens,
            include_compaction_messages=asked,
        )
        live = answer.content
        frames = frames_of(live)
        run_id = frames[0]["run_id"]
        assert await resumed(server, run_id) == live
        numbered = [one["seq_id"] for one in frames if one.get("seq_id")]
        for count, seq_id in enumerate(numbered, start=1):
            rest = b"".join(one + b"\n\n" for one in live.split(b"\n\n")[count:-1])
            assert await resumed(server, run_id, seq_id) == rest
    assert ("summary_message" in answer.text) is asked


async def test_room_made_for_a_step_is_told_before_what_it_says(tmp_path: Path) -> None:
    async with casting(tmp_path, scripts(*failing(overflow()), used(20, "Room."))) as (server, _):
        stream = await started(server)
        answer = await server.post(stream, "Four.", include_compaction_messages=True)
        run_id = frames_of(answer.text)[0]["run_id"]
        replay = frames_of(await resumed(server, run_id))
    kinds = ["ping", "event_message", "summary_message", "assistant_message", *END]
    assert kinds_of(frames_of(answer.text)) == kinds_of(replay) == kinds


async def test_one_that_fails_is_announced_and_no_more(tmp_path: Path) -> None:
    cast = Cast(agent=[*[used(10, LONG)] * 3, used(950)], summaries=[saying(" ")])
    async with casting(tmp_path, cast) as (server, _):
        stream = await started(server)
        frames = frames_of(
            (await server.post(stream, "Four.", include_compaction_messages=True)).text
        )
    assert kinds_of(frames) == [*TOLD[:-1], *END]
    assert frames[-2]["stop_reason"] == "end_turn"


async def test_one_by_hand_is_in_no_run_s_stream(tmp_path: Path) -> None:
    async with casting(tmp_path, scripts(used(10))) as (server, _):
        stream = await started(server)
        await compacted(server, stream)
        answer = await server.post(stream, "Four.", include_compaction_messages=True)
        (start,) = await begun(server, stream)
    assert kinds_of(frames_of(answer.text)) == ["ping", "assistant_message", *END]
    assert start.run_id is None


async def test_the_history_has_the_summary_where_it_was_recorded(tmp_path: Path) -> None:
    async with casting(tmp_path, scripts()) as (server, _):
        stream = await started(server)
        await server.post(stream, "Four.")
        (fact,) = await done(server, stream)
        history = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
        of_run = await server.get(f"/v1/runs/{fact.run_id}/messages")
        root = f"/v1/conversations/{stream}/compactions"
        await server.http.post(f"{root}/{fact.compaction_id}/undo", params={"force": True})
        undone = await server.get(f"/v1/conversations/{stream}/messages", order="asc")
        window = await seen(server, stream)
    assert [one["message_type"] for one in history] == [
        "system_message",
        *["user_message", "assistant_message"] * 4,
        "user_message",
    ]
    summary = history[-1]
    assert (summary["id"], summary["run_id"]) == (fact.summary_message_id, fact.run_id)
    assert '"compaction_stats"' in summary["content"]
    assert SUMMARY in summary["content"]
    assert summary in of_run
    # The prompt that was compiled with it is undone as well.
    assert undone[1:] == history[1:-1]
    assert window["summary"] is None


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_the_history_can_be_paged_from_a_summary(tmp_path: Path, order: str) -> None:
    async with casting(tmp_path) as (server, _):
        stream = await talked(server, "One.", "Two.", "Three.", "Four.")
        await compacted(server, stream)
        await server.post(stream, "Five.")
        path = f"/v1/conversations/{stream}/messages"
        history = await server.get(path, order="asc")
        (fact,) = await done(server, stream)
        page = await server.get(path, order=order, after=fact.summary_message_id)
        place = [one["id"] for one in history].index(fact.summary_message_id)
    assert page == (history[place + 1 :] if order == "asc" else history[:place][::-1])
