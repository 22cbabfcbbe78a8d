from typing import Any

import orjson
import pytest

from domain.event import Event
from domain.run import (
    CalledTool,
    DeltaCall,
    Failure,
    RunFinished,
    RunRequest,
    RunUsage,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
)
from domain.streams import otid_of
from projections.frames import DONE, Frames, Sent, ending, sse, superseded_of, usage_shown
from tests.examples import (
    NEXT_RUN_ID,
    REPLY_ID,
    RUN_ID,
    appended,
    claimed,
    delta,
    finished,
    part,
    queued,
    started,
    step_finished,
    step_started,
    superseded,
    waiting,
)
from tests.projections.histories import recorded

TOKENS = RunRequest(stream_tokens=True)
WHOLE = RunRequest()
FAILURE = Failure(error_type="llm_error", message="The vendor failed.", detail="500")


def asked(request: RunRequest = TOKENS, step: StepStarted | None = None) -> tuple[Event, ...]:
    """Give a run up to the offset 5, where its first step starts."""
    return (started, queued(request=request), appended(), claimed(), step or step_started())


def answered(request: RunRequest = TOKENS) -> tuple[Event, ...]:
    reply = (delta(x="Good "), delta(x="day."), part(), step_finished())
    return (*asked(request), *reply, finished())


def sent(*events: Event, run_id: str = RUN_ID, later: bool = False) -> list[Sent]:
    facts = recorded(*events)
    frames = Frames(run_id, superseded_of(facts) if later else frozenset())
    return [one for one in map(frames.of, facts) if one is not None]


def shown(one: Sent) -> list[dict[str, Any]]:
    blocks = one.data.removesuffix(DONE).decode().split("\n\n")
    return [orjson.loads(block.split("data: ", 1)[1]) for block in blocks if block]


def frames(*events: Event, run_id: str = RUN_ID, later: bool = False) -> list[dict[str, Any]]:
    return [frame for one in sent(*events, run_id=run_id, later=later) for frame in shown(one)]


def kinds(*events: Event, run_id: str = RUN_ID, later: bool = False) -> list[str]:
    return [frame["message_type"] for frame in frames(*events, run_id=run_id, later=later)]


def test_an_event_is_one_line_of_data_and_a_blank_line() -> None:
    assert sse({"a": "b\nc"}) == b'data: {"a":"b\\nc"}\n\n'
    assert sse({"a": 1}, "error") == b'event: error\ndata: {"a":1}\n\n'


def test_a_run_begins_with_a_ping_that_names_it() -> None:
    (first, *_) = frames(*asked())
    assert (first["message_type"], first["run_id"], first["seq_id"]) == ("ping", RUN_ID, 2)
    assert first["id"].startswith("ping-")


def test_a_run_that_asked_for_no_pings_gets_none() -> None:
    assert kinds(*answered(RunRequest(pings=False)))[0] == "assistant_message"


def test_token_mode_sends_deltas_and_no_parts() -> None:
    words = [one for one in frames(*answered()) if one["message_type"] == "assistant_message"]
    assert [(one["content"], one["seq_id"]) for one in words] == [("Good ", 6), ("day.", 7)]


def test_whole_mode_sends_parts_and_no_deltas() -> None:
    words = [one for one in frames(*answered(WHOLE)) if one["message_type"] == "assistant_message"]
    assert [(one["content"], one["seq_id"]) for one in words] == [("Good day.", 8)]


def test_a_run_ends_with_why_with_its_tokens_and_with_the_end_mark() -> None:
    last = sent(*answered())[-1]
    assert last.end
    assert last.seq_id is None
    assert last.data.endswith(DONE)
    assert [frame["message_type"] for frame in shown(last)] == ["stop_reason", "usage_statistics"]


def test_numbers_are_the_offsets_of_facts_and_a_fact_has_one_at_most() -> None:
    for one in sent(*answered(), later=True)[:-1]:
        (frame,) = shown(one)
        assert frame["seq_id"] == one.seq_id
    assert [one.seq_id for one in sent(*answered())] == [2, 6, 7, None]
    assert [one.seq_id for one in sent(*answered(WHOLE))] == [2, 8, None]


