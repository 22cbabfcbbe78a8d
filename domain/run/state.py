"""The part of a conversation's state that is its runs."""

from dataclasses import dataclass, field, replace
from typing import Final, Literal

from domain.compaction import CompactionTrigger
from domain.run.facts import (
    CalledTool,
    CancelReason,
    FinishReason,
    OnBusy,
    RunClaimed,
    RunRequest,
    RunUsage,
    StepFinished,
    StepStarted,
    StepSuperseded,
    ToolFinished,
    ToolStarted,
    Usage,
)
from domain.streams import MESSAGE, derived_id

# A window is to be compacted when its context is above this share of it (contract section 8.5).
CROWDED_SHARE: Final = 0.9
# How often a step that the model had no room for is taken again after a compaction.
OVERFLOWS_MAX: Final = 3


def crowded_above(context_window: int) -> int:
    """Give the number of tokens above which a window of this size is to be compacted."""
    return int(CROWDED_SHARE * context_window)


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A tool call of a finished step that has no return yet.

    `gated` while it waits for the client; `starts` counts how often the server began to run it, and
    `started_at` is the offset where it first did: what the call has led to elsewhere names that.
    """

    s: int
    step_id: str
    step_message_id: str
    id: str
    name: str
    arguments: str
    gated: bool = False
    starts: int = 0
    idempotent: bool = False
    started_at: int | None = None

    @property
    def return_id(self) -> str:
        """The id of its return: it follows from the call, whoever writes it and when."""
        return derived_id(MESSAGE, f"{self.step_message_id}/{self.id}")


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step whose end is not recorded yet; `s` is the offset of its `step.started`.

    `tokens` is our estimate of its request.
    """

    s: int
    index: int
    attempt: int
    step_id: str = ""
    message_id: str = ""
    calls: tuple[OpenCall, ...] = ()
    tokens: int | None = None

    def calling(self, call: CalledTool) -> "OpenStep":
        """Give the step with one more call in its reply."""
        opened = OpenCall(
            self.s, self.step_id, self.message_id, call.id, call.name, call.arguments, call.gated
        )
        return replace(self, calls=(*self.calls, opened))


@dataclass(frozen=True, slots=True)
class Turn:
    """A chain of runs, each going on where the one before it waited for the client."""

    run_ids: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()

    def with_message(self, message_id: str) -> "Turn":
        """Give the turn with one more message in it."""
        return replace(self, message_ids=(*self.message_ids, message_id))


@dataclass(frozen=True, slots=True)
class Run:
    """A run that is not over.

    A steer's has the `host` that it was meant for, and is `joined` to it once its messages are in.
    `said` are the offsets of its messages, `succeeded` the tools of its last step that did. It is
    `crowded` while its window is to be compacted; `overflows` counts how often the model had no room
    for its step, and it is `hopeless` if no compaction can help. `last_s` is its last step.
    """

    run_id: str
    queued_at: int
    request: RunRequest
    on_busy: OnBusy = "enqueue"
    continues: str | None = None
    tools_at: int | None = None
    claimed: RunClaimed | None = None
    cancelled: CancelReason | None = None
    host: str | None = None
    joined: str | None = None
    step: OpenStep | None = None
    calls: tuple[OpenCall, ...] = ()
    succeeded: frozenset[str] = frozenset()
    steps_done: int = 0
    attempts_lost: int = 0
    delay_ms: int = 0
    answered: bool = False
    finish_reason: FinishReason | None = None
    usage: RunUsage = field(default_factory=RunUsage)
    turn: Turn = field(default_factory=Turn)
    said: tuple[int, ...] = ()
    last_s: int | None = None
    crowded: CompactionTrigger | None = None
    overflows: int = 0
    hopeless: Literal["context", "system"] | None = None

    @property
    def context_window(self) -> int:
        """The size of the model's window in tokens, 0 if it is not known."""
        return 0 if self.claimed is None else self.claimed.context_window

    @property
    def asked(self) -> tuple[int, ...]:
        """The offsets of its messages while it needs them, none once it has answered."""
        return () if self.answered else self.said

    @property
    def ended_by_tool(self) -> bool:
        """Whether a tool has ended it: a terminal one that succeeded in the last step."""
        offered = () if self.claimed is None else self.claimed.tools
        return any(one.terminal and one.name in self.succeeded for one in offered)

    @property
    def epoch(self) -> int:
        """The epoch of the newest claim, 0 before the first."""
        return 0 if self.claimed is None else self.claimed.epoch

    def open_call(self, s: int, tool_call_id: str) -> OpenCall | None:
        """Give a call that has no return yet."""
        return next((one for one in self.calls if (one.s, one.id) == (s, tool_call_id)), None)


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


