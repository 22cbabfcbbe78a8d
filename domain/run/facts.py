"""What can happen to a run: queued, claimed, stepped, finished."""

from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from domain.content import Content, ToolSchema
from domain.event import Event, Value
from domain.sleeptime import Sleeptime

ATTEMPTS_MAX: Final = 3
MAX_STEPS_DEFAULT: Final = 50

DeltaKind: TypeAlias = Literal["text", "reasoning", "signature", "redacted", "arguments"]
PartKind: TypeAlias = Literal["text", "reasoning", "redacted", "call"]
FinishReason: TypeAlias = Literal["stop", "length", "tool_call", "content_filter", "error"]
RunStatus: TypeAlias = Literal["completed", "failed", "cancelled"]
CancelReason: TypeAlias = Literal["user", "interrupt", "rollback", "deleted"]
ToolStatus: TypeAlias = Literal["ok", "error", "denied", "cancelled", "unknown"]
ToolSource: TypeAlias = Literal["server", "client", "system"]
OnBusy: TypeAlias = Literal["reject", "enqueue", "interrupt", "rollback", "steer"]
# By which way a request came, in the words of the original.
RunType: TypeAlias = Literal[
    "send_conversation_message", "send_message", "send_message_streaming", "send_message_async"
]
StopReason: TypeAlias = Literal[
    "end_turn",
    "max_steps",
    "tool_rule",
    "requires_approval",
    "cancelled",
    "error",
    "llm_api_error",
    "invalid_llm_response",
    "invalid_tool_call",
    "no_tool_call",
    "max_tokens_exceeded",
    "context_window_overflow_in_system_prompt",
    "insufficient_credits",
]


class Usage(Value):
    """Tokens of one model call as its vendor reported them; null is "not reported".

    `input_tokens` counts the whole prompt, cached or not.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class RunUsage(Usage):
    """Tokens of a run: sums over its steps; `context_tokens` is the last step's whole context."""

    step_count: int = 0
    context_tokens: int | None = None


class Failure(Value):
    """Why a run or a step failed: `error_type` as clients know it, words for people."""

    error_type: str
    message: str
    detail: str | None = None


class Overrides(Value):
    """What one request replaces for itself alone."""

    model: str | None = None
    system: str | None = None


class RunRequest(Value):
    """How a run was asked for: what the worker obeys and every later reader of it sees.

    `filters` are the message types that its frames are limited to; null is all of them. `run_type`
    tells by which way it came and changes nothing of what is done.
    """

    streaming: bool = True
    stream_tokens: bool = False
    background: bool = False
    pings: bool = True
    filters: tuple[str, ...] | None = None
    compaction_messages: bool = False
    max_steps: int = MAX_STEPS_DEFAULT
    overrides: Overrides = Overrides()
    skills: tuple[dict[str, Any], ...] = ()
    callback: str | None = None
    run_type: RunType = "send_conversation_message"


class Cause(Value):
    """The tool call that led to a fact of another stream: its `tool.started`, and which of many."""

    stream: str
    offset: int
    n: int = 0


class Span(Value):
    """Offsets `first` to `last`, both included; `stream` only where it is a fork's ancestor."""

    first: int
    last: int
    stream: str | None = None


class Manifest(Value):
    """What a step's request was made of, so that it can be made again and compared.

    `system_at` is the offset of the fact that holds the system text, `items` the offsets within
    which all visible items were sent, `sha256` the hash of the canonical request. `window_at` is
    the offset whose window was rendered, `tokens` our estimate of the request's.
    """

    system_at: int
    items: tuple[Span, ...]
    sha256: str
    renderer: str
    tools_at: int | None = None
    window_at: int | None = None
    tokens: int | None = None


class CalledTool(Value):
    """A tool call as the model wrote it; a gated one waits for the client."""

    id: str
    name: str
    arguments: str
    gated: bool = False


class DeltaCall(Value):
    """Which call a delta of arguments belongs to; only its first delta says so."""

    id: str
    name: str


class OfferedTool(ToolSchema):
    """A tool that the server runs itself; a gated one only with the client's approval.

    One that is idempotent may be run again after a crash in the middle of it; the success of one
    that is terminal ends the run.
    """

    gated: bool = False
    idempotent: bool = False
    terminal: bool = False


class RunQueued(Event):
    """A request was accepted; its messages are in the same append."""

    type: Literal["run.queued"] = "run.queued"
    run_id: str
    keys: tuple[str, ...] = ()
    body_hash: str
    request: RunRequest
    tools: tuple[ToolSchema, ...] | None = None
    tools_at: int | None = None
    on_busy: OnBusy
    continues: str | None = None
    cause: Cause | None = None


