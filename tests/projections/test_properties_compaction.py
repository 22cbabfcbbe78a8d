"""Windows that are compacted, restored, rolled back: what holds for every history."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.conversation import (
    CancelRuns,
    RedoCompaction,
    UndoCompaction,
    WindowCompacted,
    WindowCompactionRedone,
    WindowCompactionUndone,
    WindowRolledBack,
    conversation,
)
from domain.event import Recorded
from domain.run import RunHidden, StepFinished, StepStarted
from projections.items import MessageItem, ReturnItem, StepItem
from projections.marks import MARKS, marks_of
from projections.request import canonical, turns_of
from projections.turns import ModelRequest
from projections.window import FOLDED, Window, caught_up, evolve, window_from, window_of
from tests.compactions import undone
from tests.domain.invariants import check_marks
from tests.examples import AT, BY, CONVERSATION_ID, RUN_ID
from tests.projections.compacted import Compacted, compacted_histories, drawn, leaving_with
from tests.projections.histories import Facts, stored


def for_every_history(test: Callable[[Facts], None]) -> Callable[[], None]:
    return settings(max_examples=30, deadline=None)(given(compacted_histories())(test))


def with_data(test: Callable[[Facts, st.DataObject], None]) -> Callable[[], None]:
    return settings(max_examples=60, deadline=None)(given(compacted_histories(), st.data())(test))


def requested(window: Window) -> bytes:
    """Spell what a model would be told."""
    system = "" if window.system is None else window.system.system.text
    turns = turns_of(window)
    return canonical(ModelRequest(provider="demo", model="echo", system=system, turns=turns))


def same(one: Window, other: Window) -> bool:
    """Tell whether two windows are the same to whoever reads them."""
    assert (requested(one) == requested(other)) or one.items != other.items
    return (one.items, one.system, one.pending) == (other.items, other.system, other.pending)


def appended_to(facts: Facts, *events: Any) -> Facts:
    """Put events behind a history."""
    count = len(facts)
    return [
        *facts,
        *(Recorded(CONVERSATION_ID, count + n, AT, BY, one) for n, one in enumerate(events, 1)),
    ]


# --- a window is a function of stream and offset ----------------------------------------------


@for_every_history
def test_a_window_that_is_kept_up_to_date_is_the_fold_of_all_there_is(facts: Facts) -> None:
    live, revived = Window(), stored(facts)
    for count, fact in enumerate(facts, start=1):
        live = evolve(live, fact)
        whole = window_of(revived[:count])
        if live.stale:
            live = whole
        assert live == whole


@for_every_history
def test_a_window_catches_up_with_many_facts_as_with_one_after_another(facts: Facts) -> None:
    for count in range(0, len(facts), 7):
        caught = caught_up(window_of(facts[:count]), facts[count:])
        assert caught.stale or caught == window_of(facts)


def read_around(facts: Facts, upto: int) -> Window:
    """Fold a window without reading what has left it."""
    known = facts[:upto]
    marks = marks_of([*known[:1], *(one for one in known if one.event.type in MARKS)])
    read = [
        fact
        for after, last in marks.evicted.gaps(0, upto)
        for fact in known[after:last]
        if fact.event.type in FOLDED
    ]
    return replace(window_from(marks, read), at=upto)


@for_every_history
def test_reading_only_what_has_not_left_gives_the_same_window(facts: Facts) -> None:
    for upto in range(1, len(facts) + 1):
        assert read_around(facts, upto) == window_of(facts[:upto])


@for_every_history
def test_gaps_and_ranges_together_are_all_offsets_each_of_them_once(facts: Facts) -> None:
    evicted = marks_of(facts).evicted
    gaps = [set(range(a + 1, b + 1)) for a, b in evicted.gaps(0, len(facts))]
    gone = [set(range(first, last + 1)) for first, last in evicted.ranges]
    assert sorted(offset for one in (*gaps, *gone) for offset in one) == [*range(1, len(facts) + 1)]
    assert all(offset in evicted for one in gone for offset in one)
    assert not any(offset in evicted for one in gaps for offset in one)


@for_every_history
def test_at_every_offset_what_has_left_is_in_one_place_and_calls_have_their_returns(
    facts: Facts,
) -> None:
    for count in range(1, len(facts) + 1):
        window = window_of(facts[:count])
        check_marks(window)
        returns = {(one.s, one.tool_call_id) for one in window.items if isinstance(one, ReturnItem)}
        steps = [one for one in window.items if isinstance(one, StepItem)]
        calls = {(step.offset, call_id) for step in steps for call_id in step.call_ids}
        assert returns <= calls
        assert {s for s, _ in calls - returns} <= {steps[-1].offset if steps else 0}


@for_every_history
def test_what_is_pinned_when_a_compaction_is_recorded_or_redone_stays(facts: Facts) -> None:
    for fact in facts:
        if isinstance(fact.event, WindowCompacted | WindowCompactionRedone):
            before, now = window_of(facts[: fact.version - 1]), window_of(facts[: fact.version])
            ids = {item.message_id for item in before.items} & before.marks.pinned
            assert ids <= {item.message_id for item in now.items}


# --- undo and redo ----------------------------------------------------------------------------


def without(facts: Facts, compaction_ids: set[str]) -> Facts:
    """Give the history in which compactions never happened; what came after them stays as it was.

    Their facts are replaced by facts that no window heeds, so that all offsets stay.
    """
    nothing = RunHidden(run_id=RUN_ID)
    kept: Facts = []
    for fact in facts:
        event = fact.event
        if isinstance(event, WindowRolledBack):
            ids = tuple(one for one in event.compaction_ids if one not in compaction_ids)
            event = event.model_copy(update={"compaction_ids": ids})
        elif getattr(event, "compaction_id", None) in compaction_ids:
            event = nothing
        kept.append(replace(fact, event=event))
    return kept


@with_data
def test_after_an_undo_a_window_is_as_if_the_compaction_had_never_been(
    facts: Facts, data: st.DataObject
) -> None:
    known = marks_of(facts).compactions
    chosen = data.draw(st.lists(st.sampled_from([*known]), unique=True) if known else st.just([]))
    events = [undone(one) for one in chosen if known[one].active]
    restored = window_of(appended_to(facts, *events))
    assert same(restored, window_of(without(facts, set(chosen))))


@for_every_history
def test_that_holds_at_every_offset_after_an_undo_whatever_came_later(facts: Facts) -> None:
    for count, fact in enumerate(facts, start=1):
        if isinstance(fact.event, WindowCompactionUndone):
            gone = fact.event.compaction_id
            for upto in range(count, len(facts) + 1):
                if marks_of(facts[:upto]).compactions[gone].active:
                    break
                assert same(window_of(facts[:upto]), window_of(without(facts[:upto], {gone})))


@with_data
def test_undo_and_then_redo_changes_nothing(facts: Facts, data: st.DataObject) -> None:
    window = window_of(facts)
    active = [one.fact.event.compaction_id for one in window.marks.active]
    chosen = data.draw(st.lists(st.sampled_from(active), unique=True) if active else st.just([]))
    state = conversation.initial
    for fact in facts:
        state = conversation.evolve(state, fact.event, fact.version)
    if state.deleted:
        return
    commands = [
        *(UndoCompaction(one) for one in chosen),
        *(RedoCompaction(one, leaving_with(facts, one)) for one in data.draw(shuffled(chosen))),
    ]
    for command in commands:
        events = conversation.decide(state, command)
        assert len(events) == 1
        facts = appended_to(facts, *events)
        state = conversation.evolve(state, events[0], len(facts))
    assert same(window_of(facts), window)


def shuffled(ids: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.permutations(ids)


# --- rollback ---------------------------------------------------------------------------------


def idle(history: Compacted) -> None:
    """Have everything that is under way come to its end."""
    while history.planned:
        history.carry_out()
    for _ in range(200):
        if history.state.asked is not None or history.state.runs:
            history.attempt(CancelRuns())
            history.work()
    assert not history.state.runs
    assert history.state.window.compacting is None


@st.composite
def turns_taken_back(draw: st.DrawFn) -> tuple[Facts, int]:
    """Draw a history that ends with a turn that had its window compacted, and is rolled back.

    With it comes where the turn began.
    """
    history = drawn(draw)
    idle(history)
    begun = len(history.facts)
    history.gated = draw(st.sampled_from(((), ("weather",))))
    history.move("say")
    for _ in range(draw(st.integers(0, 30))):
        if draw(st.booleans()):
            history.overflow()
        history.work()
        if draw(st.integers(0, 9)) == 0:
            history.undo_own()
        if history.state.next_run is None:
            break
    if not history.state.runs and history.state.asked is None:
        begun = len(history.facts)  # the turn was over before anybody took it back
        history.move("say")
    history.move("rollback")
    for _ in range(4):
        if not isinstance(history.facts[-1].event, WindowRolledBack):
            history.work()
    return history.facts, begun


@settings(max_examples=60, deadline=None)
@given(turns_taken_back())
def test_a_turn_that_was_rolled_back_leaves_the_window_that_was_before_it(
    drawn: tuple[Facts, int],
) -> None:
    facts, begun = drawn
    (at,) = (fact.version for fact in facts[begun:] if isinstance(fact.event, WindowRolledBack))
    before, now = window_of(facts[:begun]), window_of(facts[:at])
    assert tuple(item for item in now.items if item.offset <= begun) == before.items
    assert now.system == before.system
    # What else is there is the message of whoever took the turn back.
    others = [item for item in now.items if item.offset > begun]
    own = {fact.event.run_id for fact in facts[begun:at] if fact.event.type == "run.queued"}
    assert len(own) == 2
    assert all(isinstance(item, MessageItem) for item in others)


# --- what counts as reported ------------------------------------------------------------------


@for_every_history
def test_a_step_is_in_the_window_whole_or_not_at_all(facts: Facts) -> None:
    window = window_of(facts)
    parts = {one.event.s: one.event.parts for one in facts if isinstance(one.event, StepFinished)}
    started = {one.version for one in facts if isinstance(one.event, StepStarted)}
    for item in window.items:
        if isinstance(item, StepItem):
            assert item.offset in started
            assert len(item.parts) == parts[item.offset]
