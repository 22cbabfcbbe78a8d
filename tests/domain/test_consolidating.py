"""When memory is consolidated: asked for in the append that ends a turn, one at a time, over once."""

from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from domain.conversation import (
    CancelRuns,
    ConsolidationFinished,
    ConsolidationQueued,
    Conversation,
    ConversationEvent,
    FinishConsolidation,
    FinishRun,
    QueueConsolidation,
    SettleProposal,
    conversation,
)
from domain.conversation.memory_state import PROPOSALS_MAX
from domain.errors import Busy, NotFound, Refused
from domain.run import EndRun, RunFinished
from domain.sleeptime import Consolidates, Sleeptime, conversation_of, run_of
from tests.examples import (
    BLOCK_ID,
    CONVERSATION_ID,
    appended,
    claimed,
    queued,
    started,
)
from tests.given import given, state_of

ASKED = "consolidation-11111111-1111-4111-8111-111111111111"
OTHER = "consolidation-22222222-2222-4222-8222-222222222222"


def run_id(number: int) -> str:
    return f"run-{number:08d}-0000-4000-8000-000000000000"


def turn(number: int, terms: Sleeptime | None) -> list[ConversationEvent]:
    """Give a turn up to just before its end."""
    mine = run_id(number)
    claim = claimed(mine).model_copy(update={"sleeptime": terms})
    return [queued(mine), appended(mine, f"message-{number}"), claim]


def end(number: int, status: Any = "completed", reason: Any = "end_turn") -> FinishRun:
    return FinishRun(EndRun(run_id(number), 1, status, reason))


def ended(consolidation_id: str = ASKED, **more: Any) -> ConsolidationFinished:
    outcome = more.pop("outcome", "applied")
    return ConsolidationFinished(consolidation_id=consolidation_id, outcome=outcome, **more)


def asked_for(facts: list[ConversationEvent]) -> list[ConsolidationQueued]:
    return [one for one in facts if isinstance(one, ConsolidationQueued)]


def after_turns(
    count: int, terms: Sleeptime | None, *more: ConversationEvent
) -> list[ConversationEvent]:
    facts: list[ConversationEvent] = [started, *more]
    for number in range(count):
        facts += turn(number, terms)
        facts += conversation.decide(state_of(conversation, *facts), end(number))
    return facts


def test_the_nth_turn_asks_for_one_in_the_append_that_ends_it() -> None:
    terms = Sleeptime(frequency=2)
    facts = [*after_turns(1, terms), *turn(1, terms)]
    asked, last = given(conversation, *facts).when(end(1)).decided()
    assert isinstance(asked, ConsolidationQueued)
    assert isinstance(last, RunFinished)
    assert (asked.trigger, asked.after, asked.terms) == ("turns", 0, terms)
    assert asked.after_run == run_id(1)
    assert asked.conversation_id == conversation_of(asked.consolidation_id)
    assert asked.run_id == run_of(asked.consolidation_id)


@pytest.mark.parametrize(
    ("status", "reason"),
    [("failed", "error"), ("completed", "requires_approval"), ("cancelled", "cancelled")],
)
def test_a_turn_that_did_not_come_to_its_end_is_none(status: str, reason: str) -> None:
    terms = Sleeptime(frequency=1)
    facts = [started, *turn(0, terms)]
    if status == "cancelled":
        facts += conversation.decide(state_of(conversation, *facts), CancelRuns())
    decided = given(conversation, *facts).when(end(0, status, reason)).decided()
    assert asked_for(decided) == []
    assert state_of(conversation, *facts, *decided).memory.turns == 0


