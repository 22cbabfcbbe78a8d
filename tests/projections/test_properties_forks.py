"""Forks: what holds for every conversation, wherever it is forked, and whatever happens after that."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from hypothesis import given, settings

from domain.conversation import Lineage, Parent, WindowCompacted
from domain.event import Recorded
from domain.run import ToolFinished
from projections.items import Item, MessageItem, ReturnItem, StepItem, SummaryItem
from projections.listing import messages_of, unlisted
from projections.marks import MARKS, marks_of
from projections.window import FOLDED, Window, evolve, window_from, window_of
from tests.compactions import undone
from tests.domain.invariants import check_marks
from tests.examples import AT, BY
from tests.projections.compacted import Compacted, folded, forks
from tests.projections.histories import Facts, stored

Forked: TypeAlias = tuple[Compacted, Compacted]


def for_every_fork(test: Callable[[Forked], None]) -> Callable[[], None]:
    """Check a fork that has just begun."""
    return settings(max_examples=20, deadline=None)(given(forks())(test))


def for_every_fork_later(test: Callable[[Forked], None]) -> Callable[[], None]:
    """Check a fork to which something has happened since."""
    return settings(max_examples=20, deadline=None)(given(forks(later=True))(test))


def moved(item: Item, by: int) -> Item:
    """Give an item as it stands further on."""
    match item:
        case MessageItem():
            return replace(item, offset=item.offset + by)
        case ReturnItem():
            return replace(item, offset=item.offset + by, s=item.s + by)
        case StepItem():
            parts = tuple(one.model_copy(update={"s": one.s + by}) for one in item.parts)
            return replace(item, offset=item.offset + by, ended=item.ended + by, parts=parts)
        case SummaryItem():
            return replace(
                item,
                offset=item.offset + by,
                before=item.before + by,
                first=item.first + by,
                last=item.last + by,
            )


def at_fork(parent: Compacted, fork: Compacted) -> Window:
    """Fold the parent's window at the offset at which the fork left it."""
    lineage, n = parent.state.lineage, fork.state.lineage.ancestors[-1].at
    return window_of(map(lineage.placed, (*parent.before, *parent.facts[:n])))


def read_around(fork: Compacted) -> Window:
    """Fold a window without reading what has left it, as a server does."""
    line = fork.line
    marks = marks_of(one for one in line if one.event.type in {*MARKS, "conversation.started"})
    gaps = [*marks.evicted.gaps(marks.lineage.beginning, line[-1].version)]
    read = [
        fact
        for fact in line
        if fact.event.type in FOLDED and any(a < fact.version <= b for a, b in gaps)
    ]
    return replace(window_from(marks, read), at=line[-1].version)


@for_every_fork
def test_a_fork_has_its_parents_window_item_for_item_and_a_prompt_of_its_own(
    drawn: Forked,
) -> None:
    parent, fork = drawn
    n = fork.state.lineage.ancestors[-1].at
    before, window = at_fork(parent, fork), window_of(fork.line)
    closed = [one.event.message_id for one in fork.facts if isinstance(one.event, ToolFinished)]
    inherited = [one for one in window.items if one.message_id not in closed]
    assert inherited == [moved(one, -n) for one in before.items]
    assert {one.message_id for one in window.items} - set(closed) == {
        one.message_id for one in before.items
    }
    assert window.system is not None
    assert window.system.system.text == "You are a fork."
    assert window.open_steps == {}


@for_every_fork
def test_a_fork_begins_with_its_calls_returned_or_waiting_for_the_client(
    drawn: Forked,
) -> None:
    _, fork = drawn
    asked = fork.state.asked
    waiting = () if asked is None else tuple(call.id for call in asked.calls)
    window = window_of(fork.line)
    returned = {(one.s, one.tool_call_id) for one in window.items if isinstance(one, ReturnItem)}
    for item in window.items:
        if isinstance(item, StepItem):
            missing = {one for one in item.call_ids if (item.offset, one) not in returned}
            assert missing <= set(waiting)
    assert fork.state.runs == {}


@for_every_fork_later
def test_a_fork_that_goes_on_keeps_every_promise_that_a_conversation_keeps(
    drawn: Forked,
) -> None:
    _, fork = drawn
    line = fork.line
    whole = window_of(line)
    assert read_around(fork) == whole
    live = window_of(line[: len(fork.before)])
    for fact in line[len(fork.before) :]:
        live = evolve(live, fact)
    assert live.stale or live == whole
    check_marks(whole)
    assert (marks_of(line).lineage, whole.marks.lineage) == (fork.state.lineage,) * 2


@for_every_fork_later
def test_a_forks_facts_come_back_from_storage_as_what_was_decided(
    drawn: Forked,
) -> None:
    _, fork = drawn
    revived = stored(fork.facts)
    assert folded(revived, fork.seed) == fork.state
    lineage = fork.state.lineage
    assert all(_names_no_place(one) for one in revived)
    assert window_of(map(lineage.placed, (*fork.before, *revived))) == window_of(fork.line)


def _names_no_place(fact: Recorded[Any]) -> bool:
    event = fact.event
    offsets: Sequence[int] = (1,)
    if isinstance(event, ToolFinished):
        offsets = (event.s,)
    if isinstance(event, WindowCompacted):
        offsets = (event.before, *(one.first for one in event.evicted.ranges))
    return min(offsets) > 0


@for_every_fork_later
def test_an_inherited_compaction_undone_in_a_fork_never_was_for_the_fork(
    drawn: Forked,
) -> None:
    _, fork = drawn
    known = [key for key, one in fork.state.window.compactions.items() if one.active]
    line = fork.line
    for compaction_id in known:
        fact = Recorded(fork.stream, len(fork.facts) + 1, AT, BY, undone(compaction_id))
        without = [one for one in line if not _about(one, compaction_id)]
        assert window_of([*line, fact]).items == window_of(without).items


def _about(fact: Recorded[Any], compaction_id: str) -> bool:
    return getattr(fact.event, "compaction_id", None) == compaction_id


@for_every_fork
def test_a_fork_lists_what_its_parent_listed_and_then_its_own(
    drawn: Forked,
) -> None:
    parent, fork = drawn
    n = fork.state.lineage.ancestors[-1].at
    theirs = _listed([*map(parent.state.lineage.placed, (*parent.before, *parent.facts[:n]))])
    ours = _listed(fork.line)
    assert ours[: len(theirs)] == theirs


def _listed(facts: Facts) -> list[Any]:
    listed = messages_of(facts, unlisted(facts))
    return [[(one["id"], one["message_type"]) for one in items] for _, items in listed]


def test_a_place_names_one_offset_of_one_stream_and_is_named_by_it() -> None:
    lineage = Lineage()
    for n, at in enumerate((5, 1, 3)):
        lineage = lineage.forked(_parent(f"conv-{n}", at))
    places = range(lineage.beginning + 1, 4)
    names = [lineage.named(place) for place in places]
    assert names[:6] == [("conv-0", n) for n in range(1, 6)] + [("conv-1", 1)]
    assert names[6:] == [
        ("conv-2", 1),
        ("conv-2", 2),
        ("conv-2", 3),
        *((None, n) for n in (1, 2, 3)),
    ]
    assert [lineage.place_of(*name) for name in names] == [*places]


def _parent(stream: str, at: int) -> Parent:
    return Parent(conversation_id=stream, at=at, hash="00")
