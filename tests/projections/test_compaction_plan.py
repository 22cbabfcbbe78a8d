"""What a compaction would do: what leaves, what stays, where the cut is and why."""

from collections.abc import Callable
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.compaction import CompactionMode
from domain.conversation import WindowCompacted
from domain.event import Event, Recorded
from domain.run import Usage
from projections.compaction import NoPlan, Plan, plan_of, ranges_of
from projections.cuts import Bonds, bound_by, broken_rules, staying
from projections.items import (
    MessageItem,
    ReturnItem,
    StepItem,
    SummaryItem,
)
from projections.sizes import size_of, size_of_system, sizes_of, tokens_of
from projections.tokens import estimate
from projections.window import Window, evolve, window_of
from tests.compactions import (
    COMPACTION_ID,
    MODES,
    OTHER_COMPACTION_ID,
    begun,
    carried_out,
    compacted,
    summary_id_of,
    undone,
)
from tests.examples import (
    AT,
    BY,
    CONVERSATION_ID,
    MESSAGE_ID,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    appended,
    claimed,
    finished,
    part,
    queued,
    started,
    step_finished,
    step_started,
)
from tests.projections.compacted import GOALS, SHARES, Situation, situations
from tests.projections.histories import recorded

FREE = Bonds()


def planned(window: Window, bonds: Bonds = FREE, mode: CompactionMode = "all") -> Plan:
    plan = plan_of(window, bonds, mode, share=0.3, context_window=8000)
    assert isinstance(plan, Plan)
    return plan


# --- by example -------------------------------------------------------------------------------

FIRST = (queued(), appended(), claimed(), step_started(), part(5), step_finished(5), finished())
# Messages at 3 and 10, replies at 5 and 12.
SECOND = (
    queued(NEXT_RUN_ID),
    appended(NEXT_RUN_ID, NEXT_MESSAGE_ID, "And then?"),
    claimed(NEXT_RUN_ID),
    step_started(NEXT_RUN_ID).model_copy(update={"message_id": "message-second"}),
    part(12),
    step_finished(12),
    finished(NEXT_RUN_ID),
)
talk: tuple[Event, ...] = (started, *FIRST, *SECOND)


def spans(plan: Plan) -> list[tuple[int, int]]:
    return [(span.first, span.last) for span in plan.ranges.ranges]


def test_all_evicts_all_but_the_system_prompt() -> None:
    window = window_of(recorded(*talk))
    plan = planned(window)
    assert [item.offset for item in plan.evicted] == [3, 5, 10, 12]
    assert (plan.kept, plan.cutoff, plan.before) == ((), None, window.at + 1)
    assert (plan.messages_before, plan.messages_after) == (5, 2)
    assert spans(plan) == [(3, 12)]
    assert plan.size_kept == plan.system_size == size_of_system(window.system)
    assert plan.size_before == plan.system_size + sum(sizes_of(window))
    assert plan.tokens_before == tokens_of(window).total


def test_what_must_stay_parts_what_leaves_into_ranges() -> None:
    window = window_of(recorded(*talk))
    plan = planned(window, Bonds(pinned=frozenset({NEXT_MESSAGE_ID})))
    assert spans(plan) == [(3, 9), (12, 12)]
    assert [item.offset for item in plan.kept] == [10]
    assert (plan.before, plan.cutoff) == (10, 10)
    assert plan.size_kept == plan.system_size + estimate("And then?")


def test_there_is_no_plan_where_all_must_stay_and_none_for_nothing() -> None:
    window = window_of(recorded(*talk))
    bonds = Bonds(asked=frozenset({3, 5, 10, 12}))
    for plan in (
        plan_of(window, bonds, "all", share=0.3, context_window=8000),
        plan_of(Window(), FREE, "all", share=0.3, context_window=8000),
        plan_of(Window(), FREE, "sliding_window", share=0.3, context_window=8000),
    ):
        assert isinstance(plan, NoPlan)
        assert plan.failure == "nothing_to_evict"
        assert plan.words


def test_a_window_of_summaries_alone_is_not_compacted_again() -> None:
    first = planned(window_of(recorded(*talk)))
    again = recorded(*talk, begun(), carried_out(COMPACTION_ID, first))
    plan = plan_of(window_of(again), FREE, "all", share=0.3, context_window=8000)
    assert isinstance(plan, NoPlan)


def test_a_plan_that_would_break_a_rule_says_which() -> None:
    refused = NoPlan("the plan would break a rule", ("pinned_stay", "open_calls_stay"))
    assert refused.failure == "unsafe_plan"
    assert refused.words == "the plan would break a rule: pinned_stay: open_calls_stay"


