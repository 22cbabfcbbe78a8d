"""What decisions about consolidations need to know: how much was said since the last one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from domain.conversation.memory_facts import (
    ConsolidationFinished,
    ConsolidationQueued,
    MemoryEvent,
    ProposalSettled,
)
from domain.run import RunFinished

# Older proposals than so many can no longer be accepted.
PROPOSALS_MAX: Final = 32
# So many consolidations back a repeated request is known without a look at the read table.
KNOWN_MAX: Final = 32
# After these the same stretch is worth another try.
UNDONE: Final = frozenset({"failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A consolidation that is not over, and the offset where it was asked for."""

    at: int
    event: ConsolidationQueued


@dataclass(frozen=True, slots=True)
class MemoryState:
    """How far memory has come: what was said up to `upto` has been dealt with.

    `turns` ended since a consolidation was last asked for, and the window was `compacted` since.
    `known` are the ids of those that were asked for last. The last that came to something was over
    at offset `settled_at`.
    """

    turns: int = 0
    compacted: bool = False
    upto: int = 0
    under_way: UnderWay | None = None
    last_run: str | None = None
    known: tuple[str, ...] = ()
    settled_at: int = 0
    proposals: Mapping[str, ConsolidationFinished] = field(
        default_factory=lambda: MappingProxyType({})
    )


def turn_over(state: MemoryState, event: RunFinished) -> MemoryState:
    """Count a turn that came to its end, unless it was the one that led to a consolidation."""
    over = event.status == "completed" and event.stop_reason != "requires_approval"
    if not over or event.run_id == state.last_run:
        return state
    return replace(state, turns=state.turns + 1)


def evolve_memory(state: MemoryState, event: MemoryEvent, version: int) -> MemoryState:
    """Give the state after `event`, which is at `version`."""
    match event:
        case ConsolidationQueued():
            return replace(
                state,
                turns=0,
                compacted=False,
                under_way=UnderWay(version, event),
                last_run=event.after_run,
                known=(*state.known, event.consolidation_id)[-KNOWN_MAX:],
            )
        case ConsolidationFinished():
            return _finished(state, event, version)
        case ProposalSettled():
            return _without(state, event.consolidation_id)


def _finished(state: MemoryState, event: ConsolidationFinished, version: int) -> MemoryState:
    known = state.proposals
    if event.outcome == "proposed":
        # One is enough for a block: the newer was made in the light of what the older was.
        others = {key: one for key, one in known.items() if one.block_id != event.block_id}
        newest = [*{**others, event.consolidation_id: event}.items()][-PROPOSALS_MAX:]
        known = MappingProxyType(dict(newest))
    over = replace(state, under_way=None, proposals=known)
    if event.outcome in UNDONE:
        return over
    return replace(over, upto=max(state.upto, event.upto or 0), settled_at=version)


def _without(state: MemoryState, consolidation_id: str) -> MemoryState:
    kept = {key: one for key, one in state.proposals.items() if key != consolidation_id}
    return replace(state, proposals=MappingProxyType(kept))
