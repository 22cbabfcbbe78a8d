"""Messages in the form that letta-client reads (contract section 4): built here and only here.

Lists and frames are made by the same functions, so that a client that joins what it streamed by id
and otid has exactly what the history holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from domain.content import Content
from domain.conversation import (
    ConversationStarted,
    MessageAppended,
    WindowCompacted,
    WindowCompactionStarted,
)
from domain.event import Recorded
from domain.run import CalledTool, StepDelta, StepPart, StepStarted, ToolFinished
from domain.streams import derived_id, otid_of, system_message_id
from projections.marks import summary_of
from projections.summary import packed, stats_of
from projections.wire import (
    ApprovalRequestMessage,
    ApprovalResponseMessage,
    AssistantMessage,
    Common,
    EventMessage,
    HiddenReasoningMessage,
    Message,
    Output,
    Ping,
    ReasoningMessage,
    SummaryMessage,
    SystemMessage,
    ToolCallMessage,
    ToolCallShown,
    ToolReturnMessage,
    ToolReturnShown,
    UserMessage,
)


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
            date=date_of(event.said_at or fact.at),
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
    return prompt_message(system_message_id(fact.stream), fact.at, fact.event.system.text)


def prompt_message(message_id: str, at: datetime, text: str) -> SystemMessage:
    """Show a system prompt as a message."""
    return {**_common(message_id, date_of(at)), "message_type": "system_message", "content": text}


def input_message(
    fact: Recorded[MessageAppended],
) -> SystemMessage | UserMessage | AssistantMessage | ApprovalResponseMessage:
    """Show a message that was sent in."""
    event = fact.event
    date = date_of(event.said_at or fact.at)
    common = _common(event.message_id, date, otid=event.otid, run_id=event.run_id)
    common["name"], common["sender_id"] = event.name, event.sender_id
    if event.approvals is not None:
        return _approval_response(common, event.approvals)
    shown = _content(event.content or "")
    if event.role == "system":
        text = (
            shown if isinstance(shown, str) else "".join(str(one.get("text", "")) for one in shown)
        )
        return {**common, "message_type": "system_message", "content": text}
    if event.role == "assistant":
        return {**common, "message_type": "assistant_message", "content": shown}
    return {**common, "message_type": "user_message", "content": shown}


def _approval_response(
    common: Common, approvals: Sequence[dict[str, Any]]
) -> ApprovalResponseMessage:
    first = approvals[0] if approvals else {}
    return {
        **common,
        "message_type": "approval_response_message",
        "approvals": list(approvals),
        "approve": first.get("approve"),
        "approval_request_id": first.get("tool_call_id"),
        "reason": first.get("reason"),
    }


def _content(content: Content) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [part.model_dump(mode="json") for part in content]


# --- what came out ----------------------------------------------------------------------------


def part_message(
    step: Step, part: StepPart, seq_id: int | None = None
) -> AssistantMessage | ReasoningMessage | HiddenReasoningMessage | ToolCallMessage:
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


def _calls(common: Common, call: CalledTool | None) -> ToolCallMessage:
    shown = _call(call)
    return {
        **common,
        "message_type": "tool_call_message",
        "tool_call": shown,
        "tool_calls": [shown],
    }


def _call(call: CalledTool | None) -> ToolCallShown:
    if call is None:
        return {"name": None, "arguments": None, "tool_call_id": None}
    return {"name": call.name, "arguments": call.arguments, "tool_call_id": call.id}


def approval_request(
    step: Step, parts: Sequence[StepPart], seq_id: int | None = None
) -> ApprovalRequestMessage:
    """Show the calls of a step that wait for the client, all in one message."""
    common = _of_step(step, 0, seq_id)
    common["otid"] = step.message_id
    calls = [_call(part.call) for part in parts]
    return {
        **common,
        "message_type": "approval_request_message",
        "tool_call": calls[0],
        "tool_calls": calls,
    }


def tool_return(fact: Recorded[ToolFinished], seq_id: int | None = None) -> ToolReturnMessage:
    """Show what a tool call came to; it belongs to the step that called."""
    event = fact.event
    common = _common(
        event.message_id,
        date_of(event.said_at or fact.at),
        otid=otid_of(event.message_id, 0),
        run_id=event.run_id,
        step_id=event.step_id,
        seq_id=seq_id,
    )
    common["name"] = event.name
    status: Literal["success", "error"] = "success" if event.status == "ok" else "error"
    stdout, stderr = _lines(event.stdout), _lines(event.stderr)
    shown: ToolReturnShown = {
        "type": "tool",
        "tool_call_id": event.tool_call_id,
        "status": status,
        "tool_return": _content(event.content),
        "stdout": stdout,
        "stderr": stderr,
    }
    return {
        **common,
        "message_type": "tool_return_message",
        "tool_return": shown["tool_return"],
        "status": status,
        "tool_call_id": event.tool_call_id,
        "stdout": stdout,
        "stderr": stderr,
        "tool_returns": [shown],
    }


def _lines(printed: tuple[str, ...] | None) -> list[str] | None:
    return None if printed is None else list(printed)


def step_messages(step: Step, parts: Sequence[StepPart]) -> list[Output]:
    """Show a finished step: its parts, then what it asks the client. Half calls are not shown."""
    gated = [part for part in parts if _is_gated(part)]
    shown: list[Output] = [part_message(step, part) for part in parts if is_shown(part)]
    return [*shown, approval_request(step, gated)] if gated else shown


def _is_gated(part: StepPart) -> bool:
    return part.call is not None and part.call.gated and not part.interrupted


def is_shown(part: StepPart) -> bool:
    """Tell whether a part is a message by itself: not what waits, nor a call that broke off."""
    return part.call is None or not (part.call.gated or part.interrupted)


# --- what left the window ----------------------------------------------------------------------


def summary_as_user(fact: Recorded[WindowCompacted]) -> UserMessage:
    """Show a summary as the history lists it: the message that the model is given."""
    common = _of_compaction(fact, None, None)
    return {**common, "message_type": "user_message", "content": packed(summary_of(fact))}


def summary_message(
    fact: Recorded[WindowCompacted], step_id: str | None, seq_id: int | None = None
) -> SummaryMessage:
    """Show a summary to who asked for compactions."""
    return {
        **_of_compaction(fact, step_id, seq_id),
        "message_type": "summary_message",
        "summary": fact.event.summary,
        "compaction_stats": stats_of(summary_of(fact)),
    }


def _of_compaction(
    fact: Recorded[WindowCompacted], step_id: str | None, seq_id: int | None
) -> Common:
    message_id = fact.event.summary_message_id
    return _common(
        message_id,
        date_of(fact.at),
        otid=otid_of(message_id, 0),
        run_id=fact.event.run_id,
        step_id=step_id,
        seq_id=seq_id,
    )


def compaction_event(fact: Recorded[WindowCompactionStarted], step_id: str | None) -> EventMessage:
    """Show that a compaction has begun."""
    event = fact.event
    common = _common(
        event.event_id,
        date_of(fact.at),
        run_id=event.run_id,
        step_id=step_id,
        seq_id=fact.version,
    )
    data = {
        "trigger": event.trigger,
        "context_token_estimate": event.tokens,
        "context_window": event.context_window,
    }
    return {
        **common,
        "message_type": "event_message",
        "event_type": "compaction",
        "event_data": data,
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
