"""What clients are told of compactions: as frames while a run goes on, and in its answer."""

from typing import Any

import pytest
from hypothesis import given, settings

from domain.conversation import (
    WindowCompacted,
    WindowCompactionStarted,
)
from domain.event import Event, Recorded
from domain.run import RunFinished, RunRequest, StepSuperseded
from domain.streams import MESSAGE, derived_id, otid_of
from projections.answer import response_of
from projections.frames import Frames, superseded_of
from tests.compactions import (
    ASKED,
    COMPACTION_ID,
    OTHER_COMPACTION_ID,
    SUMMARY,
    begun,
    compacted,
    crowded,
    failed,
    summary_id_of,
)
from tests.examples import (
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    RUN_ID,
    STEP_ID,
    appended,
    delta,
    finished,
    part,
    queued,
    step_finished,
    step_started,
    waiting,
)
from tests.projections.compacted import compacted_histories
from tests.projections.histories import Facts, recorded, run_ids_of
from tests.projections.test_properties_window import (
    data_of,
    request_of,
    seen_later,
    seen_live,
    sent_of,
)

THIRD_MESSAGE_ID = derived_id(MESSAGE, "third")
DATE = "2026-01-02T03:04:05+00:00"


def frames(*events: Event, run_id: str = RUN_ID, cut: int = 0) -> list[dict[str, Any]]:
    facts = recorded(*events)
    fold = Frames(run_id, superseded_of(facts))
    sent_of(facts[:cut], fold)
    return [frame for _, one in sent_of(facts[cut:], fold) for frame in data_of(one)]


def kinds(messages: Any) -> list[str]:
    return [message["message_type"] for message in messages]


# --- frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "whole"])
def test_who_asked_is_told_of_a_compaction_between_the_reply_and_the_end(tokens: bool) -> None:
    told_of = frames(*crowded(RunRequest(stream_tokens=tokens, compaction_messages=True)))
    assert kinds(told_of) == [
        "ping",
        "assistant_message",
        "event_message",
        "summary_message",
        "stop_reason",
        "usage_statistics",
    ]


def test_who_did_not_ask_is_told_nothing() -> None:
    assert kinds(frames(*crowded(RunRequest()))) == [
        "ping",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]


def test_a_compaction_begins_with_an_event_that_has_its_own_id_and_number() -> None:
    event = frames(*crowded())[2]
    assert (event["event_type"], event["seq_id"], event["run_id"]) == ("compaction", 9, RUN_ID)
    assert event["step_id"] == STEP_ID
    assert event["id"] == begun().event_id
    assert event["event_data"] == {
        "trigger": "post_step_context_check",
        "context_token_estimate": 7500,
        "context_window": 8000,
    }


def test_the_summary_is_told_in_plain_words_with_the_arithmetic() -> None:
    summary = frames(*crowded())[3]
    assert (summary["summary"], summary["seq_id"], summary["date"]) == (SUMMARY, 10, DATE)
    assert (summary["step_id"], summary["run_id"]) == (STEP_ID, RUN_ID)
    assert summary["id"] == summary_id_of(COMPACTION_ID)
    assert summary["otid"] == otid_of(summary_id_of(COMPACTION_ID), 0)
    assert summary["compaction_stats"] == {
        "trigger": "post_step_context_check",
        "context_tokens_before": 7500,
        "context_tokens_after": 100,
        "context_window": 8000,
        "messages_count_before": 5,
        "messages_count_after": 2,
    }


@pytest.mark.parametrize("kind", ["event_message", "summary_message"])
def test_both_are_filtered_as_the_types_that_they_are(kind: str) -> None:
    request = RunRequest(compaction_messages=True, filters=(kind,))
    assert kinds(frames(*crowded(request)))[1:-2] == [kind]


def test_a_compaction_that_failed_has_begun_all_the_same() -> None:
    events = (*crowded()[:-2], failed(), finished())
    assert "event_message" in kinds(frames(*events))
    assert "summary_message" not in kinds(frames(*events))


def test_a_persons_compaction_beside_a_run_says_nothing_in_its_frames() -> None:
    by_hand = (begun(OTHER_COMPACTION_ID), compacted(OTHER_COMPACTION_ID, (3, 3), planned_at=8))
    assert kinds(frames(*crowded()[:8], *by_hand, finished())) == [
        "ping",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]


def test_a_step_without_room_is_told_as_a_retry_then_as_a_compaction() -> None:
    request = RunRequest(stream_tokens=True, compaction_messages=True)
    again = step_started().model_copy(update={"message_id": NEXT_MESSAGE_ID})
    events = (
        *crowded(request)[:5],
        StepSuperseded(s=5, reason="context_exceeded", attempt=1),
        begun(trigger="context_window_exceeded", run_id=RUN_ID),
        compacted(COMPACTION_ID, (3, 3), planned_at=6, run_id=RUN_ID),
        *(again, delta(9), part(9), step_finished(9), finished()),
    )
    told_of = [one for one in frames(*events) if one["message_type"] == "event_message"]
    assert [one["event_type"] for one in told_of] == ["retry", "compaction"]
    assert [one["step_id"] for one in told_of] == [STEP_ID, None]


