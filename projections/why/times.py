"""When something was in the window: from which offset, until which, and what took it out or back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, TypeAlias

from domain.conversation import (
    Inherited,
    WindowCompacted,
    WindowCompactionRedone,
    WindowCompactionUndone,
    WindowRolledBack,
)
from domain.event import Recorded, Value
from projections.marks import Compaction, Marks, marks_of

Brought: TypeAlias = Literal["said", "undone", "redone", "rolled_back"]
Taken: TypeAlias = Literal["compacted", "redone", "undone", "rolled_back"]


class Stay(Value):
    """A time in the window: at the offsets from `entered_at` on, and no more at `left_at`.

    `brought_by` and `taken_by` are what happened there: it was said; a compaction was recorded,
    undone, redone, or rolled back with its turn, or the turn itself was. They name the compaction.
    The streams are there only for offsets that a fork inherited.
    """

    entered_at: int
    entered_stream: Inherited = None
    brought_by: Brought = "said"
    brought_by_compaction: str | None = None
    left_at: int | None = None
    left_stream: Inherited = None
    taken_by: Taken | None = None
    taken_by_compaction: str | None = None


class Turn(NamedTuple):
    """A change of what compactions hold, or of what is hidden: at an offset, in order.

    With the messages it names, it takes away all that came up to offset `through`.
    """

    offset: int
    kind: Taken
    compaction_ids: frozenset[str]
    message_ids: frozenset[str] = frozenset()
    through: int | None = None

    def takes(self, thing: "Thing") -> bool:
        """Tell whether something is hidden by it."""
        before = self.through is not None and thing.place <= self.through and not thing.always
        return before or thing.message_id in self.message_ids


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that can be in a window: its place there, and the offset at which it came.

    A summary comes and goes with its compaction, its `own`. The system prompt is `always` there,
    though the compaction that it was compiled with may have left.
    """

    place: int
    message_id: str
    entered_at: int
    own: str | None = None
    always: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """A conversation's marks, and how they came to be; `hidden` has the offsets of rollbacks."""

    marks: Marks
    turns: tuple[Turn, ...] = ()
    hidden: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def stays(self, thing: Thing) -> tuple[Stay, ...]:
        """Give the times that something was in the window."""
        return tuple(_stays(self._steps(thing)))

    def evictor(self, place: int) -> Compaction | None:
        """Give the compaction that keeps a place out of the window; there is one at most."""
        return next((one for one in self.marks.active if place in one.offsets), None)

    def chain(self, place: int) -> tuple[Compaction, ...]:
        """Give the evictor of a place, the evictor of its summary, and so on; the last one's stands."""
        links: list[Compaction] = []
        while (found := self.evictor(place)) is not None and found not in links:
            links.append(found)
            place = found.fact.version
        return tuple(links)

    def visible(self, thing: Thing) -> bool:
        """Tell whether something is in the window now."""
        stays = self.stays(thing)
        return bool(stays) and stays[-1].left_at is None

    def _steps(self, thing: Thing) -> "Iterator[_Step]":
        """Give each offset that matters for something, what happened, and whether it is in after."""
        known = self.marks.compactions
        covering = {
            key for key, one in known.items() if not thing.always and thing.place in one.offsets
        }
        concerned = covering if thing.own is None else {*covering, thing.own}
        holding, gone = set[str](), set[str]()
        hidden = here = False
        said = Turn(thing.entered_at, "compacted", frozenset())
        for turn in sorted((said, *self.turns), key=_offset):
            keys = turn.compaction_ids & concerned
            if turn.kind in ("compacted", "redone"):
                holding |= keys - gone
            else:
                holding -= keys
            if turn.kind == "rolled_back":
                gone |= keys
                hidden = hidden or turn.takes(thing)
            here = here or turn is said if thing.own is None else thing.own in holding
            inside = here and not hidden and holding.isdisjoint(covering)
            yield _Step(turn, turn is said, inside, min(keys, default=None))


class _Step(NamedTuple):
    turn: Turn
    said: bool
    inside: bool
    compaction_id: str | None


def _offset(turn: Turn) -> int:
    return turn.offset


def _stays(steps: Iterable[_Step]) -> Iterator[Stay]:
    stay: Stay | None = None
    for turn, said, inside, compaction_id in steps:
        if inside and stay is None:
            stay = Stay(
                entered_at=turn.offset,
                brought_by=_brought(turn, said=said),
                brought_by_compaction=compaction_id,
            )
        elif not inside and stay is not None:
            left: dict[str, Any] = {"left_at": turn.offset, "taken_by": turn.kind}
            yield stay.model_copy(update={**left, "taken_by_compaction": compaction_id})
            stay = None
    if stay is not None:
        yield stay


def _brought(turn: Turn, *, said: bool) -> Brought:
    # A summary is said by the compaction that is recorded.
    return "said" if said or turn.kind == "compacted" else turn.kind


def timeline_of(facts: Iterable[Recorded[Any]]) -> Timeline:
    """Fold a conversation's marks, and the fact that it began with."""
    known = list(facts)
    turns = tuple(turn for fact in known if (turn := _turn_of(fact)) is not None)
    hidden = {key: turn.offset for turn in reversed(turns) for key in turn.message_ids}
    return Timeline(marks_of(known), turns, MappingProxyType(hidden))


def _turn_of(fact: Recorded[Any]) -> Turn | None:
    match fact.event:
        case WindowCompacted(compaction_id=key):
            return Turn(fact.version, "compacted", frozenset({key}))
        case WindowCompactionUndone(compaction_id=key):
            return Turn(fact.version, "undone", frozenset({key}))
        case WindowCompactionRedone(compaction_id=key):
            return Turn(fact.version, "redone", frozenset({key}))
        case WindowRolledBack() as event:
            keys, ids = frozenset(event.compaction_ids), frozenset(event.message_ids)
            return Turn(fact.version, "rolled_back", keys, ids, event.through)
        case _:
            return None
