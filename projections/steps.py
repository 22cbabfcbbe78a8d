"""A step's row in the read table of model calls: those that were taken again have one, too."""

from typing import Final

from domain.event import Recorded
from domain.run import Failure, StepFinished, StepStarted, StepSuperseded
from projections.columns import Scalar, sortable

STATUSES: Final = {"ok": "success", "failed": "failed", "interrupted": "cancelled"}


def begun(fact: Recorded[StepStarted]) -> dict[str, Scalar]:
    """Tell what a row begins with; its key is the conversation and the offset of this fact."""
    event = fact.event
    return {
        "step_id": event.step_id,
        "run_id": event.run_id,
        "message_id": event.message_id,
        "position": event.index,
        "attempt": event.attempt,
        "model": event.model,
        "created_at": sortable(fact.at),
        "status": "pending",
    }


def ended(event: StepFinished | StepSuperseded) -> dict[str, Scalar]:
    """Tell how the step of a row came out."""
    if isinstance(event, StepSuperseded):
        error = Failure(error_type=event.reason, message="This attempt was taken again.")
        return {"status": "failed", "error": error.model_dump_json()}
    return {
        "status": STATUSES[event.outcome],
        "usage": None if event.usage is None else event.usage.model_dump_json(exclude_unset=True),
        "error": None if event.error is None else event.error.model_dump_json(),
    }
