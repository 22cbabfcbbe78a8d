"""What may be done to a window, when, and who wins when two things are done at once."""

from dataclasses import replace
from typing import Any, Final

import pytest

from domain.content import Approval
from domain.conversation import (
    CancelRuns,
    ConversationEvent,
    DeleteConversation,
    FailCompaction,
    FinishStep,
    MessageAppended,
    NewApproval,
    PinMessage,
    RecompileSystem,
    RecordCompaction,
    RedoCompaction,
    StartCompaction,
    UndoCompaction,
    WindowCompactionFailed,
    WindowRecompiled,
    WindowRolledBack,
    conversation,
)
from domain.errors import NotFound, Stale
from domain.run import CalledTool, StepPart, StepSuperseded, ToolFinished
from tests.compactions import (
    COMPACTION_ID,
    OTHER_COMPACTION_ID,
    after,
    back,
    begin,
    begun,
    busy,
    compacted,
    compacting,
    done,
    ending_of,
    failed,
    of_run,
    pinned,
    redone,
    released,
    run_compacting,
    told,
    undone,
    whole,
)
from tests.examples import (
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    OTID,
    RUN_ID,
    SYSTEM,
    appended,
    claim,
    claimed,
    deleted,
    finished,
    part,
    queue,
    queued,
    step_finished,
    step_started,
    waiting,
)
from tests.given import given, state_of

THIRD_RUN_ID = "run-33333333-3333-4333-8333-333333333333"


# The model had no room for the run's step.
crowded_out: Final = (
    *busy,
    step_started(NEXT_RUN_ID),
    StepSuperseded(s=len(busy) + 1, reason="context_exceeded", attempt=1),
)


def begin_for_run(compaction_id: str = COMPACTION_ID) -> StartCompaction:
    return begin(compaction_id, trigger="post_step_context_check", run_id=NEXT_RUN_ID, epoch=1)


def record(*ranges: tuple[int, int], planned_at: int, **more: Any) -> RecordCompaction:
    return RecordCompaction(compacted(COMPACTION_ID, *ranges, planned_at=planned_at, **more))


def overtaken_of(*history: ConversationEvent, command: RecordCompaction) -> str:
    """Expect that a compaction has been overtaken; give the words that say by what."""
    (event,) = given(conversation, *history).when(command).decided()
    assert isinstance(event, WindowCompactionFailed)
    assert (event.compaction_id, event.reason) == (COMPACTION_ID, "overtaken")
    return event.detail or ""


# --- beginning --------------------------------------------------------------------------------


def test_a_compaction_begins_with_a_fact_that_says_why_and_how_large_the_window_is() -> None:
    given(conversation, *told).when(begin()).then(begun())
    command = replace(begin_for_run(), s=5)
    begins = begun(trigger="post_step_context_check", run_id=NEXT_RUN_ID, s=5)
    given(conversation, *crowded_out).when(command).then(begins)
    given(conversation, *busy).when(command).then_refused(Stale)


def test_of_two_at_once_the_first_wins() -> None:
    given(conversation, *compacting).when(begin(OTHER_COMPACTION_ID)).then_nothing_happens()
    given(conversation, *compacting).when(begin()).then_nothing_happens()


def test_one_that_nobody_is_at_any_more_is_given_up_by_whoever_begins_the_next() -> None:
    command = begin(OTHER_COMPACTION_ID, instead_of=COMPACTION_ID)
    facts = (failed(reason="lost"), begun(OTHER_COMPACTION_ID))
    given(conversation, *compacting).when(command).then(*facts)
    stale = begin("compaction-x", instead_of=COMPACTION_ID)
    given(conversation, *compacting, *facts).when(stale).then_nothing_happens()


def test_after_the_end_of_one_the_next_may_begin() -> None:
    for ending in (whole, failed()):
        history = (*compacting, ending)
        given(conversation, *history).when(begin(OTHER_COMPACTION_ID)).then(
            begun(OTHER_COMPACTION_ID)
        )


def test_a_run_that_is_over_cancelled_or_anothers_cannot_begin_one() -> None:
    command = begin_for_run()
    given(conversation, *told).when(command).then_refused(Stale)
    given(conversation, *crowded_out, claimed(NEXT_RUN_ID, 2)).when(command).then_refused(Stale)
    cancelled = after(*crowded_out, command=CancelRuns())
    given(conversation, *cancelled).when(command).then_refused(Stale)


# --- recording --------------------------------------------------------------------------------