def message_taken(run: Run, message_id: str, version: int) -> Run:
    """Add a message that came in, at an offset."""
    return replace(answer_taken(run, message_id), said=(*run.said, version))


def answer_taken(run: Run, message_id: str) -> Run:
    """Add an answer to calls: it is listed, but it is no message of the window's."""
    return replace(run, turn=run.turn.with_message(message_id))


def step_of(event: StepStarted, version: int) -> OpenStep:
    """Give the step that has begun at an offset."""
    return OpenStep(
        version,
        event.index,
        event.attempt,
        event.step_id,
        event.message_id,
        tokens=event.manifest.tokens,
    )


def step_taken(run: Run, event: StepFinished) -> Run:
    """Close the open step of a run; the calls of a whole reply are owed a return."""
    step = run.step
    calls = step.calls if step is not None and event.outcome == "ok" else ()
    return replace(
        run,
        step=None,
        calls=calls,
        succeeded=frozenset(),
        steps_done=run.steps_done + 1,
        attempts_lost=0,
        delay_ms=0,
        answered=not calls,
        finish_reason=event.finish_reason,
        usage=total_of(run.usage, event.usage),
        turn=run.turn if step is None else run.turn.with_message(step.message_id),
        last_s=run.last_s if step is None else step.s,
        crowded=_crowding(run, event),
        overflows=0,
    )


def _crowding(run: Run, event: StepFinished) -> CompactionTrigger | None:
    """Tell whether a step's context, without its reply, was too large a part of the window."""
    if event.outcome != "ok" or not run.context_window:
        return None
    estimated = None if run.step is None else run.step.tokens
    reported = None if event.usage is None else event.usage.input_tokens
    crowded = (reported or estimated or 0) > crowded_above(run.context_window)
    return "post_step_context_check" if crowded else None


def step_lost(run: Run, event: StepSuperseded) -> Run:
    """Forget the open step of a run; it is to be taken again, after a pause or a compaction.

    A step that there was no room for even after `OVERFLOWS_MAX` compactions is not.
    """
    if event.reason == "context_exceeded":
        if run.overflows >= OVERFLOWS_MAX:
            return replace(run, step=None, crowded=None, hopeless="context")
        crowded: CompactionTrigger = "context_window_exceeded"
        return replace(run, step=None, crowded=crowded, overflows=run.overflows + 1)
    return replace(run, step=None, attempts_lost=run.attempts_lost + 1, delay_ms=event.delay_ms)


def made_room(run: Run, tokens_after: int, system_tokens: int) -> Run:
    """Go on in a window that was compacted, unless its system prompt alone fills it."""
    limit = run.context_window
    full = 0 < limit <= system_tokens and tokens_after >= crowded_above(limit)
    usage = run.usage
    if usage.context_tokens is not None:
        usage = usage.model_copy(update={"context_tokens": tokens_after})
    return replace(
        run,
        crowded=None,
        hopeless="system" if run.crowded and full else run.hopeless,
        usage=usage,
    )


def made_no_room(run: Run, *, retry: bool) -> Run:
    """Go on in a window that could not be compacted; a step without room for it goes no further.

    `retry` tells that the compaction might do better next time.
    """
    stuck = run.crowded == "context_window_exceeded" and not retry
    return replace(run, crowded=None, hopeless="context" if stuck else run.hopeless)


def call_begun(run: Run, event: ToolStarted, version: int) -> Run:
    """Count that the server began, at `version`, to run a call."""
    calls = tuple(
        replace(
            one,
            starts=one.starts + 1,
            idempotent=event.idempotent,
            started_at=one.started_at or version,
        )
        if (one.s, one.id) == (event.s, event.tool_call_id)
        else one
        for one in run.calls
    )
    return replace(run, calls=calls)


def call_returned(run: Run, event: ToolFinished) -> Run:
    """Close a call."""
    call = run.open_call(event.s, event.tool_call_id)
    calls = tuple(one for one in run.calls if one is not call)
    done = {call.name} if call is not None and event.status == "ok" else set[str]()
    return replace(
        run,
        calls=calls,
        succeeded=run.succeeded | done,
        turn=run.turn.with_message(event.message_id),
    )


def calls_approved(run: Run, tool_call_ids: frozenset[str]) -> Run:
    """Let the server run calls that had waited for the client's word."""
    calls = tuple(
        replace(one, gated=False) if one.id in tool_call_ids else one for one in run.calls
    )
    return replace(run, calls=calls)