def test_an_earlier_summary_is_evicted_as_a_message_of_its_own() -> None:
    first = planned(window_of(recorded(*talk[:8])))
    facts = recorded(*talk[:8], begun(), carried_out(COMPACTION_ID, first))
    more = [*facts, *later(facts, *SECOND)]
    plan = planned(window_of(more))
    assert [type(item) for item in plan.evicted] == [SummaryItem, MessageItem, StepItem]
    assert spans(plan) == [(10, 14)]


def later(facts: list[Recorded[Any]], *events: Event) -> list[Recorded[Any]]:
    """Put facts behind others; those of steps are moved along."""
    shift = len(facts) - 8
    moved = [
        event.model_copy(update={"s": event.s + shift})  # type: ignore[attr-defined]
        if hasattr(event, "s")
        else event
        for event in events
    ]
    return [
        Recorded(CONVERSATION_ID, len(facts) + place, AT, BY, event)
        for place, event in enumerate(moved, 1)
    ]


def test_a_summary_that_does_not_hold_now_is_in_no_range_of_another_compaction() -> None:
    # The first turn leaves, and is back; its compaction is at 10, between what leaves next.
    first = (*talk[:8], begun(), compacted(COMPACTION_ID, (3, 3), planned_at=8), undone())
    facts = [*recorded(*first), *later(recorded(*first), *SECOND)]
    plan = planned(window_of(facts), Bonds(pinned=frozenset({MESSAGE_ID})))
    assert [item.offset for item in plan.evicted] == [5, 13, 15]
    assert spans(plan) == [(5, 9), (13, 15)]


def test_what_has_left_before_parts_a_range_as_it_may_come_back() -> None:
    facts = recorded(*talk, begun(), compacted(COMPACTION_ID, (5, 10), planned_at=15, before=12))
    plan = planned(window_of(facts))
    assert [item.offset for item in plan.evicted] == [3, 17, 12]
    assert spans(plan) == [(3, 4), (12, 17)]


def test_a_summary_stands_before_a_step_that_is_under_way() -> None:
    # A turn that goes on after its calls were answered has no message of its own that stays.
    stepping = (*talk, queued(), claimed(), step_started().model_copy(update={"message_id": "x"}))
    s = len(stepping)
    facts = recorded(*stepping)
    plan = planned(window_of(facts))
    assert (plan.kept, plan.before) == ((), s)
    ends = (begun(), carried_out(COMPACTION_ID, plan), part(s), step_finished(s))
    items = window_of(recorded(*stepping, *ends)).items
    assert [item.message_id for item in items] == [summary_id_of(COMPACTION_ID), "x"]


def test_a_new_summary_stands_behind_an_older_one_that_is_pinned() -> None:
    first = planned(window_of(recorded(*talk[:8])))
    facts = recorded(*talk[:8], begun(), carried_out(COMPACTION_ID, first))
    more = [*facts, *later(facts, *SECOND)]
    bonds = Bonds(pinned=frozenset({summary_id_of(COMPACTION_ID)}))
    plan = planned(window_of(more), bonds)
    event = carried_out(OTHER_COMPACTION_ID, plan)
    items = evolve(window_of(more), Recorded(CONVERSATION_ID, 30, AT, BY, event)).items
    assert [item.message_id for item in items] == [
        summary_id_of(COMPACTION_ID),
        summary_id_of(OTHER_COMPACTION_ID),
    ]


def test_what_the_vendor_reported_is_what_a_window_has_before() -> None:
    usage = Usage(input_tokens=5000, output_tokens=50)
    reported = step_finished(12).model_copy(update={"usage": usage})
    facts = recorded(*talk[:-2], reported, talk[-1])
    assert planned(window_of(facts)).tokens_before == 5050


# --- of every window --------------------------------------------------------------------------


def for_every_plan(test: Callable[[Situation, Plan], None]) -> Callable[[], None]:
    """Plan to compact all kinds of windows in all ways."""

    @settings(max_examples=25, deadline=None)
    @given(situations(), st.sampled_from(MODES))
    def tested(situation: Situation, mode: Any) -> None:
        for share, goal in product(SHARES, GOALS):
            plan = plan_of(
                situation.window, situation.bonds, mode, share=share, context_window=goal
            )
            if isinstance(plan, Plan):
                test(situation, plan)

    return tested


