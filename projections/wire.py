"""The shapes that letta-client reads (contract section 4): messages, and what only streams have."""

from typing import Any, Literal, TypeAlias

from typing_extensions import TypedDict


class Common(TypedDict):
    """What every message has; all keys are there, null where there is nothing to say."""

    id: str
    date: str
    name: str | None
    otid: str | None
    sender_id: str | None
    step_id: str | None
    is_err: bool | None
    seq_id: int | None
    run_id: str | None


class SystemMessage(Common):
    """The system prompt, or a note of the caller's in that role."""

    message_type: Literal["system_message"]
    content: str


class UserMessage(Common):
    """What a user said."""

    message_type: Literal["user_message"]
    content: str | list[dict[str, Any]]


class AssistantMessage(Common):
    """What the model said, or, in a token stream, what it grew by."""

    message_type: Literal["assistant_message"]
    content: str | list[dict[str, Any]]


class ReasoningMessage(Common):
    """What the model thought aloud."""

    message_type: Literal["reasoning_message"]
    reasoning: str
    source: Literal["reasoner_model", "non_reasoner_model"]
    signature: str | None


class HiddenReasoningMessage(Common):
    """Reasoning that the vendor gave only in encrypted form."""

    message_type: Literal["hidden_reasoning_message"]
    state: Literal["redacted", "omitted"]
    hidden_reasoning: str | None


class ToolCallShown(TypedDict):
    """A tool call; in a token stream its arguments are what they grew by."""

    name: str | None
    arguments: str | None
    tool_call_id: str | None


class ToolCallMessage(Common):
    """Tool calls of a step; `tool_calls` is one object in a token stream, else a list."""

    message_type: Literal["tool_call_message"]
    tool_call: ToolCallShown
    tool_calls: list[ToolCallShown] | ToolCallShown


class ApprovalRequestMessage(Common):
    """Tool calls that wait for the client."""

    message_type: Literal["approval_request_message"]
    tool_call: ToolCallShown
    tool_calls: list[ToolCallShown]


class ToolReturnShown(TypedDict):
    """What one tool call came to."""

    type: Literal["tool"]
    tool_call_id: str
    status: Literal["success", "error"]
    tool_return: str | list[dict[str, Any]]
    stdout: list[str] | None
    stderr: list[str] | None


class ToolReturnMessage(Common):
    """What a tool call came to; the fields beside `tool_returns` are older names of its first."""

    message_type: Literal["tool_return_message"]
    tool_return: str | list[dict[str, Any]]
    status: Literal["success", "error"]
    tool_call_id: str
    stdout: list[str] | None
    stderr: list[str] | None
    tool_returns: list[ToolReturnShown]


class ApprovalResponseMessage(Common):
    """A client's answers to the calls that waited for it; the others are older names of the first."""

    message_type: Literal["approval_response_message"]
    approvals: list[dict[str, Any]]
    approve: bool | None
    approval_request_id: str | None
    reason: str | None


class EventMessage(Common):
    """Something that happened to a run: only in streams."""

    message_type: Literal["event_message"]
    event_type: str
    event_data: dict[str, Any]


class Ping(Common):
    """A sign of life; the first one names the run."""

    message_type: Literal["ping"]


class StopReasonShown(TypedDict):
    """Why a run ended."""

    message_type: Literal["stop_reason"]
    stop_reason: str


class UsageShown(TypedDict):
    """The tokens of a run."""

    message_type: Literal["usage_statistics"]
    completion_tokens: int
    prompt_tokens: int
    total_tokens: int
    step_count: int
    run_ids: list[str] | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    reasoning_tokens: int | None
    context_tokens: int | None


class ErrorShown(TypedDict):
    """Why a run failed: the data of an SSE event named `error`."""

    message_type: Literal["error_message"]
    run_id: str
    error_type: str
    message: str
    detail: str | None
    seq_id: int | None


class SummaryMessage(Common):
    """What stands for messages that left the window; only to who asked for such messages."""

    message_type: Literal["summary_message"]
    summary: str
    compaction_stats: dict[str, Any]


Output: TypeAlias = (
    AssistantMessage
    | ReasoningMessage
    | HiddenReasoningMessage
    | ToolCallMessage
    | ToolReturnMessage
    | ApprovalRequestMessage
    | SummaryMessage
)
Message: TypeAlias = SystemMessage | UserMessage | ApprovalResponseMessage | Output
Frame: TypeAlias = Output | EventMessage | Ping | StopReasonShown | UsageShown | ErrorShown
