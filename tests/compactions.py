"""Named facts and commands of compactions, and a summariser that always says the same."""

from typing import Any, Final

from domain.compaction import CompactionMode, CompactionSettings, CompactionTrigger
from domain.conversation import (
    CompactionAudit,
    CompactionFailure,
    ConversationEvent,
    Evicted,
    FinishRun,
    MessageChanged,
    StartCompaction,
    System,
    WindowCompacted,
    WindowCompactionFailed,
    WindowCompactionRedone,
    WindowCompactionStarted,
    WindowCompactionUndone,
    conversation,
)
from domain.retention import Retention
from domain.run import EndRun, RunRequest, Span
from domain.streams import MESSAGE, derived_id
from projections.compaction import Plan
from tests.examples import (
    MODEL,
    NEXT_MESSAGE_ID,
    NEXT_RUN_ID,
    RUN_ID,
    appended,
    claimed,
    delta,
    finished,
    part,
    queued,
    started,
    step_finished,
    step_started,
)
from tests.given import given

COMPACTION_ID: Final = "compaction-11111111-1111-4111-8111-111111111111"
OTHER_COMPACTION_ID: Final = "compaction-22222222-2222-4222-8222-222222222222"
THIRD_COMPACTION_ID: Final = "compaction-33333333-3333-4333-8333-333333333333"
CONTEXT_WINDOW: Final = 8000
SUMMARY: Final = "They said hello."


def begin(  # noqa: PLR0913 - what tests differ in
    compaction_id: str = COMPACTION_ID,
    *,
    trigger: CompactionTrigger = "manual",
    run_id: str | None = None,
    epoch: int = 0,
    s: int | None = None,
    instead_of: str | None = None,
) -> StartCompaction:
    return StartCompaction(
        compaction_id,
        trigger,
        event_id=derived_id(MESSAGE, f"{compaction_id}/event"),
        tokens=7500,
        context_window=CONTEXT_WINDOW,
        run_id=run_id,
        epoch=epoch,
        s=s,
        instead_of=instead_of,
    )


def begun(
    compaction_id: str = COMPACTION_ID,
    *,
    trigger: CompactionTrigger = "manual",
    run_id: str | None = None,
    s: int | None = None,
) -> WindowCompactionStarted:
    event = WindowCompactionStarted(
        compaction_id=compaction_id,
        trigger=trigger,
        event_id=derived_id(MESSAGE, f"{compaction_id}/event"),
        tokens=7500,
        context_window=CONTEXT_WINDOW,
    )
    return event.model_copy(update=_given(run_id=run_id, s=s))


def compacted(  # noqa: PLR0913 - what tests differ in
    compaction_id: str = COMPACTION_ID,
    *ranges: tuple[int, int],
    planned_at: int,
    before: int | None = None,
    run_id: str | None = None,
    trigger: CompactionTrigger = "manual",
    tokens_after: int = 100,
    system_tokens: int = 10,
    system: System | None = None,
    summary: str = SUMMARY,
) -> WindowCompacted:
    """Give a compaction that evicts ranges of offsets."""
    spans = tuple(Span(first=first, last=last) for first, last in ranges)
    event = WindowCompacted(
        compaction_id=compaction_id,
        summary_message_id=summary_id_of(compaction_id),
        evicted=Evicted(ranges=spans),
        before=planned_at + 1 if before is None else before,
        summary=summary,
        audit=CompactionAudit(
            trigger=trigger,
            settings=CompactionSettings(mode="all", prompt="Summarise."),
            mode="all",
            model=MODEL,
            attempts=(),
            planned_at=planned_at,
            cutoff_before=3,
            cutoff_after=None,
            messages_before=5,
            messages_after=2,
            tokens_before=7500,
            tokens_after=tokens_after,
            system_tokens=system_tokens,
            context_window=CONTEXT_WINDOW,
            retention=Retention(score=1.0, kinds={}),
            duration_ms=7,
        ),
    )
    return event.model_copy(update=_given(run_id=run_id, system=system))


def summary_id_of(compaction_id: str) -> str:
    return derived_id(MESSAGE, f"{compaction_id}/summary")


