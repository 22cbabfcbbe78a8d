"""The window as people and programs see it: every part with where it came from."""

from typing import Literal

from domain.content import InputPart, OutputPart, Text, ToolResult
from domain.conversation import Inherited
from domain.event import Value
from projections.items import (
    Item,
    MessageItem,
    ReturnItem,
    StepItem,
    SummaryItem,
    SystemAt,
    result_of,
    spoken,
)
from projections.marks import Marks
from projections.sizes import WindowTokens, size_of, tokens_of
from projections.summary import packed
from projections.window import Window


class WindowSystem(Value):
    """The system prompt in a window: its text, where it is stored, what it was compiled from."""

    offset: int
    message_id: str
    text: str
    agent_version: int
    blocks: dict[str, tuple[str, int]]


class WindowMessage(Value):
    """A message in a window, with the offset it comes from, and its size in tokens, estimated.

    The offset is that of `stream`, which is there only for what a fork inherited. A summary names
    its compaction.
    """

    offset: int
    stream: Inherited = None
    message_id: str
    role: Literal["user", "system", "assistant", "tool", "summary"]
    parts: tuple[InputPart | OutputPart | ToolResult, ...]
    tokens: int
    interrupted: bool = False
    pinned: bool = False
    compaction_id: str | None = None


class WindowAnswer(Value):
    """A window, and where each part of it came from.

    `cutoff_stream` is there only where the cutoff is an offset of a fork's ancestor's.
    """

    at: int
    system: WindowSystem | None
    summary: str | None
    messages: tuple[WindowMessage, ...]
    tokens: WindowTokens
    cutoff: int | None
    cutoff_stream: Inherited = None
    compaction_id: str | None


def shown(window: Window) -> WindowAnswer:
    """Give a window in the form of the API."""
    summary, marks = window.summary, window.marks
    cutoff = window.cutoff
    cutoff_stream, cutoff = (None, None) if cutoff is None else marks.lineage.named(cutoff)
    return WindowAnswer(
        at=window.at,
        system=_shown_system(window.system),
        summary=None if summary is None else summary.summary,
        messages=tuple(_shown_item(item, marks) for item in window.items),
        tokens=tokens_of(window),
        cutoff=cutoff,
        cutoff_stream=cutoff_stream,
        compaction_id=None if summary is None else summary.compaction_id,
    )


def _shown_system(found: SystemAt | None) -> WindowSystem | None:
    if found is None:
        return None
    return WindowSystem(
        offset=found.offset,
        message_id=found.message_id,
        text=found.system.text,
        agent_version=found.system.agent_version,
        blocks=found.system.blocks,
    )


def _shown_item(item: Item, marks: Marks) -> WindowMessage:
    role, parts = _said(item)
    stream, offset = marks.lineage.named(item.offset)
    return WindowMessage(
        offset=offset,
        stream=stream,
        message_id=item.message_id,
        role=role,
        parts=parts,
        tokens=size_of(item),
        interrupted=isinstance(item, StepItem) and item.interrupted,
        pinned=item.message_id in marks.pinned,
        compaction_id=item.compaction_id if isinstance(item, SummaryItem) else None,
    )


def _said(
    item: Item,
) -> tuple[
    Literal["user", "system", "assistant", "tool", "summary"],
    tuple[InputPart | OutputPart | ToolResult, ...],
]:
    match item:
        case MessageItem():
            return item.role, item.parts
        case StepItem():
            return "assistant", tuple(spoken(part) for part in item.parts)
        case ReturnItem():
            return "tool", (result_of(item),)
        case SummaryItem():
            return "summary", (Text(text=packed(item)),)
