"""The process manager: what a run is owed, the same after a fact and after a restart."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from domain.compaction import CompactionTrigger
from domain.run.facts import ATTEMPTS_MAX, Failure, RunStatus, StopReason
from domain.run.state import OpenCall, Run


@dataclass(frozen=True, slots=True)
class Claim:
    """Make the run this worker's own."""

    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class LetIn:
    """Let messages that came to steer the run into the window."""

    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Call the model, after a pause of `delay_ms` if the last attempt failed."""

    run_id: str
    epoch: int
    index: int
    attempt: int
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class CloseStep:
    """Record what an interrupted step had said."""

    run_id: str
    epoch: int
    s: int


@dataclass(frozen=True, slots=True)
class RunTool:
    """Run a tool that the model called."""

    run_id: str
    epoch: int
    call: OpenCall


@dataclass(frozen=True, slots=True)
class CloseCall:
    """Record that nobody knows what came of a call: the server stopped in the middle of it."""

    run_id: str
    epoch: int
    call: OpenCall


@dataclass(frozen=True, slots=True)
class Compact:
    """Make the window smaller; `s` is the step after which."""

    run_id: str
    epoch: int
    trigger: CompactionTrigger
    s: int | None


@dataclass(frozen=True, slots=True)
class EndRun:
    """Record how the run ended."""

    run_id: str
    epoch: int
    status: RunStatus
    stop_reason: StopReason
    error: Failure | None = None


Effect: TypeAlias = Claim | LetIn | TakeStep | CloseStep | RunTool | CloseCall | Compact | EndRun

ATTEMPTS_EXHAUSTED: Final = Failure(
    error_type="stream_task_cancelled",
    message=f"None of {ATTEMPTS_MAX} attempts at this step came to its end: the server stopped.",
)

NO_ROOM: Final[dict[StopReason, Failure]] = {
    "llm_api_error": Failure(
        error_type="context_window_overflow",
        message="The window is too large for the model, and compacting it did not help.",
    ),
    "context_window_overflow_in_system_prompt": Failure(
        error_type="context_window_overflow_in_system_prompt",
        message="The system prompt alone is larger than the model's window.",
    ),
}


def pending(run: Run, held_epoch: int | None, *, steered: bool = False) -> Effect:
    """Tell what this run, not over, is owed next.

    `held_epoch` is the epoch under which the asking worker holds the run, None if it does not;
    `steered` is whether messages wait to join it.
    """
    if held_epoch != run.epoch or run.epoch == 0:
        return Claim(run.run_id, run.epoch + 1)
    if run.step is not None and run.cancelled:
        return CloseStep(run.run_id, run.epoch, run.step.s)
    if run.step is not None:
        # Ours, and nobody is at it any more: taken over like another's, and as bounded.
        return Claim(run.run_id, run.epoch + 1)
    if run.crowded and wants_room(run):
        return Compact(run.run_id, run.epoch, run.crowded, run.last_s)
    return ending_of(run) or _next_call(run) or _next_step(run, steered)


def wants_room(run: Run) -> bool:
    """Tell whether a run's window is to be compacted now: not before its tools have returned."""
    if run.crowded is None or run.cancelled or run.hopeless:
        return False
    return not run.calls or any(call.gated for call in run.calls)


def ending_of(run: Run) -> EndRun | None:
    """Tell how a claimed run without an open step ends now, None if it goes on."""
    if run.cancelled:
        return EndRun(run.run_id, run.epoch, "cancelled", "cancelled")
    if wants_room(run):
        return None
    if run.hopeless:
        return _hopeless(run)
    if run.attempts_lost >= ATTEMPTS_MAX:
        return EndRun(run.run_id, run.epoch, "failed", "error", ATTEMPTS_EXHAUSTED)
    if run.finish_reason == "length":
        return EndRun(run.run_id, run.epoch, "failed", "max_tokens_exceeded")
    if any(call.gated for call in run.calls):
        return EndRun(run.run_id, run.epoch, "completed", "requires_approval")
    if run.calls:
        return None
    reason = _completed(run)
    return None if reason is None else EndRun(run.run_id, run.epoch, "completed", reason)


def _completed(run: Run) -> StopReason | None:
    if run.ended_by_tool:
        return "tool_rule"
    if run.answered:
        return "end_turn"
    return "max_steps" if run.steps_done >= run.request.max_steps else None


def _hopeless(run: Run) -> EndRun:
    reason: StopReason = "context_window_overflow_in_system_prompt"
    if run.hopeless == "context":
        reason = "llm_api_error"
    return EndRun(run.run_id, run.epoch, "failed", reason, NO_ROOM[reason])


def _next_call(run: Run) -> Effect | None:
    for call in run.calls:
        if call.starts and not (call.idempotent and call.starts < ATTEMPTS_MAX):
            return CloseCall(run.run_id, run.epoch, call)
        return RunTool(run.run_id, run.epoch, call)
    return None


def _next_step(run: Run, steered: bool) -> Effect:
    if steered:
        return LetIn(run.run_id, run.epoch)
    attempt = run.attempts_lost + 1
    return TakeStep(run.run_id, run.epoch, run.steps_done, attempt, run.delay_ms)
