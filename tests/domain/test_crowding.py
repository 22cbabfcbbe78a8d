"""When a run's window is to be made smaller, what it waits for, and how it ends if that fails."""

from dataclasses import replace
from typing import Any, Literal

import pytest

from domain.conversation import (
    Conversation,
    ConversationEvent,
    FinishRun,
    FinishStep,
    SupersedeStep,
    conversation,
)
from domain.run import (
    CROWDED_SHARE,
    OVERFLOWS_MAX,
    CalledTool,
    Compact,
    Effect,
    EndRun,
    FinishReason,
    Run,
    RunFinished,
    RunTool,
    StepFinished,
    StepPart,
    StepSuperseded,
    TakeStep,
    Usage,
    crowded_above,
    pending,
)
from tests.compactions import COMPACTION_ID, CONTEXT_WINDOW, begin, begun, compacted, failed
from tests.examples import (
    MANIFEST,
    RUN_ID,
    appended,
    cancel_requested,
    claimed,
    part,
    queued,
    started,
    step_started,
    superseded,
)
from tests.given import given, state_of

LIMIT = crowded_above(CONTEXT_WINDOW)
CROWDED = Usage(input_tokens=LIMIT + 1, output_tokens=1)
stepping = (started, queued(), appended(), claimed(), step_started())
S = len(stepping)


def finishing(
    usage: Usage | None = CROWDED,
    *calls: StepPart,
    s: int = S,
    finish_reason: FinishReason = "stop",
) -> FinishStep:
    parts = (part(s), *calls)
    return FinishStep(RUN_ID, 1, s, "ok", parts=parts, usage=usage, finish_reason=finish_reason)


def after(*history: ConversationEvent, command: Any) -> tuple[ConversationEvent, ...]:
    return (*history, *given(conversation, *history).when(command).decided())


def run_of(*history: ConversationEvent) -> Run:
    return state_of(conversation, *history).runs[RUN_ID]


def owed(*history: ConversationEvent) -> Effect:
    return pending(run_of(*history), 1)


def call(i: int = 1, *, gated: bool = False, s: int = S) -> StepPart:
    called = CalledTool(id=f"call-{i}", name="weather", arguments="{}", gated=gated)
    return StepPart(s=s, i=i, kind="call", call=called)


# --- after a step -----------------------------------------------------------------------------


def test_a_window_is_crowded_above_nine_tenths_of_it_rounded_down() -> None:
    assert (CROWDED_SHARE, LIMIT) == (0.9, 7200)
    assert crowded_above(11) == 9


@pytest.mark.parametrize(
    ("usage", "estimated", "crowded"),
    [
        (Usage(input_tokens=LIMIT + 1), None, True),
        (Usage(input_tokens=LIMIT), None, False),
        (Usage(input_tokens=1), LIMIT + 1, False),
        (Usage(input_tokens=LIMIT, output_tokens=5000), None, False),
        (Usage(output_tokens=CONTEXT_WINDOW), LIMIT, False),
        (None, LIMIT + 1, True),
        (None, LIMIT, False),
        (None, None, False),
        (Usage(), LIMIT + 1, True),
    ],
    ids=str,
)
def test_what_the_vendor_reports_of_the_request_counts_else_our_estimate_but_never_the_reply(
    usage: Usage | None, estimated: int | None, crowded: bool
) -> None:
    manifest = MANIFEST.model_copy(update={"tokens": estimated})
    step = step_started().model_copy(update={"manifest": manifest})
    history = after(*stepping[:-1], step, command=finishing(usage))
    ended = any(isinstance(one, RunFinished) for one in history)
    assert ended is not crowded
    if crowded:
        assert owed(*history) == Compact(RUN_ID, 1, "post_step_context_check", S)


def test_an_unknown_window_is_never_crowded_after_a_step() -> None:
    unknown = claimed().model_copy(update={"context_window": 0})
    history = after(*stepping[:3], unknown, step_started(), command=finishing())
    assert isinstance(history[-1], RunFinished)


def test_a_run_that_has_its_answer_compacts_before_it_ends() -> None:
    crowded = after(*stepping, command=finishing())
    assert isinstance(crowded[-1], StepFinished)
    assert owed(*crowded) == Compact(RUN_ID, 1, "post_step_context_check", S)
    for ending in (compacted(COMPACTION_ID, (3, 3), planned_at=7), failed()):
        assert owed(*crowded, begun(run_id=RUN_ID), ending) == EndRun(
            RUN_ID, 1, "completed", "end_turn"
        )