def compacted_by(situation: Situation, plan: Plan) -> Window:
    """Give the window after a plan was carried out."""
    version = len(situation.facts) + 1
    event: WindowCompacted = carried_out(COMPACTION_ID, plan)
    return evolve(situation.window, Recorded(CONVERSATION_ID, version, AT, BY, event))


@for_every_plan
def test_what_leaves_and_what_stays_are_the_window(situation: Situation, plan: Plan) -> None:
    items = situation.window.items
    leaving = {item.offset for item in plan.evicted}
    assert plan.evicted == tuple(item for item in items if item.offset in leaving)
    assert plan.kept == tuple(item for item in items if item.offset not in leaving)
    assert len(plan.evicted) + len(plan.kept) == len(items)
    assert any(not isinstance(item, SummaryItem) for item in plan.evicted)


@for_every_plan
def test_no_plan_breaks_a_rule(situation: Situation, plan: Plan) -> None:
    items, bonds = situation.window.items, situation.bonds
    assert broken_rules(items, bonds, {item.offset for item in plan.evicted}) == []
    pins = situation.state.window.pinned
    assert pins.isdisjoint(item.message_id for item in plan.evicted)


@for_every_plan
def test_only_what_is_before_the_cut_leaves_and_all_of_it_that_may(
    situation: Situation, plan: Plan
) -> None:
    items = situation.window.items
    stay = staying(
        items, bound_by(items, situation.bonds), (one.offset for one in items[plan.prefix :])
    )
    assert {item.offset for item in plan.kept} == stay
    if plan.mode in ("all", "self_compact_all"):
        assert plan.prefix == len(items)


@for_every_plan
def test_ranges_hold_what_leaves_and_nothing_else_that_stood_or_might_stand(
    situation: Situation, plan: Plan
) -> None:
    window = situation.window
    inside = {offset for span in plan.ranges.ranges for offset in range(span.first, span.last + 1)}
    assert {item.offset for item in window.items if item.offset in inside} == {
        item.offset for item in plan.evicted
    }
    assert inside.isdisjoint(
        offset for first, last in window.marks.evicted.ranges for offset in range(first, last + 1)
    )
    unseen = {one.fact.version for one in window.marks.compactions.values()} - {
        item.offset for item in plan.evicted
    }
    assert inside.isdisjoint(unseen)
    assert inside.isdisjoint(window.open_steps)
    assert list(plan.ranges.ranges) == sorted(plan.ranges.ranges, key=lambda span: span.first)


@for_every_plan
def test_after_it_every_call_has_its_return_but_those_that_are_still_open(
    situation: Situation, plan: Plan
) -> None:
    after = compacted_by(situation, plan)
    returns = {(one.s, one.tool_call_id) for one in after.items if isinstance(one, ReturnItem)}
    steps = [one for one in after.items if isinstance(one, StepItem)]
    calls = {(step.offset, call_id) for step in steps for call_id in step.call_ids}
    assert returns <= calls
    assert after.pending == situation.window.pending
    newest = steps[-1].offset if steps else 0
    assert calls - returns == {(newest, call.id) for call in after.pending}


@for_every_plan
def test_the_window_after_it_is_a_summary_and_what_stays(situation: Situation, plan: Plan) -> None:
    after = compacted_by(situation, plan)
    assert tuple(one for one in after.items if one.message_id != summary_id_of(COMPACTION_ID)) == (
        plan.kept
    )
    place = [one.message_id for one in after.items].index(summary_id_of(COMPACTION_ID))
    assert all(isinstance(one, SummaryItem) for one in after.items[:place])
    assert plan.messages_before == 1 + len(situation.window.items)
    assert plan.messages_after == 1 + len(after.items)
    assert plan.cutoff == after.cutoff
    own = plan.size_kept - plan.system_size
    assert own == sum(map(size_of, plan.kept))
    assert plan.size_before == plan.system_size + sum(sizes_of(situation.window))


@for_every_plan
def test_a_sliding_window_begins_with_a_reply_that_is_the_first_to_stay(
    situation: Situation, plan: Plan
) -> None:
    if plan.mode not in ("sliding_window", "self_compact_sliding_window"):
        return
    first = situation.window.items[plan.prefix]
    assert isinstance(first, StepItem) or (
        isinstance(first, MessageItem) and first.role == "assistant"
    )
    assert plan.tries[-1].cut == plan.prefix + 1
    assert plan.tries[-1].tokens is not None
    assert plan.goal is not None
    assert plan.tries[-1].tokens < plan.goal


def test_ranges_of_nothing_are_none() -> None:
    window = window_of(recorded(*talk))
    assert ranges_of(window.items, (), window.marks) == ()
