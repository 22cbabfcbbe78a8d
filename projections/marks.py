"""What changes a window beside messages: compactions and their undoing, rollbacks, pins, prompts.

These facts are few and have an index of their own, so that a window is found without reading what
has left it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from domain.conversation import (
    ConversationStarted,
    Lineage,
    MessageChanged,
    System,
    WindowCompacted,
    WindowCompactionRedone,
    WindowCompactionUndone,
    WindowRecompiled,
    WindowRolledBack,
)
from domain.event import Recorded
from domain.streams import system_message_id
from projections.items import Stats, SummaryItem, SystemAt

# The stored types of these facts; a conversation's first fact, which holds its prompt, is another.
MARKS: Final = frozenset(
    {
        "window.compaction_started",
        "window.compaction_failed",
        "window.compacted",
        "window.compaction_undone",
        "window.compaction_redone",
        "window.recompiled",
        "window.rolled_back",
        "message.changed",
    }
)


class Offsets:
    """A set of offsets, as ranges that do not meet."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.ranges = sorted(ranges)
        self._firsts = [first for first, _ in self.ranges]

    def __contains__(self, offset: int) -> bool:
        place = bisect_right(self._firsts, offset) - 1
        return place >= 0 and offset <= self.ranges[place][1]

    def gaps(self, after: int, upto: int) -> Iterator[tuple[int, int]]:
        """Give what is not in the set: pairs (a, b) that stand for a < offset <= b."""
        for first, last in self.ranges:
            if after < first - 1:
                yield after, min(first - 1, upto)
            after = max(after, last)
        if after < upto:
            yield after, upto


@dataclass(frozen=True, slots=True)
class Compaction:
    """A recorded compaction; `undone_at` and `rolled_back_at` are where it ceased to hold.

    `turned` are all offsets at which it ceased to hold, or came to hold again.
    """

    fact: Recorded[WindowCompacted]
    undone_at: int | None = None
    rolled_back_at: int | None = None
    turned: tuple[int, ...] = ()

    @property
    def active(self) -> bool:
        """Whether it holds."""
        return self.undone_at is None and self.rolled_back_at is None

    def held_at(self, offset: int) -> bool:
        """Tell whether it held at an offset."""
        turns = sum(at <= offset for at in self.turned)
        return self.fact.version <= offset and turns % 2 == 0

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The offsets that it evicted, both ends included."""
        return tuple((span.first, span.last) for span in self.fact.event.evicted.ranges)

    @property
    def offsets(self) -> Offsets:
        """The same, to be asked whether an offset is among them."""
        return Offsets(self.ranges)


@dataclass(frozen=True, slots=True)
class Marks:
    """All of them up to offset `at`. In a fork offsets are places: those inherited are 0 and less.

    At offset `changed_at` the system prompt, or what is hidden, changed for the last time. What came
    up to offset `emptied` has left the window, and up to `unlisted` the message lists as well.
    """

    at: int = 0
    changed_at: int = 0
    compactions: Mapping[str, Compaction] = field(default_factory=lambda: MappingProxyType({}))
    hidden: frozenset[str] = frozenset()
    pinned: frozenset[str] = frozenset()
    systems: tuple[SystemAt, ...] = ()
    emptied: int | None = None
    unlisted: int | None = None
    lineage: Lineage = field(default_factory=Lineage)

    @property
    def active(self) -> tuple[Compaction, ...]:
        """The compactions that hold, in the order in which they happened."""
        return tuple(one for one in self.compactions.values() if one.active)

    @property
    def evicted(self) -> Offsets:
        """The offsets that are out of the window."""
        first = self.lineage.beginning + 1
        before = [] if self.emptied is None else [(first, self.emptied)]
        return Offsets([*before, *(spans for one in self.active for spans in one.ranges)])

    @property
    def system(self) -> SystemAt | None:
        """The newest system prompt that is in force."""
        own = (_system_of(one) for one in self.active)
        return max((*self.systems, *(one for one in own if one)), key=_offset, default=None)

    @property
    def evicted_messages(self) -> int:
        """How many messages the compactions that hold have evicted, summaries not counted."""
        held = [one.fact.event for one in self.active]
        left = (one.audit.messages_before - one.audit.messages_after for one in held)
        # Each that has a summary put that in their place, and it may have left in its turn.
        return sum(left) + sum(1 for _ in self.summaries())

    def unlists(self, place: int) -> bool:
        """Tell whether a reset took what is at a place out of the lists."""
        return self.unlisted is not None and place <= self.unlisted

    def same_as_at(self, offset: int) -> bool:
        """Tell whether all that was in the window at an offset is in it, and nothing else of then."""
        held = (one.held_at(offset) == one.active for one in self.compactions.values())
        return self.changed_at < offset and all(held)

    def without(self, compaction_id: str, at: int) -> "Marks":
        """Give them as they would be if a compaction were undone at an offset."""
        return _set(self, compaction_id, at, undone_at=at)

    def summaries(self) -> Iterator[SummaryItem]:
        """Give the summaries of the compactions that hold and that no other has evicted.

        What was evicted before it was imported may have left without a summary: its is empty.
        """
        evicted = self.evicted
        for one in self.active:
            if one.fact.version not in evicted and one.fact.event.summary:
                yield summary_of(one.fact)


def _offset(system: SystemAt) -> int:
    return system.offset


def summary_of(fact: Recorded[WindowCompacted]) -> SummaryItem:
    """Give the item that a compaction puts into the window."""
    event, audit = fact.event, fact.event.audit
    ranges = event.evicted.ranges
    return SummaryItem(
        offset=fact.version,
        message_id=event.summary_message_id,
        compaction_id=event.compaction_id,
        run_id=event.run_id,
        before=event.before,
        summary=event.summary,
        at=fact.at,
        hidden=audit.messages_before - audit.messages_after + 1,
        first=min(span.first for span in ranges),
        last=max(span.last for span in ranges),
        stats=Stats(
            trigger=audit.trigger,
            context_tokens_before=audit.tokens_before,
            context_tokens_after=audit.tokens_after,
            context_window=audit.context_window,
            messages_count_before=audit.messages_before,
            messages_count_after=audit.messages_after,
        ),
    )


def _system_of(one: Compaction) -> SystemAt | None:
    system = one.fact.event.system
    return None if system is None else _system_at(one.fact, system)


def _system_at(fact: Recorded[Any], system: System) -> SystemAt:
    return SystemAt(fact.version, system_message_id(fact.stream), system)


def marks_of(facts: Iterable[Recorded[Any]]) -> Marks:
    """Fold a conversation's facts, or only its first and its marks, in order."""
    marks = Marks()
    for fact in facts:
        marks = evolve_marks(marks, fact)
    return marks