def carried_out(  # noqa: PLR0913 - what tests differ in
    compaction_id: str,
    plan: Plan,
    *,
    trigger: CompactionTrigger = "manual",
    run_id: str | None = None,
    system: System | None = None,
    system_tokens: int = 10,
) -> WindowCompacted:
    """Give what a plan comes to with a summariser that says little."""
    event = compacted(
        compaction_id,
        planned_at=plan.planned_at,
        before=plan.before,
        run_id=run_id,
        trigger=trigger,
        system=system,
        summary=f"This is what {compaction_id} stands for.",
    )
    audit = event.audit.model_copy(
        update={
            "mode": plan.mode,
            "cutoff_after": plan.cutoff,
            "messages_before": plan.messages_before,
            "messages_after": plan.messages_after,
            "tokens_before": plan.tokens_before,
            "tokens_after": plan.size_kept,
            "system_tokens": system_tokens,
        }
    )
    return event.model_copy(update={"evicted": plan.ranges, "audit": audit})


def failed(
    compaction_id: str = COMPACTION_ID, reason: CompactionFailure = "summariser_failed"
) -> WindowCompactionFailed:
    return WindowCompactionFailed(compaction_id=compaction_id, reason=reason)


def undone(compaction_id: str = COMPACTION_ID) -> WindowCompactionUndone:
    return WindowCompactionUndone(compaction_id=compaction_id)


def redone(compaction_id: str = COMPACTION_ID) -> WindowCompactionRedone:
    return WindowCompactionRedone(compaction_id=compaction_id)


def _given(**optional: Any) -> dict[str, Any]:
    return {name: value for name, value in optional.items() if value is not None}


# A turn that is over: its message is at 3, its reply at 5.
told: Final = (
    started,
    queued(),
    appended(),
    claimed(),
    step_started(),
    part(),
    step_finished(),
    finished(),
)
# The next turn, which is under way: its message is at 10.
busy: Final = (
    *told,
    queued(NEXT_RUN_ID),
    appended(NEXT_RUN_ID, NEXT_MESSAGE_ID),
    claimed(NEXT_RUN_ID),
)
# Both messages of the first turn leave, or are about to, or have come back.
whole: Final = compacted(COMPACTION_ID, (3, 5), planned_at=len(told))
compacting: Final = (*told, begun())
done: Final = (*compacting, whole)
back: Final = (*done, undone())
pinned: Final = MessageChanged(message_id=NEXT_MESSAGE_ID, pinned=True)
released: Final = MessageChanged(message_id=NEXT_MESSAGE_ID, pinned=False)
# The second turn's run has its window compacted.
run_compacting: Final = (*busy, begun(trigger="post_step_context_check", run_id=NEXT_RUN_ID))
of_run: Final = compacted(
    COMPACTION_ID,
    (3, 5),
    planned_at=len(busy),
    run_id=NEXT_RUN_ID,
    trigger="post_step_context_check",
)


def after(*history: ConversationEvent, command: Any) -> tuple[ConversationEvent, ...]:
    """Give a history with what a command adds to it."""
    return (*history, *given(conversation, *history).when(command).decided())


def ending_of(*history: ConversationEvent) -> list[ConversationEvent]:
    """Give the facts with which the holder of the second run, cancelled, ends it."""
    ending = EndRun(NEXT_RUN_ID, 1, "cancelled", "cancelled")
    return given(conversation, *history).when(FinishRun(ending)).decided()


ASKED: Final = RunRequest(compaction_messages=True)


def crowded(request: RunRequest = ASKED, *more: ConversationEvent) -> tuple[ConversationEvent, ...]:
    """Give a run whose window is compacted after its only step; its summary is at 11."""
    return (
        *(started, queued(request=request), appended(), claimed(), step_started()),
        *(delta(x="Good day."), part(), step_finished(), *more),
        begun(trigger="post_step_context_check", run_id=RUN_ID, s=5),
        compacted(
            COMPACTION_ID,
            (3, 3),
            planned_at=8,
            before=5,
            run_id=RUN_ID,
            trigger="post_step_context_check",
        ),
        finished(),
    )


MODES: Final[tuple[CompactionMode, ...]] = (
    "all",
    "sliding_window",
    "self_compact_all",
    "self_compact_sliding_window",
)