def test_a_resume_between_the_two_still_knows_their_step() -> None:
    whole = frames(*crowded())
    for cut in range(2, len(crowded()) - 1):
        later = [one for one in whole if one.get("seq_id") is None or one["seq_id"] > cut]
        assert frames(*crowded(), cut=cut) == later


def for_every_history(test: Any) -> Any:
    return settings(max_examples=25, deadline=None)(given(compacted_histories())(test))


@for_every_history
def test_with_compactions_too_a_resume_at_any_cut_is_the_same_bytes(facts: Facts) -> None:
    skipped = superseded_of(facts)
    for run_id in run_ids_of(facts):
        whole = [(version, sent.data) for version, sent in seen_later(facts, run_id)]
        for cut in range(len(facts) + 1):
            fold = Frames(run_id, skipped)
            over = any(one.end for _, one in sent_of(facts[:cut], fold))
            resumed = [] if over else sent_of(facts[cut:], fold)
            assert [(version, one.data) for version, one in resumed] == [
                (version, data) for version, data in whole if version > cut
            ]


@for_every_history
def test_every_compaction_of_a_run_is_told_if_that_was_asked_for_and_none_else(
    facts: Facts,
) -> None:
    for run_id in run_ids_of(facts):
        request = request_of(facts, run_id)
        told_of = [
            (version, frame)
            for version, one in seen_live(facts, run_id)
            for frame in data_of(one)
            if frame["message_type"] == "summary_message" or frame.get("event_type") == "compaction"
        ]
        assert request.compaction_messages or not told_of
        assert all(frame["seq_id"] == version for version, frame in told_of)
        if request.compaction_messages and request.filters is None:
            own = [
                fact.version
                for fact in facts
                if isinstance(fact.event, WindowCompacted | WindowCompactionStarted)
                and fact.event.run_id == run_id
            ]
            assert [version for version, _ in told_of if version in own] == own


# --- answers ----------------------------------------------------------------------------------


def test_an_answer_has_the_summary_if_that_was_asked_for() -> None:
    told_of = response_of(recorded(*crowded()), RUN_ID)["messages"]
    assert kinds(told_of) == ["assistant_message", "summary_message"]
    assert kinds(response_of(recorded(*crowded(RunRequest())), RUN_ID)["messages"]) == [
        "assistant_message"
    ]
    filtered = RunRequest(compaction_messages=True, filters=("summary_message",))
    assert kinds(response_of(recorded(*crowded(filtered)), RUN_ID)["messages"]) == [
        "summary_message"
    ]


def without_numbers(message: Any) -> dict[str, Any]:
    return {**message, "seq_id": None}


def test_an_answers_summary_is_that_of_the_frames() -> None:
    (framed,) = (one for one in frames(*crowded()) if one["message_type"] == "summary_message")
    (answered,) = (
        one
        for one in response_of(recorded(*crowded()), RUN_ID)["messages"]
        if one["message_type"] == "summary_message"
    )
    assert answered == without_numbers(framed)


def test_a_steer_is_told_of_what_its_host_compacts_from_when_it_joined() -> None:
    steer = queued(NEXT_RUN_ID, on_busy="steer", request=ASKED)
    joins = appended(NEXT_RUN_ID, NEXT_MESSAGE_ID, "And then?", queued=10)
    step = step_started(index=1).model_copy(update={"message_id": THIRD_MESSAGE_ID})
    again = compacted(OTHER_COMPACTION_ID, (5, 5), planned_at=16, run_id=RUN_ID)
    events = (
        *crowded()[:8],
        *(steer, waiting(), *crowded()[8:10]),
        joins.model_copy(update={"run_id": RUN_ID}),
        *(step, part(14), step_finished(14)),
        *(begun(OTHER_COMPACTION_ID, run_id=RUN_ID, s=14), again),
        *(finished(NEXT_RUN_ID), finished()),
    )
    streamed = [
        one
        for one in frames(*events, run_id=NEXT_RUN_ID)
        if one["message_type"] == "summary_message"
    ]
    answered = [
        one
        for one in response_of(recorded(*events), NEXT_RUN_ID)["messages"]
        if one["message_type"] == "summary_message"
    ]
    assert [one["id"] for one in answered] == [summary_id_of(OTHER_COMPACTION_ID)]
    assert answered == list(map(without_numbers, streamed))


def ends(fact: Recorded[Any], run_id: str) -> bool:
    """Tell whether a fact is a run's end."""
    return isinstance(fact.event, RunFinished) and fact.event.run_id == run_id


@for_every_history
def test_an_answer_is_what_its_frames_would_have_been_as_wholes(facts: Facts) -> None:
    over = {one.event.run_id for one in facts if isinstance(one.event, RunFinished)}
    for run_id in run_ids_of(facts):
        request = request_of(facts, run_id)
        if run_id not in over or request.stream_tokens:
            continue
        sent = [frame for _, one in seen_later(facts, run_id) for frame in data_of(one)]
        messages = [
            without_numbers(frame)
            for frame in sent
            if frame.get("id") and frame["message_type"] not in ("ping", "event_message")
        ]
        until = next(place for place, one in enumerate(facts) if ends(one, run_id))
        assert messages == response_of(facts[: until + 1], run_id)["messages"]