def test_tools_return_before_a_window_is_compacted() -> None:
    called = after(*stepping, command=finishing(CROWDED, call(1), call(2)))
    assert isinstance(owed(*called), RunTool)
    run = run_of(*called)
    assert run.crowded == "post_step_context_check"
    assert isinstance(pending(replace(run, calls=run.calls[:1]), 1), RunTool)
    assert pending(replace(run, calls=()), 1) == Compact(RUN_ID, 1, "post_step_context_check", S)


def test_calls_that_wait_for_the_client_do_not_hold_a_compaction_up() -> None:
    asked = after(*stepping, command=finishing(CROWDED, call(1, gated=True), call(2)))
    assert owed(*asked) == Compact(RUN_ID, 1, "post_step_context_check", S)
    roomy = (*asked, begun(run_id=RUN_ID), compacted(planned_at=len(asked)))
    assert owed(*roomy) == EndRun(RUN_ID, 1, "completed", "requires_approval")


def test_a_reply_that_was_cut_off_fails_after_its_window_was_compacted() -> None:
    cut = after(*stepping, command=finishing(finish_reason="length"))
    assert isinstance(owed(*cut), Compact)
    ending = owed(*cut, begun(run_id=RUN_ID), failed())
    assert ending == EndRun(RUN_ID, 1, "failed", "max_tokens_exceeded")


def test_an_interrupted_step_does_not_crowd_and_a_cancelled_run_only_ends() -> None:
    crowded = after(*stepping, command=finishing())
    cancelled = owed(*crowded, cancel_requested())
    assert cancelled == EndRun(RUN_ID, 1, "cancelled", "cancelled")
    interrupt = FinishStep(RUN_ID, 1, S, "interrupted", parts=(part(),), usage=CROWDED)
    history = after(*stepping, cancel_requested(), command=interrupt)
    assert isinstance(history[-1], RunFinished)
    assert history[-1].status == "cancelled"


def test_the_next_step_says_anew_whether_the_window_is_crowded() -> None:
    called = after(*stepping, command=finishing(CROWDED, call()))
    run = replace(run_of(*called), calls=())
    small = StepFinished(s=S, outcome="ok", parts=0, usage=Usage(input_tokens=1))
    again = conversation.evolve(
        replace(state_of(conversation, *called), runs={RUN_ID: run}), step_started(index=1), 9
    )
    assert again.runs[RUN_ID].crowded
    closed = conversation.evolve(again, small.model_copy(update={"s": 9}), 10)
    assert closed.runs[RUN_ID].crowded is None


# --- room was made ----------------------------------------------------------------------------


def test_a_compaction_by_anybody_clears_the_crowding_and_counts_the_context_anew() -> None:
    crowded = after(*stepping, command=finishing())
    assert run_of(*crowded).usage.context_tokens == LIMIT + 2
    by_hand = compacted(COMPACTION_ID, (3, 3), planned_at=len(crowded), tokens_after=77)
    run = run_of(*crowded, begun(), by_hand)
    assert run.crowded is None
    assert run.usage.context_tokens == 77


def test_a_run_that_has_had_no_step_has_no_context_to_be_counted() -> None:
    by_hand = compacted(COMPACTION_ID, (3, 3), planned_at=4, tokens_after=77)
    assert run_of(*stepping[:-1], begun(), by_hand).usage.context_tokens is None


def test_a_failed_compaction_of_somebody_else_leaves_a_run_crowded() -> None:
    crowded = after(*stepping, command=finishing())
    assert run_of(*crowded, begun(), failed()).crowded == "post_step_context_check"
    assert run_of(*crowded, begun(run_id=RUN_ID), failed()).crowded is None


# --- no room for the step ---------------------------------------------------------------------

overflow = SupersedeStep(RUN_ID, 1, S, "context_exceeded")
overflown = after(*stepping, command=overflow)
exceeding = begun(trigger="context_window_exceeded", run_id=RUN_ID)


def roomier(history: tuple[ConversationEvent, ...], **more: Any) -> tuple[ConversationEvent, ...]:
    event = compacted(COMPACTION_ID, (3, 3), planned_at=len(history), run_id=RUN_ID, **more)
    return (*history, exceeding, event)


def test_a_step_that_there_was_no_room_for_is_taken_again_after_a_compaction() -> None:
    assert isinstance(overflown[-1], StepSuperseded)
    assert owed(*overflown) == Compact(RUN_ID, 1, "context_window_exceeded", None)
    assert owed(*roomier(overflown)) == TakeStep(RUN_ID, 1, 0, 1)


def test_a_step_is_taken_again_after_three_compactions_and_then_no_more() -> None:
    history = stepping
    for overflows in range(1, OVERFLOWS_MAX + 1):
        s = len(history)
        history = after(*history, command=replace(overflow, s=s))
        run = run_of(*history)
        assert (run.overflows, run.attempts_lost) == (overflows, 0)
        history = roomier(history)
        assert owed(*history) == TakeStep(RUN_ID, 1, 0, 1)
        history = (*history, step_started())
    last = after(*history, command=replace(overflow, s=len(history)))
    ending = owed(*last)
    assert isinstance(ending, EndRun)
    assert (ending.status, ending.stop_reason) == ("failed", "llm_api_error")
    assert OVERFLOWS_MAX == 3


