"""What came of a compaction: the fact that records it, or why there is none."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from app.compaction.compacting import Task, Worked
from domain.conversation import (
    CompactionAudit,
    System,
    WindowCompacted,
    WindowCompactionFailed,
)
from domain.event import Recorded
from domain.run import Run
from domain.streams import MESSAGE, id_of


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a compaction: the fact that records it, or why there is none."""

    compaction_id: str
    fact: Recorded[WindowCompacted] | None
    failure: WindowCompactionFailed | None


def done_of(compaction_id: str, facts: list[Recorded[Any]]) -> Done:
    """Give the outcome that the last fact of a compaction is."""
    fact = facts[0]
    if isinstance(fact.event, WindowCompacted):
        return Done(compaction_id, fact, None)
    return Done(compaction_id, None, fact.event)


def compacted_of(  # noqa: PLR0913, PLR0917 - what the fact is made from
    compaction_id: str,
    task: Task,
    worked: Worked,
    run: Run | None,
    duration_ms: int,
    system: System | None,
) -> WindowCompacted:
    """Give the fact that records what was worked out; `system` if the prompt was compiled anew."""
    plan = worked.plan
    event = WindowCompacted(
        compaction_id=compaction_id,
        summary_message_id=id_of(MESSAGE, uuid4()),
        evicted=plan.ranges,
        before=plan.before,
        summary=worked.summary,
        audit=CompactionAudit(
            trigger=task.trigger,
            settings=worked.settings,
            mode=plan.mode,
            model=worked.model,
            attempts=worked.attempts,
            planned_at=plan.planned_at,
            cutoff_before=task.window.cutoff,
            cutoff_after=plan.cutoff,
            messages_before=plan.messages_before,
            messages_after=plan.messages_after,
            tokens_before=plan.tokens_before,
            tokens_after=worked.tokens_after,
            system_tokens=worked.system_tokens,
            context_window=task.context_window,
            retention=worked.retention,
            duration_ms=duration_ms,
        ),
    )
    return event.model_copy(update=_also(event, worked, run, system))


def _also(
    event: WindowCompacted, worked: Worked, run: Run | None, system: System | None
) -> dict[str, Any]:
    """Give what not every compaction has: only what was set is stored."""
    also: dict[str, Any] = {}
    if worked.counted:
        also["audit"] = event.audit.model_copy(update={"tokens_counted": True})
    if run is not None:
        also["run_id"] = run.run_id
    if system is not None:
        also["system"] = system
    return also
