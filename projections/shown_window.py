"""The window as people and programs see it: every part with where it came from."""

from typing import Literal

from domain.content import InputPart, OutputPart, Text, ToolResult
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

    A summary names its compaction.
    """

    offset: int
    message_id: str
    role: Literal["user", "system", "assistant", "tool", "summary"]
    parts: tuple[InputPart | OutputPart | ToolResult, ...]
    tokens: int
    interrupted: bool = False
    pinned: bool = False
    compaction_id: str | None = None


class WindowAnswer(Value):
    """A window, and where each part of it came from."""

    at: int
    system: WindowSystem | None
    summary: str | None
    messages: tuple[WindowMessage, ...]
    tokens: WindowTokens
    cutoff: int | None
    compaction_id: str | None


def shown(window: Window) -> WindowAnswer:
    """Give a window in the form of the API."""
    summary = window.summary
    return WindowAnswer(
        at=window.at,
        system=_shown_system(window.system),
        summary=None if summary is None else summary.summary,
        messages=tuple(_shown_item(item, window.marks.pinned) for item in window.items),
        tokens=tokens_of(window),
        cutoff=window.cutoff,
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


def _shown_item(item: Item, pinned: frozenset[str]) -> WindowMessage:
    role, parts = _said(item)
    return WindowMessage(
        offset=item.offset,
        message_id=item.message_id,
        role=role,
        parts=parts,
        tokens=size_of(item),
        interrupted=isinstance(item, StepItem) and item.interrupted,
        pinned=item.message_id in pinned,
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
