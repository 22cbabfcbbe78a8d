"""Messages in the form that letta-client reads (contract section 4): built here and only here.

Lists and frames are made by the same functions, so that a client that joins what it streamed by id
and otid has exactly what the history holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from typing_extensions import TypedDict

from domain.content import Content
from domain.conversation import ConversationStarted, MessageAppended
from domain.event import Recorded
from domain.run import CalledTool, StepDelta, StepPart, StepStarted
from domain.streams import derived_id, otid_of, system_message_id


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


Output: TypeAlias = (
    AssistantMessage
    | ReasoningMessage
    | HiddenReasoningMessage
    | ToolCallMessage
    | ApprovalRequestMessage
)
Message: TypeAlias = SystemMessage | UserMessage | Output
Frame: TypeAlias = Output | EventMessage | Ping | StopReasonShown | UsageShown | ErrorShown


@dataclass(frozen=True, slots=True)
class Step:
    """What a step's messages have in common: known as soon as it starts."""

    s: int
    run_id: str
    step_id: str
    message_id: str
    date: str
    gated: frozenset[str]

    @classmethod
    def of(cls, fact: Recorded[StepStarted]) -> "Step":
        """Read it off the fact."""
        event = fact.event
        return cls(
            s=fact.version,
            run_id=event.run_id,
            step_id=event.step_id,
            message_id=event.message_id,
            date=date_of(fact.at),
            gated=frozenset(event.gated),
        )


def date_of(at: datetime) -> str:
    """Spell a moment in whole seconds with its offset, as the original did."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _common(  # noqa: PLR0913 - the fields every message has
    identity: str,
    date: str,
    *,
    otid: str | None = None,
    run_id: str | None = None,
    step_id: str | None = None,
    seq_id: int | None = None,
) -> Common:
    return {
        "id": identity,
        "date": date,
        "name": None,
        "otid": otid,
        "sender_id": None,
        "step_id": step_id,
        "is_err": None,
        "seq_id": seq_id,
        "run_id": run_id,
    }


def _of_step(step: Step, index: int, seq_id: int | None) -> Common:
    return _common(
        step.message_id,
        step.date,
        otid=otid_of(step.message_id, index),
        run_id=step.run_id,
        step_id=step.step_id,
        seq_id=seq_id,
    )


# --- what was put in --------------------------------------------------------------------------


def system_message(fact: Recorded[ConversationStarted]) -> SystemMessage:
    """Show the compiled system prompt: a conversation's first message."""
    common = _common(system_message_id(fact.stream), date_of(fact.at))
    return {**common, "message_type": "system_message", "content": fact.event.system.text}


def input_message(
    fact: Recorded[MessageAppended],
) -> SystemMessage | UserMessage | AssistantMessage:
    """Show a message that was sent in."""
    event = fact.event
    common = _common(event.message_id, date_of(fact.at), otid=event.otid, run_id=event.run_id)
    shown = _content(event.content or "")
    if event.role == "system":
        text = (
            shown if isinstance(shown, str) else "".join(str(one.get("text", "")) for one in shown)
        )
        return {**common, "message_type": "system_message", "content": text}
    if event.role == "assistant":
        return {**common, "message_type": "assistant_message", "content": shown}
    return {**common, "message_type": "user_message", "content": shown}


def _content(content: Content) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [part.model_dump(mode="json") for part in content]


# --- what came out ----------------------------------------------------------------------------


def part_message(step: Step, part: StepPart, seq_id: int | None = None) -> Output:
    """Show one whole part of a reply."""
    common = _of_step(step, part.i, seq_id)
    text = part.text or ""
    match part.kind:
        case "text":
            return {**common, "message_type": "assistant_message", "content": text}
        case "reasoning":
            return _reasoning(common, text, part.signature)
        case "redacted":
            return _redacted(common, text)
        case "call":
            return _calls(common, part.call)


def delta_message(step: Step, delta: StepDelta, call_id: str | None, seq_id: int) -> Output:
    """Show what one part grew by. `call_id` names the call that arguments belong to."""
    common = _of_step(step, delta.i, seq_id)
    match delta.kind:
        case "text":
            return {**common, "message_type": "assistant_message", "content": delta.x}
        case "reasoning":
            return _reasoning(common, delta.x, None)
        case "signature":
            return _reasoning(common, "", delta.x)
        case "redacted":
            return _redacted(common, delta.x)
        case "arguments":
            name = None if delta.call is None else delta.call.name
            grown: ToolCallShown = {"name": name, "arguments": delta.x, "tool_call_id": call_id}
            return {
                **common,
                "message_type": "tool_call_message",
                "tool_call": grown,
                "tool_calls": grown,
            }


def _reasoning(common: Common, text: str, signature: str | None) -> ReasoningMessage:
    return {
        **common,
        "message_type": "reasoning_message",
        "reasoning": text,
        "source": "reasoner_model",
        "signature": signature,
    }


def _redacted(common: Common, data: str) -> HiddenReasoningMessage:
    return {
        **common,
        "message_type": "hidden_reasoning_message",
        "state": "redacted",
        "hidden_reasoning": data,
    }


def _calls(common: Common, call: CalledTool | None) -> ToolCallMessage | ApprovalRequestMessage:
    shown: ToolCallShown = {"name": None, "arguments": None, "tool_call_id": None}
    if call is not None:
        shown = {"name": call.name, "arguments": call.arguments, "tool_call_id": call.id}
    if call is not None and call.gated:
        common["otid"] = common["id"]
        return {
            **common,
            "message_type": "approval_request_message",
            "tool_call": shown,
            "tool_calls": [shown],
        }
    return {
        **common,
        "message_type": "tool_call_message",
        "tool_call": shown,
        "tool_calls": [shown],
    }


# --- only in streams --------------------------------------------------------------------------


def ping(identity: str, at: datetime, run_id: str, seq_id: int) -> Ping:
    """Show a sign of life."""
    common = _common(identity, date_of(at), run_id=run_id, seq_id=seq_id)
    return {**common, "message_type": "ping"}


def event_message(
    fact: Recorded[Any], event_type: str, data: dict[str, Any], step: Step
) -> EventMessage:
    """Show something that happened to a run."""
    common = _common(
        derived_id("message", fact.id),
        date_of(fact.at),
        run_id=step.run_id,
        step_id=step.step_id,
        seq_id=fact.version,
    )
    return {
        **common,
        "message_type": "event_message",
        "event_type": event_type,
        "event_data": data,
    }


def only(messages: Sequence[Message], wanted: Sequence[str] | None) -> list[Message]:
    """Keep the message types asked for; None asks for all."""
    if wanted is None:
        return list(messages)
    return [message for message in messages if message["message_type"] in wanted]
