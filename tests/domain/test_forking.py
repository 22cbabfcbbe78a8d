"""What a fork begins with, and what it may do with what it inherited."""

from dataclasses import replace
from typing import Any, Final

from domain.content import Approval
from domain.conversation import (
    ANCESTORS_MAX,
    Conversation,
    ConversationStarted,
    FinishRun,
    Lineage,
    Parent,
    StartConversation,
    UndoCompaction,
    WindowCompactionUndone,
    conversation,
    seed_of,
)
from domain.conversation.memory_state import MemoryState
from domain.errors import NotFound, Refused, Unasked
from domain.run import EndRun, RunQueued, ToolFinished
from domain.sleeptime import Sleeptime
from tests.compactions import COMPACTION_ID, done
from tests.domain.test_approvals import answering, asked, returned, working
from tests.domain.test_consolidating import after_turns, asked_for, end, turn
from tests.examples import (
    AGENT_ID,
    BODY_HASH,
    CONVERSATION_ID,
    NEXT_RUN_ID,
    OTHER_CONVERSATION_ID,
    RUN_ID,
    SYSTEM,
    claim,
    queue,
    queued,
    started,
    waiting,
)
from tests.given import Given, state_of

NOTHING_YET: Final = MemoryState()
THIRD_RUN_ID: Final = "run-33333333-3333-4333-8333-333333333333"


def parent_of(facts: list[Any]) -> Parent:
    return Parent(conversation_id=CONVERSATION_ID, at=len(facts), hash=BODY_HASH)


def beginning(parent: Parent) -> StartConversation:
    return StartConversation(AGENT_ID, SYSTEM, started.settings, parent)


def forked(*facts: Any) -> tuple[Conversation, list[Any]]:
    """Fork a history after its last fact; give the fork's state and its first facts."""
    parent = parent_of([*facts])
    state = seed_of(state_of(conversation, *facts), parent)
    events: list[Any] = [*conversation.decide(state, beginning(parent))]
    for version, event in enumerate(events, start=1):
        state = conversation.evolve(state, event, version)
    return state, events


def when(state: Conversation, command: Any) -> Any:
    return Given(conversation, state).when(command)


def test_a_fork_of_a_quiet_conversation_begins_with_one_fact() -> None:
    state, events = forked(started)
    assert events == [
        ConversationStarted(
            agent_id=AGENT_ID,
            system=SYSTEM,
            settings=started.settings,
            parent=parent_of([started]),
        )
    ]
    assert (state.agent_id, state.version) == (AGENT_ID, 1)


def test_the_calls_of_a_run_under_way_are_closed_and_the_run_is_not_there() -> None:
    state, (_, *closed) = forked(*working)
    assert [(one.tool_call_id, one.status, one.s, one.stream) for one in closed] == [
        ("call-0", "cancelled", 5, CONVERSATION_ID),
        ("call-1", "cancelled", 5, CONVERSATION_ID),
    ]
    assert (state.runs, state.orphans, state.asked) == ({}, (), None)


def test_requests_and_keys_stay_behind() -> None:
    state, events = forked(started, queued(keys=("key:one",)), queued(NEXT_RUN_ID), waiting())
    assert len(events) == 1
    assert (state.runs, state.waiting, state.keys) == ({}, (), {})
    when(state, queue()).decided()


def test_calls_that_wait_for_the_client_wait_in_the_fork_and_are_answered_there() -> None:
    state, _ = forked(*asked)
    assert state.asked is not None
    assert [call.s for call in state.asked.calls] == [5 - len(asked)]
    run, _, finished = when(state, answering(returned())).decided()
    assert isinstance(run, RunQueued)
    assert isinstance(finished, ToolFinished)
    assert (run.continues, finished.s, finished.stream) == (RUN_ID, 5, CONVERSATION_ID)
    for version, event in enumerate((run, finished), start=2):
        state = conversation.evolve(state, event, version)
    assert state.asked is None


def test_an_approved_call_is_run_in_the_fork_under_its_ancestors_name() -> None:
    state, _ = forked(*asked)
    approved = when(state, answering(Approval(tool_call_id="call-0", approve=True))).decided()
    for version, event in enumerate(approved, start=2):
        state = conversation.evolve(state, event, version)
    (call,) = state.runs[NEXT_RUN_ID].calls
    assert (call.s, call.gated) == (5 - len(asked), False)


def test_what_was_answered_before_is_not_the_forks_to_attach_to() -> None:
    answered = [
        *asked,
        *Given(conversation, state_of(conversation, *asked)).when(answering(returned())).decided(),
    ]
    over = [*answered, *_ended(answered)]
    state, _ = forked(*over)
    when(state, answering(returned(), run_id=THIRD_RUN_ID)).then_refused(Unasked)
    # But if nothing had come of the answer yet, it may be given again, and the turn goes on.
    state, _ = forked(*answered)
    (run,) = when(state, answering(returned(), run_id=THIRD_RUN_ID)).decided()
    assert isinstance(run, RunQueued)
    assert run.continues == NEXT_RUN_ID


def _ended(facts: list[Any]) -> list[Any]:
    command = claim(NEXT_RUN_ID)
    claimed = Given(conversation, state_of(conversation, *facts)).when(command).decided()
    ending = FinishRun(EndRun(NEXT_RUN_ID, 1, "completed", "end_turn"))
    known = [*facts, *claimed]
    return [*claimed, *Given(conversation, state_of(conversation, *known)).when(ending).decided()]


def test_a_fork_begins_once() -> None:
    state, _ = forked(started)
    when(state, beginning(parent_of([started]))).then_refused(Refused)


def test_a_fork_has_so_many_ancestors_and_no_more() -> None:
    lineage = Lineage()
    for n in range(ANCESTORS_MAX):
        lineage = lineage.forked(Parent(conversation_id=f"conv-{n}", at=1, hash=BODY_HASH))
    parent = Parent(conversation_id=OTHER_CONVERSATION_ID, at=1, hash=BODY_HASH)
    last = replace(state_of(conversation, started), lineage=Lineage(lineage.ancestors[1:]))
    assert len(when(seed_of(last, parent), beginning(parent)).decided()) == 1
    one_more = replace(last, lineage=lineage)
    when(seed_of(one_more, parent), beginning(parent)).then_refused(Refused, saying="32")


def test_a_fork_undoes_its_parents_compaction_and_knows_no_others() -> None:
    state, _ = forked(*done)
    when(state, UndoCompaction(COMPACTION_ID)).then(
        WindowCompactionUndone(compaction_id=COMPACTION_ID)
    )
    when(state, UndoCompaction("compaction-x")).then_refused(NotFound)


def test_what_was_not_consolidated_in_the_parent_is_left_to_the_parent() -> None:
    terms = Sleeptime(frequency=3)
    facts = after_turns(2, terms)
    assert state_of(conversation, *facts).memory.turns == 2
    state, _ = forked(*facts)
    assert state.memory == NOTHING_YET
    for number in (2, 3, 4):
        for event in turn(number, terms):
            state = conversation.evolve(state, event, state.version + 1)
        decided = conversation.decide(state, end(number))
        for event in decided:
            state = conversation.evolve(state, event, state.version + 1)
        # The parent's next turn is its third; the fork counts three of its own, from its beginning.
        assert [one.after for one in asked_for([*decided])] == ([0] if number == 4 else [])
    (due,) = asked_for(after_turns(3, terms))
    assert due.after == 0
