"""What decisions about a window need to know: what has left it, and what may come back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from domain.compaction import CompactionTrigger
from domain.conversation.compaction_facts import (
    MessageChanged,
    WindowCompacted,
    WindowCompactionFailed,
    WindowCompactionRedone,
    WindowCompactionStarted,
    WindowCompactionUndone,
    WindowEvent,
    WindowRecompiled,
)
from domain.run import Span


@dataclass(frozen=True, slots=True)
class Compacted:
    """A compaction that was recorded, at offset `at`; inactive while it is undone."""

    at: int
    run_id: str | None
    ranges: tuple[Span, ...]
    active: bool = True
    rolled_back: bool = False


@dataclass(frozen=True, slots=True)
class Compacting:
    """The compaction under way. `run_id` is there if a run waits for it."""

    compaction_id: str
    trigger: CompactionTrigger
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class WindowState:
    """Compactions by id, in order. `changed_at` is the last offset at which they or pins changed."""

    compactions: Mapping[str, Compacted] = field(default_factory=lambda: MappingProxyType({}))
    compacting: Compacting | None = None
    pinned: frozenset[str] = frozenset()
    changed_at: int = 0

    def of_runs(self, run_ids: Sequence[str]) -> tuple[str, ...]:
        """Name the compactions that runs led to, those that are undone among them."""
        return tuple(
            key
            for key, one in self.compactions.items()
            if one.run_id in run_ids and not one.rolled_back
        )

    def recorded_after(self, version: int) -> str | None:
        """Name a compaction that was recorded after a version, the newest if there are more."""
        newer = [key for key, one in self.compactions.items() if one.at > version]
        return newer[-1] if newer else None

    def overlapping(self, ranges: Sequence[Span]) -> str | None:
        """Name an active compaction that has evicted something in one of the ranges."""
        for key, one in self.compactions.items():
            if one.active and any(_meet(mine, its) for mine in ranges for its in one.ranges):
                return key
        return None


def _meet(one: Span, other: Span) -> bool:
    return one.first <= other.last and other.first <= one.last


def evolve_window(state: WindowState, event: WindowEvent, version: int) -> WindowState:
    """Give the state after `event`, which is at `version`."""
    match event:
        case WindowCompactionStarted():
            under_way = Compacting(event.compaction_id, event.trigger, event.run_id)
            return replace(state, compacting=under_way)
        case WindowCompactionFailed():
            return replace(state, compacting=None)
        case WindowCompacted():
            new = Compacted(version, event.run_id, event.evicted.ranges)
            known = MappingProxyType({**state.compactions, event.compaction_id: new})
            return replace(state, compactions=known, compacting=None, changed_at=version)
        case WindowCompactionUndone():
            return _set(state, event.compaction_id, version, active=False)
        case WindowCompactionRedone():
            return _set(state, event.compaction_id, version, active=True)
        case MessageChanged(pinned=True):
            pinned = state.pinned | {event.message_id}
            return replace(state, pinned=pinned, changed_at=version)
        case MessageChanged():
            pinned = state.pinned - {event.message_id}
            return replace(state, pinned=pinned, changed_at=version)
        case WindowRecompiled():
            return state


def _set(state: WindowState, compaction_id: str, version: int, *, active: bool) -> WindowState:
    found = state.compactions.get(compaction_id)
    if found is None:
        return state
    changed = {**state.compactions, compaction_id: replace(found, active=active)}
    return replace(state, compactions=MappingProxyType(changed), changed_at=version)


def rolled_back(state: WindowState, compaction_ids: Sequence[str], version: int) -> WindowState:
    """Give the state after a rollback: what the turn's compactions evicted is back for good."""
    gone = {
        key: replace(state.compactions[key], active=False, rolled_back=True)
        for key in compaction_ids
        if key in state.compactions
    }
    known = MappingProxyType({**state.compactions, **gone})
    return replace(state, compactions=known, changed_at=version)
