"""What a window is made of: the system prompt, messages, replies, returns, summaries."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from domain.compaction import CompactionTrigger
from domain.content import (
    InputPart,
    OutputPart,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    ToolResult,
)
from domain.conversation import System
from domain.run import StepPart, ToolStatus, Usage


@dataclass(frozen=True, slots=True)
class SystemAt:
    """The system prompt in force, and the offset of the fact that holds it."""

    offset: int
    message_id: str
    system: System


@dataclass(frozen=True, slots=True)
class MessageItem:
    """Somebody's message."""

    offset: int
    message_id: str
    role: Literal["user", "system", "assistant"]
    parts: tuple[InputPart, ...]


@dataclass(frozen=True, slots=True)
class StepItem:
    """A model's reply; it was `ended` at an offset."""

    offset: int
    message_id: str
    parts: tuple[StepPart, ...]
    interrupted: bool
    usage: Usage | None
    ended: int = 0

    @property
    def call_ids(self) -> tuple[str, ...]:
        """The ids of its calls, in their order; none if it broke off."""
        if self.interrupted:
            return ()
        return tuple([part.call.id for part in self.parts if part.call is not None])


@dataclass(frozen=True, slots=True)
class ReturnItem:
    """What a tool call of step `s` came to: the step's call number `order`, from 0."""

    offset: int
    message_id: str
    s: int
    tool_call_id: str
    name: str
    status: ToolStatus
    parts: tuple[InputPart, ...]
    order: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """The arithmetic of an automatic compaction, as clients and the model see it."""

    trigger: CompactionTrigger
    context_tokens_before: int
    context_tokens_after: int
    context_window: int
    messages_count_before: int
    messages_count_after: int


@dataclass(frozen=True, slots=True)
class SummaryItem:
    """What stands for items that left the window, just before offset `before`.

    `hidden` messages between the offsets `first` and `last` are what it stands for.
    """

    offset: int
    message_id: str
    compaction_id: str
    run_id: str | None
    before: int
    summary: str
    at: datetime
    hidden: int
    first: int
    last: int
    stats: Stats


Item: TypeAlias = MessageItem | StepItem | ReturnItem | SummaryItem


def place_of(item: Item) -> tuple[int, int, int]:
    """Give what a window is ordered by: returns follow their step, a summary stands before."""
    match item:
        case SummaryItem():
            return item.before, -1, item.offset
        case ReturnItem():
            return item.s, 1, item.order
        case _:
            return item.offset, 0, 0


def spoken(part: StepPart) -> OutputPart:
    """Give a stored part as content."""
    match part.kind:
        case "text":
            return Text(text=part.text or "")
        case "reasoning":
            return Reasoning(text=part.text or "", signature=part.signature)
        case "redacted":
            return Redacted(data=part.text or "")
        case "call":
            if part.call is None:
                raise ValueError(f"part {part.i} of step {part.s} is a call without one")
            return ToolCall(id=part.call.id, name=part.call.name, arguments=part.call.arguments)


def result_of(item: ReturnItem) -> ToolResult:
    """Give a return as content."""
    words = [part.text for part in item.parts if isinstance(part, Text)]
    content = "".join(words) if len(words) == len(item.parts) else item.parts
    return ToolResult(tool_call_id=item.tool_call_id, content=content, status=item.status)
