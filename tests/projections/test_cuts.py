"""What must stay in a window, rule by rule, and that a plan which breaks a rule is seen."""

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.compaction import CompactionMode
from domain.content import Text
from domain.conversation import Asked, Conversation, WindowState
from domain.run import CalledTool, OpenCall, Run, RunRequest, StepPart, Turn
from projections.compaction import Plan, plan_of
from projections.cuts import (
    RULES,
    Bonds,
    bonds_of,
    bound_by,
    broken_rules,
    calls_and_returns_together,
    open_calls_stay,
    pinned_stay,
    requests_of_runs_stay,
    staying,
    unanswered_calls_stay,
)
from projections.items import Item, MessageItem, ReturnItem, StepItem
from tests.compactions import MODES
from tests.projections.compacted import GOALS, SHARES, Situation, situations


def message(offset: int, words: str = "Hello!") -> MessageItem:
    return MessageItem(offset, f"message-{offset}", "user", (Text(text=words),))


def reply(offset: int, *calls: str, interrupted: bool = False) -> StepItem:
    parts = tuple(
        StepPart(s=offset, i=i, kind="call", call=CalledTool(id=one, name="map", arguments="{}"))
        for i, one in enumerate(calls)
    )
    return StepItem(offset, f"message-{offset}", parts, interrupted, None)


def returned(offset: int, s: int, call: str) -> ReturnItem:
    return ReturnItem(offset, f"message-{offset}", s, call, "map", "ok", (Text(text="done"),))


def call_of(s: int, call: str) -> OpenCall:
    return OpenCall(s, "step-1", f"message-{s}", call, "map", "{}")


FREE = Bonds()
# Two turns; the first has called two tools.
TALK: tuple[Item, ...] = (
    message(3),
    reply(5, "a", "b"),
    returned(9, 5, "a"),
    returned(11, 5, "b"),
    reply(13),
    message(20),
    reply(23),
)


# --- rule by rule -----------------------------------------------------------------------------


def test_what_is_pinned_stays() -> None:
    bonds = Bonds(pinned=frozenset({"message-3", "message-elsewhere"}))
    assert pinned_stay(TALK, bonds) == {3}
    assert pinned_stay(TALK, FREE) == set()


def test_what_a_run_was_asked_stays() -> None:
    assert requests_of_runs_stay(TALK, Bonds(asked=frozenset({20, 400}))) == {20}
    assert requests_of_runs_stay(TALK, FREE) == set()


def test_a_reply_stays_while_somebody_is_at_its_calls() -> None:
    assert open_calls_stay(TALK, Bonds(open_steps=frozenset({5, 400}))) == {5}
    assert open_calls_stay(TALK, FREE) == set()


def test_a_reply_stays_while_one_of_its_calls_has_no_return() -> None:
    without = [item for item in TALK if item.offset != 11]
    assert unanswered_calls_stay(without, FREE) == {5}
    assert unanswered_calls_stay(TALK, FREE) == set()


def test_calls_of_a_reply_that_broke_off_are_owed_no_return() -> None:
    assert unanswered_calls_stay([reply(5, "a", interrupted=True)], FREE) == set()


def test_a_return_is_that_of_its_own_step_whatever_its_call_is_called() -> None:
    twice = (reply(5, "a"), returned(9, 5, "a"), reply(13, "a"))
    assert unanswered_calls_stay(twice, FREE) == {13}


def test_a_reply_stays_with_the_returns_of_its_calls_and_they_with_it() -> None:
    for one in (5, 9, 11):
        assert calls_and_returns_together(TALK, {one}) == {5, 9, 11}
    assert calls_and_returns_together(TALK, {13, 20}) == {13, 20}
    assert calls_and_returns_together(TALK, set[int]()) == set()


def test_what_stays_is_what_any_rule_keeps_and_whatever_belongs_to_it() -> None:
    bonds = Bonds(pinned=frozenset({"message-9"}), asked=frozenset({20}))
    bound = bound_by(TALK, bonds)
    assert staying(TALK, bound) == {5, 9, 11, 20}
    assert staying(TALK, bound, (23,)) == {5, 9, 11, 20, 23}
    assert staying(TALK, bound_by(TALK, FREE)) == set()


