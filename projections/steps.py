"""The model calls of a run, those that were taken again included."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from domain.event import Recorded
from domain.run import (
    Failure,
    RunClaimed,
    RunFinished,
    StepFinished,
    StepStarted,
    StepSuperseded,
    Usage,
)

STATUSES: dict[str, Literal["success", "failed", "cancelled"]] = {
    "ok": "success",
    "failed": "failed",
    "interrupted": "cancelled",
}


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One model call; `stop_reason` is the run's if it was its last."""

    offset: int
    step_id: str
    run_id: str
    index: int
    attempt: int
    model: str
    started_at: datetime
    context_window: int | None = None
    status: Literal["pending", "success", "failed", "cancelled"] = "pending"
    stop_reason: str | None = None
    usage: Usage | None = None
    error: Failure | None = None


def steps_of(facts: Iterable[Recorded[Any]], run_id: str) -> list[StepTaken]:
    """Fold a run's facts into its steps, in order."""
    steps: dict[int, StepTaken] = {}
    context_window: int | None = None
    for fact in facts:
        match fact.event:
            case RunClaimed() as event if event.run_id == run_id:
                context_window = event.context_window
            case StepStarted() as event if event.run_id == run_id:
                steps[fact.version] = _started(fact, event, context_window)
            case StepFinished() as event if event.s in steps:
                steps[event.s] = _finished(steps[event.s], event)
            case StepSuperseded() as event if event.s in steps:
                failure = Failure(error_type=event.reason, message="This attempt was taken again.")
                steps[event.s] = replace(steps[event.s], status="failed", error=failure)
            case RunFinished() as event if event.run_id == run_id and steps:
                last = max(steps)
                steps[last] = replace(steps[last], stop_reason=event.stop_reason)
            case _:
                pass
    return list(steps.values())


def _started(fact: Recorded[Any], event: StepStarted, context_window: int | None) -> StepTaken:
    return StepTaken(
        offset=fact.version,
        step_id=event.step_id,
        run_id=event.run_id,
        index=event.index,
        attempt=event.attempt,
        model=event.model,
        started_at=fact.at,
        context_window=context_window,
    )


def _finished(step: StepTaken, event: StepFinished) -> StepTaken:
    return replace(step, status=STATUSES[event.outcome], usage=event.usage, error=event.error)
