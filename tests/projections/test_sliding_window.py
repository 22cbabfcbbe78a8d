"""Where a sliding window is cut: the original search, step by step."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.content import Text
from domain.conversation import Counts, System, Try
from domain.run import CalledTool, StepPart
from domain.streams import derived_id
from projections.compaction import NoPlan, Plan, plan_of, search
from projections.cuts import Bonds
from projections.items import (
    Item,
    MessageItem,
    StepItem,
    SystemAt,
)
from projections.marks import Marks
from projections.sizes import size_of, size_of_system, sizes_of
from projections.window import Window

FREE = Bonds()


def window_like(kinds: str, sizes: list[int], *, pending: bool = False) -> Window:
    """Give a window: u and a are messages of the two sides, s and c replies, c with a call."""
    items: list[Item] = []
    for offset, (kind, size) in enumerate(zip(kinds, sizes, strict=True), start=2):
        text = "x" * round(size * 4 / 1.3)
        if kind in "ua":
            role = "user" if kind == "u" else "assistant"
            items.append(MessageItem(offset, f"message-{offset}", role, (Text(text=text),)))
            continue
        parts = [StepPart(s=offset, i=0, kind="text", text=text)]
        if kind == "c":
            call = CalledTool(id="call", name="map", arguments="")
            parts.append(StepPart(s=offset, i=1, kind="call", call=call))
        items.append(StepItem(offset, f"message-{offset}", tuple(parts), False, None))
    assert pending == (kinds[-1:] == "c")
    return Window(at=len(kinds) + 1, marks=PROMPTED, items=tuple(items))


PROMPT = System(text="You are kind.", agent_version=1, blocks={}, counts=Counts())
PROMPTED = Marks(systems=(SystemAt(1, derived_id("message", "system"), PROMPT),))


@dataclass(frozen=True)
class Original:
    """The search as the contract tells it, step by step and in exact numbers, however slow."""

    system: int
    sizes: list[int]
    kinds: str

    def cut(self, p: Fraction, window: int) -> int | None:
        """Give the first message that stays, counted from the system message, None for an error."""
        n = 1 + len(self.sizes)
        goal = (1 - p) * window
        e = p
        while True:
            e += Fraction(1, 10)
            index = self.index(min(round(e * n), n - 1))
            if index is not None and self.count(index) < goal:
                break
            if e >= 1:
                break
        last = n - 2 if self.kinds.endswith("c") else n - 1
        if index is None or e >= 1 or index >= last:
            return None
        return index

    def index(self, cut: int) -> int | None:
        """Walk down to the first message of the assistant's."""
        while cut >= 1:
            if self.kinds[cut - 1] in "asc":
                return cut
            cut -= 1
        return None

    def count(self, cut: int) -> int:
        """Count the system message and messages[cut:]."""
        return self.system + sum(([0, *self.sizes])[cut:])


def found(window: Window, share: float, context_window: int) -> int | None:
    return search(window, share, context_window, sizes_of(window))[0]


def test_of_nine_messages_three_leave_at_the_usual_share() -> None:
    window = window_like("usususus", [10] * 8)
    assert found(window, 0.3, 8000) == 4
    plan = plan_of(window, FREE, "sliding_window", share=0.3, context_window=8000)
    assert isinstance(plan, Plan)
    assert [item.offset for item in plan.evicted] == [2, 3, 4]
    assert (plan.messages_before, plan.messages_after, plan.cutoff) == (9, 7, 5)
    assert plan.goal == 5600
    assert plan.tries == (Try(share=0.4, cut=4, tokens=4 + 50),)


def test_the_share_grows_by_a_tenth_until_little_enough_stays() -> None:
    window = window_like("usususus", [100] * 8)
    cut, goal, tries = search(window, 0.3, 600, sizes_of(window))
    assert (cut, goal) == (6, 420)
    assert [(one.share, one.cut, one.tokens) for one in tries] == [
        (0.4, 4, 504),
        (0.5, 4, 504),
        (0.6, 4, 504),
        (0.7, 6, 304),
    ]


def test_a_round_without_a_reply_to_cut_at_is_tried_and_passed_over() -> None:
    window = window_like("uuuuuusu", [10] * 8)
    cut, _, tries = search(window, 0.3, 8000, sizes_of(window))
    assert cut == 7
    assert [(one.share, one.cut) for one in tries] == [
        (0.4, None),
        (0.5, None),
        (0.6, None),
        (0.7, None),
        (0.8, 7),
    ]


@pytest.mark.parametrize(
    ("kinds", "context_window"),
    [("uuuuuuuu", 8000), ("usususus", 10), ("uuuuuuus", 8000), ("", 8000), ("s", 8000)],
    ids=["no reply", "never small enough", "only at the end", "nothing", "one reply"],
)
def test_there_is_no_cut_where_there_is_no_place_for_one(kinds: str, context_window: int) -> None:
    window = window_like(kinds, [10] * len(kinds))
    plan = plan_of(window, FREE, "sliding_window", share=0.3, context_window=context_window)
    assert isinstance(plan, NoPlan)
    assert plan.failure == "nothing_to_evict"


def test_calls_that_wait_are_not_cut_at_nor_just_before_them() -> None:
    assert found(window_like("uuuuuuusu", [10] * 9), 0.7, 80000) == 8
    assert found(window_like("uuuuuuusc", [10] * 9, pending=True), 0.7, 80000) is None


def test_less_than_the_goal_is_less_than_its_exact_value() -> None:
    # 0.67 of 100 is 67, though a computer's product is a little less.
    window = window_like("usususus", [10, 10, 10, 12, 12, 12, 13, 13])
    cut, goal, tries = search(window, 0.33, 100, sizes_of(window))
    assert (cut, goal) == (4, 67)
    assert [(one.cut, one.tokens) for one in tries] == [(4, 66)]


def test_a_share_of_a_number_of_messages_is_rounded_from_its_exact_value() -> None:
    # Seven tenths of 45 are 31.5, which is rounded to the even 32.
    window = window_like("u" * 31 + "s" + "u" * 12, [10] * 44)
    cut, _, tries = search(window, 0.0, 8000, sizes_of(window))
    assert (cut, tries[-1].share) == (32, 0.7)


@pytest.mark.parametrize("share", [1.1, -0.1, float("nan"), float("inf"), -1e300], ids=str)
def test_a_share_that_is_none_finds_no_cut_and_does_not_search_for_ever(share: float) -> None:
    window = window_like("usususus", [10] * 8)
    assert search(window, share, 8000, sizes_of(window))[0] is None
    assert isinstance(
        plan_of(window, FREE, "sliding_window", share=share, context_window=8000), NoPlan
    )


@settings(max_examples=500, deadline=None)
@given(
    st.text("uasc", max_size=60),
    st.integers(0, 100),
    st.integers(1, 4000),
    st.randoms(use_true_random=False),
)
def test_the_search_is_the_originals_step_by_step(
    kinds: str, percent: int, context_window: int, random: Any
) -> None:
    # Calls in the middle have their returns in another test; here they are replies like others.
    kinds = kinds[:-1].replace("c", "s") + kinds[-1:]
    window = window_like(kinds, [random.randint(0, 60) for _ in kinds], pending=kinds[-1:] == "c")
    sizes = [size_of(item) for item in window.items]
    literal = Original(size_of_system(window.system), sizes, kinds)
    expected = literal.cut(Fraction(percent, 100), context_window)
    cut, _, tries = search(window, percent / 100, context_window, sizes)
    assert cut == expected
    for one in tries:
        assert one.cut is None or one.tokens == literal.count(one.cut)