def test_what_was_planned_is_recorded_as_it_was_planned() -> None:
    given(conversation, *compacting).when(RecordCompaction(whole)).then(whole)
    state = state_of(conversation, *done)
    assert state.window.compacting is None
    assert state.window.compactions[COMPACTION_ID].ranges == whole.evicted.ranges


def test_messages_that_came_meanwhile_are_no_obstacle() -> None:
    later = (queued(NEXT_RUN_ID), appended(NEXT_RUN_ID, NEXT_MESSAGE_ID), claimed(NEXT_RUN_ID))
    step = (step_started(NEXT_RUN_ID), part(13), step_finished(13))
    history = (*compacting, *later, *step)
    given(conversation, *history).when(RecordCompaction(whole)).then(whole)


def test_what_is_not_under_way_is_neither_recorded_nor_failed() -> None:
    for command in (RecordCompaction(whole), FailCompaction(failed())):
        given(conversation, *told).when(command).then_refused(Stale)
        given(conversation, *done).when(command).then_refused(Stale)
        given(conversation, *compacting, failed(reason="lost")).when(command).then_refused(Stale)
        other = (*told, begun(OTHER_COMPACTION_ID))
        given(conversation, *other).when(command).then_refused(Stale)


def test_a_failure_is_recorded_with_its_reason_and_changes_nothing() -> None:
    empty = failed(reason="empty_summary")
    given(conversation, *compacting).when(FailCompaction(empty)).then(empty)
    before, now = state_of(conversation, *told), state_of(conversation, *compacting, empty)
    assert before.window == now.window