# --- seen when broken -------------------------------------------------------------------------


def test_an_eviction_that_breaks_a_rule_is_named_by_it() -> None:
    waiting = [item for item in TALK if item.offset != 11]
    cases: list[tuple[Any, Bonds, set[int], str]] = [
        (TALK, Bonds(pinned=frozenset({"message-3"})), {3}, "pinned_stay"),
        (TALK, Bonds(asked=frozenset({20})), {20}, "requests_of_runs_stay"),
        (TALK, Bonds(open_steps=frozenset({13})), {13}, "open_calls_stay"),
        (waiting, FREE, {5, 9}, "unanswered_calls_stay"),
        (TALK, FREE, {5}, "calls_and_returns_together"),
        (TALK, FREE, {9}, "calls_and_returns_together"),
    ]
    for items, bonds, evicted, rule in cases:
        assert broken_rules(items, bonds, evicted) == [rule]


def test_a_safe_eviction_breaks_none() -> None:
    assert broken_rules(TALK, FREE, {3, 5, 9, 11}) == []
    assert broken_rules(TALK, FREE, set()) == []
    assert broken_rules(TALK, FREE, {item.offset for item in TALK}) == []


def test_a_conversation_holds_what_its_runs_were_asked_its_open_calls_and_its_pins() -> None:
    runs = {
        "run-1": Run("run-1", 2, RunRequest(), said=(3, 20), calls=(call_of(5, "a"),)),
        "run-2": Run("run-2", 22, RunRequest(), said=(23,)),
    }
    state = Conversation(
        runs=runs,
        asked=Asked("run-0", (call_of(1, "z"),), Turn()),
        window=WindowState(pinned=frozenset({"message-3"})),
    )
    assert bonds_of(state) == Bonds(
        frozenset({"message-3"}), frozenset({3, 20, 23}), frozenset({1, 5})
    )
    assert bonds_of(Conversation()) == FREE


# --- of every window --------------------------------------------------------------------------

given_a_plan = given(situations(), st.sampled_from(MODES), st.randoms(use_true_random=False))


@settings(max_examples=30, deadline=None)
@given_a_plan
def test_no_plan_breaks_a_rule_and_one_that_was_tampered_with_does(
    situation: Situation, mode: CompactionMode, random: Random
) -> None:
    items, bonds = situation.window.items, situation.bonds
    for share, goal in product(SHARES, GOALS):
        plan = plan_of(situation.window, bonds, mode, share=share, context_window=goal)
        if isinstance(plan, Plan):
            evicted = {item.offset for item in plan.evicted}
            assert broken_rules(items, bonds, evicted) == []
            check_tampered(items, bonds, evicted, random)


def check_tampered(items: Sequence[Item], bonds: Bonds, evicted: set[int], random: Random) -> None:
    """Evict one that must stay, or keep a reply whose returns leave."""
    for rule in RULES:
        if bound := sorted(rule(items, bonds)):
            assert rule.__name__ in broken_rules(items, bonds, evicted | {random.choice(bound)})
    steps = {item.s for item in items if isinstance(item, ReturnItem)}
    if torn := sorted(steps & evicted):
        assert broken_rules(items, bonds, evicted - {random.choice(torn)}) == [
            "calls_and_returns_together"
        ]


@settings(max_examples=30, deadline=None)
@given(situations())
def test_what_is_open_in_a_conversation_is_bound_in_its_window(situation: Situation) -> None:
    state, window = situation.state, situation.window
    stay = staying(window.items, bound_by(window.items, situation.bonds))
    waiting = () if state.asked is None else state.asked.calls
    for run in state.runs.values():
        assert stay.issuperset(run.asked)
        assert stay.issuperset(call.s for call in run.calls)
    assert stay.issuperset(call.s for call in waiting)
    pinned = {item.offset for item in window.items if item.message_id in state.window.pinned}
    assert stay.issuperset(pinned)