def evolve_marks(marks: Marks, fact: Recorded[Any]) -> Marks:
    """Give the marks after `fact`."""
    at = fact.version
    match fact.event:
        case ConversationStarted(parent=parent) if parent is not None:
            marks = replace(marks, lineage=marks.lineage.forked(parent))
            return _with_system(marks, fact)
        case ConversationStarted() | WindowRecompiled():
            return _with_system(marks, fact)
        case WindowCompacted() as event:
            known = {**marks.compactions, event.compaction_id: Compaction(fact)}
            return replace(marks, at=at, compactions=MappingProxyType(known))
        case WindowCompactionUndone() as event:
            return _set(marks, event.compaction_id, at, undone_at=at)
        case WindowCompactionRedone() as event:
            return _set(marks, event.compaction_id, at, undone_at=None)
        case WindowRolledBack() as event:
            hidden = marks.hidden.union(event.message_ids)
            marks = _emptied(replace(marks, at=at, hidden=hidden, changed_at=at), event)
            for compaction_id in event.compaction_ids:
                marks = _set(marks, compaction_id, at, rolled_back_at=at)
            return marks
        case MessageChanged(pinned=True) as event:
            return replace(marks, at=at, pinned=marks.pinned | {event.message_id})
        case MessageChanged() as event:
            return replace(marks, at=at, pinned=marks.pinned - {event.message_id})
        case _:
            return marks


def _emptied(marks: Marks, event: WindowRolledBack) -> Marks:
    if event.through is None:
        return marks
    unlisted = marks.unlisted if event.listed else event.through
    return replace(marks, emptied=event.through, unlisted=unlisted, pinned=frozenset())


def _with_system(marks: Marks, fact: Recorded[ConversationStarted | WindowRecompiled]) -> Marks:
    systems = (*marks.systems[:1], _system_at(fact, fact.event.system))
    return replace(marks, at=fact.version, systems=systems, changed_at=fact.version)


def _set(marks: Marks, compaction_id: str, at: int, **changes: int | None) -> Marks:
    known = marks.compactions.get(compaction_id)
    if known is None:
        return marks
    after = replace(known, **changes)
    if after.active != known.active:
        after = replace(after, turned=(*known.turned, at))
    changed = {**marks.compactions, compaction_id: after}
    return replace(marks, at=at, compactions=MappingProxyType(changed))
