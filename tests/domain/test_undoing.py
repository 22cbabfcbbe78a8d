"""Undo, redo, rollback, pins, the system prompt: what may be done to a window by hand."""

from dataclasses import replace

import pytest

from domain.conversation import (
    PINNED_MAX,
    ConversationEvent,
    FinishStep,
    MessageChanged,
    PinMessage,
    RecompileSystem,
    RedoCompaction,
    UndoCompaction,
    WindowCompactionStarted,
    WindowRecompiled,
    WindowRolledBack,
    conversation,
)
from domain.errors import Full, NotFound, Refused
from domain.run import CalledTool, StepPart
from tests.compactions import (
    COMPACTION_ID,
    OTHER_COMPACTION_ID,
    after,
    back,
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
)
from tests.examples import (
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    SYSTEM,
    queue,
    step_started,
)
from tests.given import given, state_of

THIRD_RUN_ID = "run-33333333-3333-4333-8333-333333333333"


# --- undo and redo ----------------------------------------------------------------------------


def test_an_undo_and_a_redo_are_facts_and_both_are_idempotent() -> None:
    given(conversation, *done).when(UndoCompaction(COMPACTION_ID)).then(undone())
    given(conversation, *back).when(UndoCompaction(COMPACTION_ID)).then_nothing_happens()
    given(conversation, *back).when(RedoCompaction(COMPACTION_ID)).then(redone())
    given(conversation, *done).when(RedoCompaction(COMPACTION_ID)).then_nothing_happens()
    given(conversation, *back, redone()).when(UndoCompaction(COMPACTION_ID)).then(undone())


def test_what_was_never_recorded_is_not_found() -> None:
    for history in (told, compacting, (*compacting, failed())):
        for command in (UndoCompaction(COMPACTION_ID), RedoCompaction(COMPACTION_ID)):
            given(conversation, *history).when(command).then_refused(NotFound, saying=COMPACTION_ID)


@pytest.mark.parametrize(
    ("ranges", "meets"),
    [
        (((3, 3),), True),
        (((5, 7),), True),
        (((4, 4),), True),
        (((1, 30),), True),
        (((1, 2), (6, 8)), False),
        (((9, 11),), False),
    ],
    ids=str,
)
def test_a_redo_is_refused_while_another_compaction_holds_some_of_the_same(
    ranges: tuple[tuple[int, int], ...], meets: bool
) -> None:
    other = compacted(OTHER_COMPACTION_ID, *ranges, planned_at=len(back))
    history = (*back, begun(OTHER_COMPACTION_ID), other)
    asked = given(conversation, *history).when(RedoCompaction(COMPACTION_ID))
    if not meets:
        asked.then(redone())
        return
    asked.then_refused(Refused, saying=OTHER_COMPACTION_ID)
    free = (*history, undone(OTHER_COMPACTION_ID))
    given(conversation, *free).when(RedoCompaction(COMPACTION_ID)).then(redone())


def test_a_redo_is_refused_while_a_message_that_would_leave_is_pinned() -> None:
    command = RedoCompaction(COMPACTION_ID, (MESSAGE_ID, NEXT_MESSAGE_ID))
    given(conversation, *back, pinned).when(command).then_refused(Refused, saying=NEXT_MESSAGE_ID)
    given(conversation, *back, pinned, released).when(command).then(redone())
    others = RedoCompaction(COMPACTION_ID, (MESSAGE_ID,))
    given(conversation, *back, pinned).when(others).then(redone())


# --- rollback ---------------------------------------------------------------------------------


def rolled_back_by(*history: ConversationEvent) -> WindowRolledBack:
    """Take the turn under way back; give the fact that hides it."""
    command = replace(queue(THIRD_RUN_ID, "message-third"), on_busy="rollback")
    cancelled = after(*history, command=command)
    facts = ending_of(*cancelled)
    (event,) = (one for one in facts if isinstance(one, WindowRolledBack))
    return event


run_compacted = (*run_compacting, of_run)