def test_facts_of_other_runs_say_nothing() -> None:
    other = (
        queued(NEXT_RUN_ID, request=TOKENS),
        waiting(),
        claimed(NEXT_RUN_ID),
        step_started(NEXT_RUN_ID),
        delta(9),
        part(9),
        superseded(9),
        finished(NEXT_RUN_ID),
    )
    assert kinds(*asked(), *other) == ["ping"]
    assert kinds(*asked(), *other, run_id=NEXT_RUN_ID)[-2:] == ["stop_reason", "usage_statistics"]


# --- filters ----------------------------------------------------------------------------------

REASONED: tuple[Event, ...] = (
    StepDelta(s=5, i=0, kind="reasoning", x="hm"),
    StepDelta(s=5, i=1, kind="text", x="Good day."),
    StepPart(s=5, i=0, kind="reasoning", text="hm"),
    StepPart(s=5, i=1, kind="text", text="Good day."),
    step_finished(),
)


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "whole"])
def test_a_filter_drops_what_it_does_not_name(tokens: bool) -> None:
    request = RunRequest(stream_tokens=tokens, filters=("reasoning_message",))
    assert kinds(*asked(request), *REASONED, finished()) == [
        "ping",
        "reasoning_message",
        "stop_reason",
        "usage_statistics",
    ]


@pytest.mark.parametrize("tokens", [True, False], ids=["tokens", "whole"])
def test_an_empty_filter_leaves_the_ping_and_the_end(tokens: bool) -> None:
    request = RunRequest(stream_tokens=tokens, filters=())
    failed = finished().model_copy(update={"status": "failed", "error": FAILURE})
    assert kinds(*asked(request), *REASONED, failed) == ["ping", "stop_reason", "error_message"]


# --- calls ------------------------------------------------------------------------------------

CALL = DeltaCall(id="call-1", name="weather")


def calls(*, gated: bool) -> tuple[Event, ...]:
    step = step_started().model_copy(update={"gated": ("weather",) if gated else ()})
    called = CalledTool(id="call-1", name="weather", arguments='{"a":1}', gated=gated)
    return (
        *asked(step=step),
        StepDelta(s=5, i=0, kind="arguments", x='{"a"', call=CALL),
        StepDelta(s=5, i=0, kind="arguments", x=":1}"),
        StepPart(s=5, i=0, kind="call", call=called),
        step_finished(finish_reason="tool_call"),
    )


def test_a_calls_deltas_carry_its_id_and_the_first_its_name() -> None:
    _, first, second = frames(*calls(gated=False))
    assert first["tool_calls"] == {"name": "weather", "arguments": '{"a"', "tool_call_id": "call-1"}
    assert second["tool_calls"] == {"name": None, "arguments": ":1}", "tool_call_id": "call-1"}


def test_two_calls_side_by_side_are_not_mixed_up() -> None:
    other = DeltaCall(id="call-2", name="time")
    grown = [
        StepDelta(s=5, i=0, kind="arguments", x="a", call=CALL),
        StepDelta(s=5, i=1, kind="arguments", x="b", call=other),
        StepDelta(s=5, i=0, kind="arguments", x="c"),
        StepDelta(s=5, i=1, kind="arguments", x="d"),
    ]
    ids = [one["tool_call"]["tool_call_id"] for one in frames(*asked(), *grown)[1:]]
    assert ids == ["call-1", "call-2", "call-1", "call-2"]


@pytest.mark.parametrize("later", [True, False], ids=["later", "live"])
def test_a_call_that_waits_for_the_client_is_one_whole_frame(later: bool) -> None:
    _, request = frames(*calls(gated=True), later=later)
    assert request["message_type"] == "approval_request_message"
    assert request["tool_call"]["arguments"] == '{"a":1}'
    assert request["otid"] == request["id"] == REPLY_ID


def test_a_call_that_waits_makes_no_frame_if_its_step_does_not_finish() -> None:
    assert kinds(*calls(gated=True)[:-2], superseded()) == ["ping", "event_message"]


def test_in_whole_mode_a_call_that_waits_is_one_frame_too() -> None:
    events = (*asked(WHOLE), *calls(gated=True)[5:])
    assert kinds(*events) == ["ping", "approval_request_message"]


# --- steps that are taken again ---------------------------------------------------------------


