"""The window of an imported conversation: what had left it elsewhere leaves it here, as one compaction.

So it is searched, explained and brought back like anything else that was evicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.compaction.compacting import texts_of
from app.compaction.settings import complete
from app.providers.catalogue import Resolved
from domain.agent import AgentSettings
from domain.conversation import (
    CompactionAudit,
    Evicted,
    ImportCompaction,
    WindowCompacted,
    WindowCompactionStarted,
)
from domain.streams import COMPACTION, MESSAGE, derived_id
from projections.agent_file_reading import Told
from projections.compaction import ranges_of
from projections.items import Item, ReturnItem
from projections.retention import retention_of
from projections.sizes import size_of, size_of_system, tokens_of
from projections.tokens import estimate
from projections.window import Window

IMPORT: Final = "import"  # the trigger, and in place of a model


@dataclass(frozen=True, slots=True)
class Evicting:
    """What is to leave, of what was `told`: `message_ids` name it in its order."""

    stream: str
    told: Told
    message_ids: Sequence[str]
    agent: AgentSettings
    resolved: Resolved


def eviction_of(window: Window, evicting: Evicting, percentage: float) -> ImportCompaction:
    """Give the command that has it leave. Takes its time: what the summary kept is worked out."""
    outside = {evicting.message_ids[place] for place in evicting.told.evicted}
    places = {item.offset for item in window.items if item.message_id in outside}
    evicted = [item for item in window.items if _said_at(item) in places]
    kept = [item for item in window.items if _said_at(item) not in places]
    summary, started = evicting.told.summary, _started(window, evicting)
    compacted = WindowCompacted(
        compaction_id=started.compaction_id,
        summary_message_id=derived_id(MESSAGE, f"{evicting.stream}/import/summary"),
        evicted=Evicted(ranges=ranges_of(window.items, evicted, window.marks)),
        before=_before(window, evicting, kept),
        summary=summary,
        audit=_audit(window, evicting, started, kept, percentage),
    )
    return ImportCompaction(started, compacted)


def _said_at(item: Item) -> int:
    """Give the place of what was said: a return goes with its call."""
    return item.s if isinstance(item, ReturnItem) else item.offset


def _started(window: Window, evicting: Evicting) -> WindowCompactionStarted:
    whole, limit = evicting.resolved.context_window, evicting.agent.context_window_limit
    compaction_id = derived_id(COMPACTION, f"{evicting.stream}/import")
    return WindowCompactionStarted(
        compaction_id=compaction_id,
        trigger=IMPORT,
        event_id=compaction_id.partition("-")[2],
        tokens=tokens_of(window).total,
        context_window=min(whole, limit or whole),
    )


def _audit(
    window: Window,
    evicting: Evicting,
    started: WindowCompactionStarted,
    kept: Sequence[Item],
    percentage: float,
) -> CompactionAudit:
    """Tell how it was done. No model was asked here; the mode is the agent's, which may have done it."""
    agent, summary = evicting.agent, evicting.told.summary
    settings = complete(agent.model, agent.compaction_settings, percentage)
    system = size_of_system(window.system)
    stays = {item.offset for item in kept}
    evicted = (item for item in window.items if item.offset not in stays)
    return CompactionAudit(
        trigger=IMPORT,
        settings=settings,
        mode=settings.mode,
        model=IMPORT,
        attempts=(),
        planned_at=window.at,
        cutoff_before=window.cutoff,
        cutoff_after=min((item.offset for item in kept), default=None),
        messages_before=1 + len(window.items),
        messages_after=1 + len(kept) + bool(summary),
        tokens_before=started.tokens,
        tokens_after=system + sum(map(size_of, kept)) + (estimate(summary) if summary else 0),
        system_tokens=system,
        context_window=started.context_window,
        retention=retention_of(texts_of(evicted), summary),
        duration_ms=0,
    )


def _before(window: Window, evicting: Evicting, kept: Sequence[Item]) -> int:
    """Give the offset that the summary stands just before: that of the next message that stays."""
    told, ids = evicting.told, evicting.message_ids
    following = set(ids if told.before is None else ids[told.before :])
    staying = (item.offset for item in kept if item.message_id in following)
    return min(staying, default=window.at + 1)
