"""Where a window may be cut: a function per rule, each of which names the items that must stay.

A plan is made with these rules and checked against them, before any model is asked.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from domain.conversation import Conversation
from projections.items import Item, ReturnItem, StepItem

Offsets: TypeAlias = frozenset[int]


@dataclass(frozen=True, slots=True)
class Bonds:
    """What holds items in a window: pins, what runs under way were asked, calls that are open."""

    pinned: frozenset[str] = frozenset()
    asked: Offsets = field(default_factory=frozenset[int])
    open_steps: Offsets = field(default_factory=frozenset[int])


def bonds_of(state: Conversation) -> Bonds:
    """Read them off a conversation's state."""
    runs = state.runs.values()
    waiting = () if state.asked is None else state.asked.calls
    return Bonds(
        pinned=state.window.pinned,
        asked=frozenset(offset for run in runs for offset in run.asked),
        open_steps=frozenset(
            call.s for calls in (waiting, *(run.calls for run in runs)) for call in calls
        ),
    )


Rule: TypeAlias = Callable[[Sequence[Item], Bonds], Offsets]


def pinned_stay(items: Sequence[Item], bonds: Bonds) -> Offsets:
    """Keep what is pinned."""
    return frozenset(item.offset for item in items if item.message_id in bonds.pinned)


def requests_of_runs_stay(items: Sequence[Item], bonds: Bonds) -> Offsets:
    """Keep what a run in progress has yet to answer."""
    return bonds.asked.intersection(item.offset for item in items)


def open_calls_stay(items: Sequence[Item], bonds: Bonds) -> Offsets:
    """Keep a reply while somebody is at its calls, or is to approve them."""
    return bonds.open_steps.intersection(item.offset for item in items)


def unanswered_calls_stay(items: Sequence[Item], bonds: Bonds) -> Offsets:  # noqa: ARG001 - a rule
    """Keep a reply while one of its calls has no return in the window."""
    returned = {(item.s, item.tool_call_id) for item in items if isinstance(item, ReturnItem)}
    called = (
        (item.offset, call_id)
        for item in items
        if isinstance(item, StepItem)
        for call_id in item.call_ids
    )
    return frozenset(offset for offset, call_id in called if (offset, call_id) not in returned)


RULES: Final[tuple[Rule, ...]] = (
    pinned_stay,
    requests_of_runs_stay,
    open_calls_stay,
    unanswered_calls_stay,
)


def calls_and_returns_together(items: Sequence[Item], stay: Collection[int]) -> Offsets:
    """Keep a reply with the returns of its calls: they stay together, or go together."""
    kept = {_step(item) for item in items if item.offset in stay} - {None}
    drawn = (item.offset for item in items if item.offset not in stay and _step(item) in kept)
    return frozenset(stay).union(drawn)


def _step(item: Item) -> int | None:
    """Give the step that an item belongs to."""
    if isinstance(item, ReturnItem):
        return item.s
    return item.offset if isinstance(item, StepItem) else None


def bound_by(items: Sequence[Item], bonds: Bonds) -> dict[str, Offsets]:
    """Name what each rule keeps of a window."""
    return {rule.__name__: rule(items, bonds) for rule in RULES}


def staying(
    items: Sequence[Item], bound: Mapping[str, Offsets], kept: Iterable[int] = ()
) -> Offsets:
    """Name what stays of `items` if what is `bound` does, and those in `kept`."""
    return calls_and_returns_together(items, frozenset(kept).union(*bound.values()))


def broken_rules(items: Sequence[Item], bonds: Bonds, evicted: Collection[int]) -> list[str]:
    """Name the rules that an eviction would break; none if it is safe."""
    return broken_of(items, bound_by(items, bonds), evicted)


def broken_of(
    items: Sequence[Item], bound: Mapping[str, Offsets], evicted: Collection[int]
) -> list[str]:
    """Name the same, where it is known already what each rule keeps."""
    broken = [name for name, offsets in bound.items() if not offsets.isdisjoint(evicted)]
    kept = frozenset(item.offset for item in items if item.offset not in evicted)
    if calls_and_returns_together(items, kept) != kept:
        broken.append(calls_and_returns_together.__name__)
    return broken
