"""Compactions as people see them afterwards: what each did, under which settings, whether it holds."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal, TypeAlias

from domain.compaction import CompactionMode, CompactionSettings, CompactionTrigger
from domain.conversation import (
    Attempt,
    CompactionFailure,
    Inherited,
    Lineage,
    WindowCompactionFailed,
    WindowCompactionStarted,
)
from domain.event import Recorded, Value
from domain.retention import Retention
from domain.run import Span
from projections.marks import Compaction, Marks, marks_of
from projections.shown_window import WindowMessage, shown
from projections.window import Window

CompactionStatus: TypeAlias = Literal["running", "failed", "active", "undone", "rolled_back"]


class CompactionRow(Value):
    """A compaction in a list. `offset` is where it was recorded, or begun while it is running.

    What is not known of one that failed or is running is null. `undone_at` is an offset. `stream` is
    there only for what a fork inherited, and `undone_stream` if it was undone before the fork.
    """

    compaction_id: str
    status: CompactionStatus
    offset: int
    stream: Inherited = None
    at: datetime
    by: str
    trigger: CompactionTrigger
    run_id: str | None = None
    context_window: int
    tokens_before: int
    tokens_after: int | None = None
    messages_before: int | None = None
    messages_after: int | None = None
    mode: CompactionMode | None = None
    model: str | None = None
    retention: float | None = None
    duration_ms: int | None = None
    reason: CompactionFailure | None = None
    detail: str | None = None
    undone_at: int | None = None
    undone_stream: Inherited = None


class CompactionShown(CompactionRow):
    """A compaction in full: what left the window and what stayed, the summary, what it kept.

    `evicted` are the messages as they stood in the window at offset `planned_at`; `kept` the
    offsets of those that stayed, which count back from 0 for what a fork had inherited. Of what a
    fork inherited, `planned_at`, `kept` and the cutoffs are its ancestor's, `stream`.
    """

    settings: CompactionSettings | None = None
    attempts: tuple[Attempt, ...] = ()
    planned_at: int | None = None
    cutoff_before: int | None = None
    cutoff_after: int | None = None
    ranges: tuple[Span, ...] = ()
    evicted: tuple[WindowMessage, ...] = ()
    kept: tuple[int, ...] = ()
    summary: str | None = None
    summary_message_id: str | None = None
    retained: Retention | None = None
    recompiled: bool = False


Begun: TypeAlias = Recorded[WindowCompactionStarted]


def history_of(facts: Iterable[Recorded[Any]]) -> list[CompactionRow]:
    """List the compactions among a conversation's marks, in the order in which they began."""
    known = list(facts)
    marks = marks_of(known)
    begun: dict[str, Begun] = {}
    failed: dict[str, Recorded[WindowCompactionFailed]] = {}
    for fact in known:
        if isinstance(fact.event, WindowCompactionStarted):
            begun[fact.event.compaction_id] = fact
        elif isinstance(fact.event, WindowCompactionFailed):
            failed[fact.event.compaction_id] = fact
    rows = (_row(start, marks, failed.get(key)) for key, start in begun.items())
    # What was under way when a fork began is so in its parent alone.
    return [one for one in rows if one.status != "running" or one.stream is None]


def _row(
    begun: Begun, marks: Marks, failed: Recorded[WindowCompactionFailed] | None
) -> CompactionRow:
    compaction = marks.compactions.get(begun.event.compaction_id)
    if compaction is not None:
        return CompactionRow(**_recorded(compaction, marks.lineage))
    started = begun.event
    stream, offset = marks.lineage.named((failed or begun).version)
    common: dict[str, Any] = {
        "compaction_id": started.compaction_id,
        "trigger": started.trigger,
        "run_id": started.run_id,
        "context_window": started.context_window,
        "tokens_before": started.tokens,
        "offset": offset,
        "stream": stream,
    }
    if failed is None:
        return CompactionRow(status="running", at=begun.at, by=begun.by, **common)
    return CompactionRow(
        status="failed",
        at=failed.at,
        by=failed.by,
        reason=failed.event.reason,
        detail=failed.event.detail,
        **common,
    )


def _recorded(compaction: Compaction, lineage: Lineage) -> dict[str, Any]:
    fact, audit = compaction.fact, compaction.fact.event.audit
    stream, offset = lineage.named(fact.version)
    undone = compaction.undone_at
    undone_stream, undone_at = (None, None) if undone is None else lineage.named(undone)
    return {
        "compaction_id": fact.event.compaction_id,
        "status": status_of(compaction),
        "offset": offset,
        "stream": stream,
        "at": fact.at,
        "by": fact.by,
        "trigger": audit.trigger,
        "run_id": fact.event.run_id,
        "context_window": audit.context_window,
        "tokens_before": audit.tokens_before,
        "tokens_after": audit.tokens_after,
        "messages_before": audit.messages_before,
        "messages_after": audit.messages_after,
        "mode": audit.mode,
        "model": audit.model,
        "retention": audit.retention.score,
        "duration_ms": audit.duration_ms,
        "undone_at": undone_at,
        "undone_stream": undone_stream,
    }


def status_of(compaction: Compaction) -> CompactionStatus:
    """Tell whether a recorded compaction holds, and if not, why."""
    if compaction.rolled_back_at is not None:
        return "rolled_back"
    return "active" if compaction.active else "undone"


def compaction_shown(compaction: Compaction, before: Window) -> CompactionShown:
    """Show a recorded compaction in full; `before` is the window that it was planned on."""
    event = compaction.fact.event
    audit, leaving = event.audit, compaction.offsets
    lineage, messages = before.marks.lineage, shown(before).messages
    places = [item.offset for item in before.items]
    return CompactionShown(
        **_recorded(compaction, lineage),
        settings=audit.settings,
        attempts=audit.attempts,
        planned_at=audit.planned_at,
        cutoff_before=audit.cutoff_before,
        cutoff_after=audit.cutoff_after,
        ranges=lineage.named_spans(event.evicted.ranges),
        evicted=tuple(one for one, at in zip(messages, places, strict=True) if at in leaving),
        kept=tuple(at for at in places if at not in leaving),
        summary=event.summary,
        summary_message_id=event.summary_message_id,
        retained=audit.retention,
        recompiled=event.system is not None,
    )


def inherited(there: CompactionShown, compaction: Compaction, marks: Marks) -> CompactionShown:
    """Show a compaction that a fork inherited: as its ancestor has it, but as it holds in the fork."""
    owner = compaction.fact.stream
    mine = {
        "evicted": tuple(
            one.model_copy(update={"stream": one.stream or owner}) for one in there.evicted
        ),
        "ranges": tuple(
            one.model_copy(update={"stream": one.stream or owner}) for one in there.ranges
        ),
    }
    return there.model_copy(update={**_recorded(compaction, marks.lineage), **mine})


def failure_shown(row: CompactionRow, attempts: tuple[Attempt, ...]) -> CompactionShown:
    """Show a compaction that came to nothing, or is running."""
    return CompactionShown(**dict(row), attempts=attempts)