class RunClaimed(Event):
    """A worker took the run; facts of an older epoch are refused from here on.

    It pins what the run is worked with: model, settings, the server's `tools` on offer, and how the
    agent's memory is consolidated after it, if it is.
    """

    type: Literal["run.claimed"] = "run.claimed"
    run_id: str
    epoch: int
    node: str
    agent_version: int
    model: str
    settings: dict[str, Any]
    context_window: int
    tools: tuple[OfferedTool, ...] = ()
    sleeptime: Sleeptime | None = None


class RunCancelRequested(Event):
    """Somebody wants these runs to stop; whoever owns them obeys."""

    type: Literal["run.cancel_requested"] = "run.cancel_requested"
    run_ids: tuple[str, ...]
    reason: CancelReason


class RunFinished(Event):
    """The run is over, once. `epoch` is absent if nobody had claimed it."""

    type: Literal["run.finished"] = "run.finished"
    run_id: str
    epoch: int | None = None
    status: RunStatus
    stop_reason: StopReason
    usage: RunUsage
    error: Failure | None = None


class RunHidden(Event):
    """The run is gone from lists and lookups; its facts and messages stay."""

    type: Literal["run.hidden"] = "run.hidden"
    run_id: str


class RunCalledBack(Event):
    """The run's callback was delivered, or given up: `status_code` is the last answer's."""

    type: Literal["run.called_back"] = "run.called_back"
    run_id: str
    attempts: int
    status_code: int | None = None
    error: str | None = None


class StepStarted(Event):
    """The model is about to be called; its offset is the step's name `s` in what follows.

    `said_at` is when the model replied, if that was elsewhere, before the reply came here.
    """

    type: Literal["step.started"] = "step.started"
    run_id: str
    epoch: int
    step_id: str
    index: int
    attempt: int
    message_id: str
    model: str
    settings: dict[str, Any]
    gated: tuple[str, ...] = ()
    manifest: Manifest
    said_at: datetime | None = None


class StepDelta(Event):
    """Part `i` of the reply grew by `x`."""

    type: Literal["step.delta"] = "step.delta"
    s: int
    i: int
    kind: DeltaKind
    x: str
    call: DeltaCall | None = None


class StepPart(Event):
    """Part `i` of the reply, whole: the deltas of its kinds, joined, equal it byte for byte.

    `said_at` is when the model replied, if that was elsewhere, as its step has it.
    """

    type: Literal["step.part"] = "step.part"
    s: int
    i: int
    kind: PartKind
    text: str | None = None
    call: CalledTool | None = None
    signature: str | None = None
    interrupted: bool = False
    said_at: datetime | None = None


class StepFinished(Event):
    """The model call is over; its `parts` parts are in the same append."""

    type: Literal["step.finished"] = "step.finished"
    s: int
    outcome: Literal["ok", "interrupted", "failed"]
    parts: int
    usage: Usage | None = None
    finish_reason: FinishReason | None = None
    error: Failure | None = None


class StepSuperseded(Event):
    """What this step had said so far does not count; it is taken again."""

    type: Literal["step.superseded"] = "step.superseded"
    s: int
    reason: Literal["taken_over", "provider_error", "context_exceeded", "timeout"]
    attempt: int
    attempts_max: int = ATTEMPTS_MAX
    delay_ms: int = 0


class ToolStarted(Event):
    """The server is about to run a tool for step `s`; `message_id` will be that of its return.

    `stream` is there only where the step is a fork's ancestor's.
    """

    type: Literal["tool.started"] = "tool.started"
    s: int
    run_id: str
    epoch: int
    tool_call_id: str
    message_id: str
    name: str
    idempotent: bool = False
    stream: str | None = None


class ToolFinished(Event):
    """A call of step `s` has its return, whoever it is from; `unknown` is a crash in the middle.

    `run_id` is the run in which it came, `step_id` the step that called. `effects` are the facts of
    other streams that it led to, as (stream, version). `said_at` is when it came, if that was
    elsewhere, before. `stream` is there only where the step is a fork's ancestor's.
    """

    type: Literal["tool.finished"] = "tool.finished"
    s: int
    run_id: str
    step_id: str
    tool_call_id: str
    message_id: str
    name: str
    status: ToolStatus
    content: Content
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None
    source: ToolSource
    effects: tuple[tuple[str, int], ...] = ()
    said_at: datetime | None = None
    stream: str | None = None


RunEvent: TypeAlias = (
    RunQueued
    | RunClaimed
    | RunCancelRequested
    | RunFinished
    | RunHidden
    | RunCalledBack
    | StepStarted
    | StepDelta
    | StepPart
    | StepFinished
    | StepSuperseded
    | ToolStarted
    | ToolFinished
)
