"""The part of a conversation's state that is its runs."""

from dataclasses import dataclass, field, replace

from domain.run.facts import FinishReason, RunClaimed, RunRequest, RunUsage, StepFinished, Usage


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step whose end is not recorded yet; `s` is the offset of its `step.started`."""

    s: int
    index: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is not over."""

    run_id: str
    queued_at: int
    request: RunRequest
    claimed: RunClaimed | None = None
    cancelled: bool = False
    step: OpenStep | None = None
    steps_done: int = 0
    attempts_lost: int = 0
    answered: bool = False
    finish_reason: FinishReason | None = None
    usage: RunUsage = field(default_factory=RunUsage)

    @property
    def epoch(self) -> int:
        """The epoch of the newest claim, 0 before the first."""
        return 0 if self.claimed is None else self.claimed.epoch


def total_of(so_far: RunUsage, step: Usage | None) -> RunUsage:
    """Add a step's tokens to its run's."""
    if step is None:
        return so_far.model_copy(update={"step_count": so_far.step_count + 1})
    return RunUsage(
        input_tokens=so_far.input_tokens + step.input_tokens,
        output_tokens=so_far.output_tokens + step.output_tokens,
        cached_input_tokens=_sum(so_far.cached_input_tokens, step.cached_input_tokens),
        cache_write_tokens=_sum(so_far.cache_write_tokens, step.cache_write_tokens),
        reasoning_tokens=_sum(so_far.reasoning_tokens, step.reasoning_tokens),
        step_count=so_far.step_count + 1,
        context_tokens=step.input_tokens + step.output_tokens,
    )


def _sum(left: int | None, right: int | None) -> int | None:
    return right if left is None else left + (right or 0)


def step_taken(run: Run, event: StepFinished) -> Run:
    """Close the open step of a run."""
    return replace(
        run,
        step=None,
        steps_done=run.steps_done + 1,
        attempts_lost=0,
        answered=event.finish_reason != "tool_call",
        finish_reason=event.finish_reason,
        usage=total_of(run.usage, event.usage),
    )


def step_lost(run: Run) -> Run:
    """Forget the open step of a run; it is to be taken again."""
    return replace(run, step=None, attempts_lost=run.attempts_lost + 1)