# What may have happened to a window with one compaction since a second one was planned.
CHANGES: dict[str, tuple[tuple[ConversationEvent, ...], tuple[ConversationEvent, ...]]] = {
    "an undo": (done, (undone(),)),
    "a redo": (back, (redone(),)),
    "a pin": (done, (pinned,)),
    "an end of a pin": ((*done, pinned), (released,)),
    "a rollback": (
        done,
        (WindowRolledBack(run_ids=(RUN_ID,), message_ids=(MESSAGE_ID,)),),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_window_that_has_changed_since_the_plan_overtakes_it(change: str) -> None:
    before, changes = CHANGES[change]
    other = compacted(OTHER_COMPACTION_ID, (3, 3), planned_at=len(before))
    under_way = (*before, begun(OTHER_COMPACTION_ID))
    given(conversation, *under_way).when(RecordCompaction(other)).then(other)
    (event,) = given(conversation, *under_way, *changes).when(RecordCompaction(other)).decided()
    assert isinstance(event, WindowCompactionFailed)
    assert (event.compaction_id, event.reason) == (OTHER_COMPACTION_ID, "overtaken")
    assert event.detail == f"the window was changed at offset {len(under_way) + 1}"


def test_another_compaction_since_the_plan_overtakes_it() -> None:
    again = (*done, begun(OTHER_COMPACTION_ID))
    old = compacted(OTHER_COMPACTION_ID, (3, 3), planned_at=len(told))
    (event,) = given(conversation, *again).when(RecordCompaction(old)).decided()
    assert isinstance(event, WindowCompactionFailed)
    assert event.reason == "overtaken"


def test_a_new_system_prompt_since_the_plan_is_no_obstacle() -> None:
    recompiled = WindowRecompiled(system=SYSTEM, reason="asked for")
    given(conversation, *compacting, recompiled).when(RecordCompaction(whole)).then(whole)


def test_what_a_run_under_way_was_asked_stays() -> None:
    history = (*busy, begun())
    command = record((3, 5), (10, 10), planned_at=len(busy))
    detail = overtaken_of(*history, command=command)
    assert detail == "offset 10 is what a run under way was asked"
    given(conversation, *history).when(record((3, 5), planned_at=len(busy))).then(
        record((3, 5), planned_at=len(busy)).event
    )


def test_what_a_run_that_waits_was_asked_stays_once_it_has_entered() -> None:
    # Its message waits behind everything that was planned on, then enters: no obstacle.
    line = (*busy, queued(THIRD_RUN_ID), waiting(THIRD_RUN_ID, "message-third"), begun())
    command = record((3, 5), planned_at=len(line) - 1)
    given(conversation, *line).when(command).then(command.event)
    entered = (
        *line,
        finished(NEXT_RUN_ID),
        claimed(THIRD_RUN_ID),
        appended(THIRD_RUN_ID, "message-third", queued=13),
    )
    given(conversation, *entered).when(command).then(command.event)
    greedy = record((3, len(entered)), planned_at=len(entered))
    assert overtaken_of(*entered, command=greedy).startswith(f"offset {len(entered)} is what")


def call(s: int, i: int = 0, *, gated: bool = False) -> StepPart:
    called = CalledTool(id=f"call-{i}", name="weather", arguments="{}", gated=gated)
    return StepPart(s=s, i=i, kind="call", call=called)


# The second turn's step, at 12, has called a tool.
stepping = (*busy, step_started(NEXT_RUN_ID))
S = len(stepping)


def replied(*parts: StepPart) -> tuple[ConversationEvent, ...]:
    finish = FinishStep(NEXT_RUN_ID, 1, S, "ok", parts=parts, finish_reason="tool_call")
    return after(*stepping, command=finish)


def test_a_reply_stays_while_its_run_is_at_its_calls() -> None:
    history = (*replied(call(S)), begun())
    command = record((S, S), planned_at=len(history) - 1)
    assert overtaken_of(*history, command=command) == f"step {S} has calls without a return"


def test_a_reply_stays_while_its_calls_wait_for_the_client() -> None:
    history = (*replied(call(S, gated=True)), begun())
    assert state_of(conversation, *history).asked is not None
    command = record((S, S), planned_at=len(history) - 1)
    assert overtaken_of(*history, command=command) == f"step {S} has calls without a return"


def test_an_answer_to_calls_is_no_message_that_stands_in_the_way() -> None:
    asked = replied(call(S, gated=True))
    answer = NewApproval("message-answer", OTID, (Approval(tool_call_id="call-0", approve=False),))
    command = replace(queue(THIRD_RUN_ID), messages=(), approval=answer, body_hash="answer")
    answered = after(*asked, command=command)
    assert isinstance(answered[-2], MessageAppended)
    assert isinstance(answered[-1], ToolFinished)
    history = (*answered, claimed(THIRD_RUN_ID), begun())
    # The answer lies between the reply and the return of its call, both of which are to leave.
    compaction = record((S, len(answered)), planned_at=len(answered))
    given(conversation, *history).when(compaction).then(compaction.event)


# --- who may write, and what ends a compaction ------------------------------------------------

run_plan = RecordCompaction(of_run)


def test_a_compaction_is_lost_with_the_worker_whose_run_another_takes_over() -> None:
    facts = given(conversation, *run_compacting).when(claim(NEXT_RUN_ID, 2)).decided()
    assert facts == [claimed(NEXT_RUN_ID, 2), failed(reason="lost")]
    taken_over = (*run_compacting, *facts)
    given(conversation, *taken_over).when(run_plan).then_refused(Stale)
    given(conversation, *taken_over).when(FailCompaction(failed())).then_refused(Stale)


def test_a_take_over_leaves_a_persons_compaction_alone() -> None:
    facts = given(conversation, *busy, begun()).when(claim(NEXT_RUN_ID, 2)).decided()
    assert facts == [claimed(NEXT_RUN_ID, 2)]


def test_the_end_of_a_cancelled_run_cancels_its_compaction() -> None:
    cancelled = after(*run_compacting, command=CancelRuns())
    given(conversation, *cancelled).when(run_plan).then_refused(Stale)
    ending = ending_of(*cancelled)
    assert ending[0] == failed(reason="cancelled")
    assert state_of(conversation, *cancelled, *ending).window.compacting is None


def test_a_cancel_leaves_a_persons_compaction_alone() -> None:
    cancelled = after(*busy, begun(), command=CancelRuns())
    history = (*cancelled, *ending_of(*cancelled))
    assert not any(isinstance(one, WindowCompactionFailed) for one in history)
    command = record((3, 5), planned_at=len(busy))
    given(conversation, *history).when(command).then(command.event)


def test_deleting_a_conversation_cancels_what_a_person_asked_for() -> None:
    given(conversation, *compacting).when(DeleteConversation()).then(
        failed(reason="cancelled"), deleted
    )
    gone = after(*compacting, command=DeleteConversation())
    given(conversation, *gone).when(RecordCompaction(whole)).then_refused(Stale)


def test_in_a_deleted_conversation_a_runs_compaction_ends_with_its_run() -> None:
    gone = after(*run_compacting, command=DeleteConversation())
    assert gone[-1] == deleted
    assert not any(isinstance(one, WindowCompactionFailed) for one in gone)
    assert ending_of(*gone)[0] == failed(reason="cancelled")


@pytest.mark.parametrize(
    "command",
    [
        begin(),
        UndoCompaction(COMPACTION_ID),
        RedoCompaction(COMPACTION_ID),
        PinMessage(MESSAGE_ID, pinned=True),
        RecompileSystem(SYSTEM, "asked for"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_deleted_conversation_has_no_window_to_change(command: Any) -> None:
    given(conversation, *done, deleted).when(command).then_refused(NotFound)
