"""A window emptied down to its prompt: by a reset, or by an agent that forgets each turn."""

from dataclasses import replace

from domain.conversation import (
    ConversationStarted,
    ResetWindow,
    StartConversation,
    WindowRecompiled,
    WindowRolledBack,
    conversation,
)
from domain.conversation.facts import ConversationSettings
from domain.errors import Busy, NotFound
from projections.marks import marks_of
from projections.window import Window, caught_up, window_of
from tests.compactions import COMPACTION_ID, busy, done, pinned, told, undone
from tests.examples import (
    AGENT_ID,
    BLOCK_ID,
    NEXT_RUN_ID,
    OTHER_BLOCK_ID,
    REPLY_ID,
    SYSTEM,
    appended,
)
from tests.given import given, state_of
from tests.talks import recorded

FRESH = SYSTEM.model_copy(update={"text": "You are kind, and new."})
RESET = ResetWindow(FRESH)


def emptied(through: int, *compaction_ids: str) -> WindowRolledBack:
    event = WindowRolledBack(run_ids=(), message_ids=(), through=through)
    return event.model_copy(update={"compaction_ids": compaction_ids}) if compaction_ids else event


def test_a_reset_empties_the_window_and_takes_its_compactions_along() -> None:
    recompiled = WindowRecompiled(system=FRESH, reason="reset")
    given(conversation, *done).when(RESET).then(emptied(len(done), COMPACTION_ID), recompiled)
    again = (*done, emptied(len(done), COMPACTION_ID), recompiled)
    given(conversation, *again).when(RESET).then(emptied(len(again)), recompiled)


def test_a_compaction_that_was_undone_cannot_be_redone_after_a_reset() -> None:
    facts = (*done, undone())
    reset = given(conversation, *facts).when(RESET).decided()
    state = state_of(conversation, *facts, *reset)
    assert state.window.compactions[COMPACTION_ID].rolled_back
    marks = marks_of(recorded((*facts, *reset)))
    assert marks.active == ()
    assert marks.emptied == marks.unlisted == len(facts)


def test_a_reset_lets_go_of_pins() -> None:
    facts = (*done, pinned)
    state = state_of(conversation, *facts, *given(conversation, *facts).when(RESET).decided())
    assert state.window.pinned == frozenset()


def test_a_reset_waits_for_runs_to_be_over() -> None:
    given(conversation, *busy).when(RESET).then_refused(Busy)


def test_what_is_not_there_is_not_reset() -> None:
    given(conversation).when(RESET).then_refused(NotFound)


def test_a_conversation_remembers_its_own_copies_of_blocks() -> None:
    copies = {BLOCK_ID: OTHER_BLOCK_ID}
    asked = StartConversation(AGENT_ID, SYSTEM, ConversationSettings(), isolated=copies)
    (started,) = given(conversation).when(asked).decided()
    assert isinstance(started, ConversationStarted)
    assert state_of(conversation, started).isolated == copies
    (shared,) = given(conversation).when(replace(asked, isolated={})).decided()
    assert "isolated" not in shared.model_fields_set


def test_an_emptied_window_is_the_same_folded_at_once_or_fact_by_fact() -> None:
    for listed in (None, True):
        event = emptied(len(told), *([] if listed is None else [COMPACTION_ID]))
        event = event.model_copy(update={} if listed is None else {"listed": listed})
        recompiled = WindowRecompiled(system=FRESH, reason="reset")
        later = appended(NEXT_RUN_ID, REPLY_ID)
        facts = recorded((*told, event, recompiled, later))
        whole = window_of(facts)
        step_by_step = caught_up(Window(), facts)
        assert [item.message_id for item in whole.items] == [REPLY_ID]
        assert step_by_step.stale or step_by_step.items == whole.items
        assert whole.system is not None
        assert whole.system.system == FRESH
        assert whole.marks.unlisted == (len(told) if listed is None else None)