def again(request: RunRequest = TOKENS) -> tuple[Event, ...]:
    retaken = step_started(epoch=2, attempt=2).model_copy(
        update={"message_id": "message-44444444-4444-4444-8444-444444444444"}
    )
    return (
        *asked(request),
        delta(x="Goo"),
        claimed(epoch=2),
        superseded(),
        retaken,
        delta(9, "Good "),
        delta(9, "day."),
        part(9),
        step_finished(9),
        finished(epoch=2),
    )


def test_who_saw_a_superseded_step_is_told_that_it_is_void() -> None:
    _, ghost, retry, *_ = frames(*again())
    assert (ghost["content"], ghost["id"]) == ("Goo", REPLY_ID)
    assert (retry["message_type"], retry["event_type"]) == ("event_message", "retry")
    assert retry["seq_id"] == 8
    assert retry["event_data"] == {
        "reason": "taken_over",
        "attempt": 1,
        "attempts_max": 3,
        "delay_ms": 0,
        "superseded_message_id": REPLY_ID,
    }


def test_later_readers_get_no_deltas_of_a_superseded_step() -> None:
    words = [one for one in frames(*again(), later=True) if "content" in one]
    assert [one["content"] for one in words] == ["Good ", "day."]
    assert REPLY_ID not in {one["id"] for one in words}


def test_apart_from_those_deltas_a_later_reader_gets_the_same_bytes() -> None:
    live = [one for one in sent(*again()) if one.seq_id != 6]
    assert sent(*again(), later=True) == live


def test_in_whole_mode_nobody_saw_the_superseded_step_so_nobody_is_told() -> None:
    assert kinds(*again(WHOLE)) == [
        "ping",
        "assistant_message",
        "stop_reason",
        "usage_statistics",
    ]


def test_the_retry_is_filtered_as_the_event_that_it_is() -> None:
    request = RunRequest(stream_tokens=True, filters=("assistant_message",))
    assert "event_message" not in kinds(*again(request))


# --- ends -------------------------------------------------------------------------------------


def ended(status: Any, reason: Any, error: Failure | None = None) -> RunFinished:
    return RunFinished(
        run_id=RUN_ID, status=status, stop_reason=reason, usage=RunUsage(), error=error
    )


def test_a_failed_run_says_why_as_a_named_event_and_has_no_usage() -> None:
    stop, error, done, rest = (
        ending(ended("failed", "llm_api_error", FAILURE)).decode().split("\n\n")
    )
    assert orjson.loads(stop.removeprefix("data: ")) == {
        "message_type": "stop_reason",
        "stop_reason": "llm_api_error",
    }
    name, data = error.split("\n")
    assert name == "event: error"
    assert orjson.loads(data.removeprefix("data: ")) == {
        "message_type": "error_message",
        "run_id": RUN_ID,
        "error_type": "llm_error",
        "message": "The vendor failed.",
        "detail": "500",
        "seq_id": None,
    }
    assert (done, rest) == ("data: [DONE]", "")


def test_a_failed_step_adds_nothing_to_its_runs_end() -> None:
    failed = StepFinished(s=5, outcome="failed", parts=0, error=FAILURE)
    assert kinds(*asked(), delta(), failed, ended("failed", "llm_api_error", FAILURE)) == [
        "ping",
        "assistant_message",
        "stop_reason",
        "error_message",
    ]


def test_a_cancelled_run_has_no_usage_and_no_error() -> None:
    stop, done, rest = ending(ended("cancelled", "cancelled")).decode().split("\n\n")
    assert '"stop_reason":"cancelled"' in stop
    assert (done, rest) == ("data: [DONE]", "")


def test_usage_counts_as_the_original_named_it() -> None:
    usage = RunUsage(
        input_tokens=10,
        output_tokens=3,
        cached_input_tokens=4,
        reasoning_tokens=0,
        step_count=2,
        context_tokens=13,
    )
    assert usage_shown(usage) == {
        "message_type": "usage_statistics",
        "completion_tokens": 3,
        "prompt_tokens": 10,
        "total_tokens": 13,
        "step_count": 2,
        "run_ids": None,
        "cached_input_tokens": 4,
        "cache_write_tokens": None,
        "reasoning_tokens": 0,
        "context_tokens": 13,
    }


def test_a_delta_and_its_part_have_the_same_otid() -> None:
    ids = {
        (one["id"], one["otid"])
        for mode in (TOKENS, WHOLE)
        for one in frames(*answered(mode))
        if one.get("content")
    }
    assert ids == {(REPLY_ID, otid_of(REPLY_ID, 0))}
