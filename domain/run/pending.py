"""The process manager: what a run is owed, the same after a fact and after a restart."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from domain.run.facts import ATTEMPTS_MAX, Failure, RunStatus, StopReason
from domain.run.state import Run


@dataclass(frozen=True, slots=True)
class Claim:
    """Make the run this worker's own."""

    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Call the model."""

    run_id: str
    epoch: int
    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class CloseStep:
    """Record what an interrupted step had said."""

    run_id: str
    epoch: int
    s: int


@dataclass(frozen=True, slots=True)
class EndRun:
    """Record how the run ended."""

    run_id: str
    epoch: int
    status: RunStatus
    stop_reason: StopReason
    error: Failure | None = None


Effect: TypeAlias = Claim | TakeStep | CloseStep | EndRun

ATTEMPTS_EXHAUSTED: Final = Failure(
    error_type="stream_task_cancelled",
    message=f"The server stopped during each of {ATTEMPTS_MAX} attempts at this step.",
)


def pending(run: Run, held_epoch: int | None) -> Effect:
    """Tell what this run, not over, is owed next.

    `held_epoch` is the epoch under which the asking worker holds the run, None if it does not.
    """
    if held_epoch != run.epoch or run.epoch == 0:
        return Claim(run.run_id, run.epoch + 1)
    if run.cancelled and run.step is not None:
        return CloseStep(run.run_id, run.epoch, run.step.s)
    if run.step is not None:
        # Ours, and nobody is at it any more: taken over like another's, and as bounded.
        return Claim(run.run_id, run.epoch + 1)
    return ending_of(run) or TakeStep(run.run_id, run.epoch, run.steps_done, run.attempts_lost + 1)


def ending_of(run: Run) -> EndRun | None:
    """Tell how a claimed run without an open step ends now, None if it goes on."""
    if run.cancelled:
        return EndRun(run.run_id, run.epoch, "cancelled", "cancelled")
    if run.attempts_lost >= ATTEMPTS_MAX:
        return EndRun(run.run_id, run.epoch, "failed", "error", ATTEMPTS_EXHAUSTED)
    if run.answered and run.finish_reason == "length":
        return EndRun(run.run_id, run.epoch, "failed", "max_tokens_exceeded")
    if run.answered:
        return EndRun(run.run_id, run.epoch, "completed", "end_turn")
    if run.steps_done >= run.request.max_steps:
        return EndRun(run.run_id, run.epoch, "completed", "max_steps")
    return None