def test_a_step_that_came_to_its_end_forgets_how_often_there_was_no_room() -> None:
    again = (*roomier(overflown), step_started())
    done = after(*again, command=finishing(Usage(), call(s=len(again)), s=len(again)))
    assert run_of(*again).overflows == 1
    assert run_of(*done).overflows == 0


def test_overflows_do_not_use_up_the_attempts_at_a_step() -> None:
    lost = superseded().model_copy(update={"reason": "provider_error"})
    run = run_of(*stepping, lost, step_started(attempt=2))
    assert run.attempts_lost == 1
    tried = after(*stepping, lost, step_started(attempt=2), command=replace(overflow, s=7))
    assert run_of(*tried).attempts_lost == 1
    assert owed(*roomier(tried)) == TakeStep(RUN_ID, 1, 0, 2)


# --- no way out -------------------------------------------------------------------------------


def ended(ending: Effect, history: tuple[ConversationEvent, ...]) -> RunFinished:
    """Have a run end as it is owed to."""
    assert isinstance(ending, EndRun)
    facts = given(conversation, *history).when(FinishRun(ending)).decided()
    assert isinstance(facts[-1], RunFinished)
    return facts[-1]


@pytest.mark.parametrize(
    "reason", ["nothing_to_evict", "summariser_failed", "empty_summary", "not_smaller"]
)
def test_a_step_without_room_in_a_window_that_cannot_be_compacted_fails_its_run(
    reason: Any,
) -> None:
    history = (*overflown, exceeding, failed(reason=reason))
    finished = ended(owed(*history), history)
    assert (finished.status, finished.stop_reason) == ("failed", "llm_api_error")
    assert finished.error is not None
    assert finished.error.error_type == "context_window_overflow"


@pytest.mark.parametrize("reason", ["lost", "overtaken"])
def test_a_compaction_that_might_do_better_next_time_leaves_the_step_another_try(
    reason: Literal["lost", "overtaken"],
) -> None:
    assert isinstance(owed(*overflown, exceeding, failed(reason=reason)), TakeStep)


def test_a_run_whose_step_had_room_goes_on_where_compacting_failed() -> None:
    called = after(*stepping, command=finishing(CROWDED, call()))
    without_calls = replace(run_of(*called), calls=())
    state = replace(state_of(conversation, *called), runs={RUN_ID: without_calls})
    for event in (begun(run_id=RUN_ID), failed()):
        state = conversation.evolve(state, event, 20)
    assert isinstance(pending(state.runs[RUN_ID], 1), TakeStep)


def hopeless(history: tuple[ConversationEvent, ...], tokens: int, system: int) -> Run:
    return run_of(*roomier(history, tokens_after=tokens, system_tokens=system))


def test_a_system_prompt_that_fills_the_window_alone_fails_the_run() -> None:
    for history in (overflown, after(*stepping, command=finishing())):
        full = roomier(history, tokens_after=9000, system_tokens=CONTEXT_WINDOW)
        finished = ended(owed(*full), full)
        assert finished.status == "failed"
        assert finished.stop_reason == "context_window_overflow_in_system_prompt"
        assert finished.error is not None
        assert finished.error.error_type == finished.stop_reason


def test_a_window_that_is_still_full_of_messages_does_not() -> None:
    assert hopeless(overflown, 9000, CONTEXT_WINDOW - 1).hopeless is None
    assert hopeless(overflown, LIMIT - 1, LIMIT - 2).hopeless is None
    assert hopeless(overflown, 9000, CONTEXT_WINDOW).hopeless == "system"


def test_a_run_that_was_not_crowded_is_not_ended_by_somebody_elses_compaction() -> None:
    assert hopeless(stepping, 9000, CONTEXT_WINDOW).hopeless is None


def test_a_window_of_unknown_size_is_never_too_small_for_a_system_prompt() -> None:
    unknown = claimed().model_copy(update={"context_window": 0})
    history = after(*stepping[:3], unknown, step_started(), command=overflow)
    assert hopeless(history, 9000, 9000).hopeless is None
    assert isinstance(owed(*roomier(history)), TakeStep)


def test_a_run_may_begin_a_compaction_only_while_it_is_worth_it() -> None:
    state: Conversation = state_of(conversation, *overflown)
    command = begin(trigger="context_window_exceeded", run_id=RUN_ID, epoch=1)
    (event,) = conversation.decide(state, command)
    assert event == exceeding