@drawn(st.integers(1, 4), st.lists(st.booleans(), min_size=1, max_size=14))
def test_between_two_there_are_always_as_many_turns_as_was_said(
    frequency: int, ready: list[bool]
) -> None:
    terms = Sleeptime(frequency=frequency)
    facts: list[ConversationEvent] = [started]
    turns_since, under_way = 0, False
    for number, over in enumerate(ready):
        facts += turn(number, terms)
        decided = conversation.decide(state_of(conversation, *facts), end(number))
        turns_since += 1
        due = turns_since >= frequency and not under_way
        assert len(asked_for([*decided])) == due
        facts += decided
        if due:
            turns_since, under_way = 0, True
        state = state_of(conversation, *facts)
        if over and state.memory.under_way is not None:
            name = state.memory.under_way.event.consolidation_id
            facts += conversation.decide(state, FinishConsolidation(ended(name, upto=3)))
            under_way = False


def test_an_agent_that_does_not_ask_for_it_has_none() -> None:
    assert asked_for(after_turns(9, None)) == []


def test_one_at_a_time_and_the_same_one_again_is_nothing() -> None:
    ask = QueueConsolidation(ASKED, Sleeptime())
    (first,) = given(conversation, started).when(ask).decided()
    under_way = given(conversation, started, first)
    under_way.when(ask).then_nothing_happens()
    under_way.when(QueueConsolidation(OTHER, Sleeptime())).then_refused(Busy)
    under_way.when(FinishConsolidation(ended(OTHER))).then_nothing_happens()
    over = ended(upto=7)
    under_way.when(FinishConsolidation(over)).then(over)
    done = given(conversation, started, first, over)
    done.when(FinishConsolidation(over)).then_nothing_happens()
    done.when(ask).then_nothing_happens()


def test_a_conversation_that_is_a_consolidation_is_not_consolidated() -> None:
    own = Consolidates(
        conversation_id=CONVERSATION_ID, consolidation_id=OTHER, after=0, upto=4, at=5
    )
    inner = started.model_copy(update={"consolidates": own})
    ask = QueueConsolidation(ASKED, Sleeptime())
    given(conversation, inner).when(ask).then_refused(Refused, saying="itself")
    given(conversation).when(ask).then_refused(NotFound)


def memory_after(*facts: ConversationEvent) -> Any:
    (asked,) = conversation.decide(
        state_of(conversation, started), QueueConsolidation(ASKED, Sleeptime())
    )
    return state_of(conversation, started, asked, *facts).memory


def test_the_next_one_begins_where_the_last_that_did_something_ended() -> None:
    assert memory_after(ended(upto=7)).upto == 7
    assert memory_after(ended(outcome="failed", detail="Oh.")).upto == 0
    assert memory_after(ended(outcome="cancelled")).upto == 0
    asked = QueueConsolidation(OTHER, Sleeptime())
    facts = conversation.decide(
        Conversation(agent_id="a", memory=memory_after(ended(upto=7))), asked
    )
    assert [one.after for one in asked_for([*facts])] == [7]


def test_a_proposal_waits_until_it_is_settled_or_a_newer_one_takes_its_place() -> None:
    proposal = ended(outcome="proposed", block_id=BLOCK_ID, value="Tea.", base_version=1)
    newer = proposal.model_copy(update={"consolidation_id": OTHER})
    known = Conversation(agent_id="a", memory=memory_after(proposal))
    accept = SettleProposal(ASKED, accepted=True, version=2)
    (settled,) = conversation.decide(known, accept)
    assert conversation.evolve(known, settled, 9).memory.proposals == {}
    assert [*memory_after(proposal, newer).proposals] == [OTHER]
    replaced = Conversation(agent_id="a", memory=memory_after(proposal, newer))
    with pytest.raises(Refused, match="waits for a decision"):
        conversation.decide(replaced, accept)


def test_only_so_many_proposals_are_kept() -> None:
    many = [
        ended(f"consolidation-{n}", outcome="proposed", block_id=f"block-{n}")
        for n in range(PROPOSALS_MAX + 3)
    ]
    kept = memory_after(*many).proposals
    assert [*kept] == [f"consolidation-{n}" for n in range(3, PROPOSALS_MAX + 3)]