def test_a_rollback_names_the_compactions_that_its_turn_led_to_and_no_others() -> None:
    assert rolled_back_by(*busy).compaction_ids == ()
    assert rolled_back_by(*run_compacted).compaction_ids == (COMPACTION_ID,)
    by_hand = (*busy, begun(), compacted(COMPACTION_ID, (3, 5), planned_at=len(busy)))
    assert rolled_back_by(*by_hand).compaction_ids == ()
    assert rolled_back_by(*run_compacting, failed()).compaction_ids == ()


def test_a_compaction_that_was_undone_before_the_rollback_is_gone_for_good_too() -> None:
    event = rolled_back_by(*run_compacted, undone())
    assert event.compaction_ids == (COMPACTION_ID,)
    gone = (*run_compacted, undone(), event)
    given(conversation, *gone).when(RedoCompaction(COMPACTION_ID)).then_refused(
        Refused, saying="rolled back"
    )


def test_what_was_rolled_back_is_neither_undone_nor_redone() -> None:
    gone = (*run_compacted, rolled_back_by(*run_compacted))
    given(conversation, *gone).when(UndoCompaction(COMPACTION_ID)).then_nothing_happens()
    given(conversation, *gone).when(RedoCompaction(COMPACTION_ID)).then_refused(Refused)


def test_the_rollback_of_calls_that_wait_names_the_compactions_of_their_turn() -> None:
    stepping = (*run_compacted, step_started(NEXT_RUN_ID))
    called = CalledTool(id="call-1", name="weather", arguments="{}", gated=True)
    part = StepPart(s=len(stepping), i=0, kind="call", call=called)
    finish = FinishStep(NEXT_RUN_ID, 1, len(stepping), "ok", parts=(part,))
    asked = after(*stepping, command=finish)
    assert state_of(conversation, *asked).asked is not None
    command = replace(queue(THIRD_RUN_ID, "message-third"), on_busy="rollback")
    (event,) = (
        one
        for one in given(conversation, *asked).when(command).decided()
        if isinstance(one, WindowRolledBack)
    )
    assert event.compaction_ids == (COMPACTION_ID,)


# --- pins and the system prompt ---------------------------------------------------------------


def test_a_message_is_pinned_once_and_let_go_once() -> None:
    pin, release = PinMessage(NEXT_MESSAGE_ID, pinned=True), PinMessage(NEXT_MESSAGE_ID, False)
    given(conversation, *told).when(pin).then(pinned)
    given(conversation, *told, pinned).when(pin).then_nothing_happens()
    given(conversation, *told, pinned).when(release).then(released)
    given(conversation, *told).when(release).then_nothing_happens()


def test_pins_are_bounded_and_one_let_go_makes_room_for_another() -> None:
    full = (
        *told,
        *(
            MessageChanged(message_id=f"message-{number}", pinned=True)
            for number in range(PINNED_MAX)
        ),
    )
    one_more = PinMessage(MESSAGE_ID, pinned=True)
    given(conversation, *full).when(one_more).then_refused(Full, saying=str(PINNED_MAX))
    given(conversation, *full).when(PinMessage("message-0", pinned=True)).then_nothing_happens()
    freed = MessageChanged(message_id="message-0", pinned=False)
    given(conversation, *full, freed).when(one_more).then(
        MessageChanged(message_id=MESSAGE_ID, pinned=True)
    )


def test_a_new_system_prompt_is_a_fact_with_its_reason() -> None:
    command = RecompileSystem(SYSTEM, "asked for")
    given(conversation, *told).when(command).then(
        WindowRecompiled(system=SYSTEM, reason="asked for")
    )


def test_a_compaction_under_way_is_in_the_state_with_what_it_is_for() -> None:
    under_way = state_of(conversation, *run_compacting).window.compacting
    assert under_way is not None
    assert (under_way.compaction_id, under_way.run_id) == (COMPACTION_ID, NEXT_RUN_ID)
    started_facts = [one for one in run_compacting if isinstance(one, WindowCompactionStarted)]
    assert under_way.trigger == started_facts[0].trigger
