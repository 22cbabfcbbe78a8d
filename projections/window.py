"""The window: what the model would see at an offset, folded from the stream and from nothing else.

Items are appended messages and finished steps; deltas, waiting messages, superseded and failed
steps are never in it. An item's place is the offset of its fact, a step's that of `step.started`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from domain.content import (
    InputPart,
    OutputPart,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    ToolResult,
    parts_of,
)
from domain.conversation import (
    ConversationStarted,
    MessageAppended,
    System,
    WindowRolledBack,
)
from domain.event import Recorded, Value
from domain.run import (
    CalledTool,
    RunFinished,
    Span,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
    ToolStatus,
    Usage,
)
from domain.streams import system_message_id
from projections.tokens import estimate


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
    """A model's reply."""

    offset: int
    message_id: str
    parts: tuple[StepPart, ...]
    interrupted: bool
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class ReturnItem:
    """What a tool call of step `s` came to. It follows the step, in the order of the calls."""

    offset: int
    message_id: str
    s: int
    tool_call_id: str
    name: str
    status: ToolStatus
    parts: tuple[InputPart, ...]


Item: TypeAlias = MessageItem | StepItem | ReturnItem


@dataclass(frozen=True, slots=True)
class OpenStep:
    """A step that is under way: it becomes an item when it finishes."""

    offset: int
    run_id: str
    message_id: str
    parts: tuple[StepPart, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """The window at offset `at`: the fold's state and its result in one."""

    at: int = 0
    system: SystemAt | None = None
    items: tuple[Item, ...] = ()
    open_steps: Mapping[int, OpenStep] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def cutoff(self) -> int | None:
        """The offset of the first item, None while there is none."""
        return self.items[0].offset if self.items else None

    @property
    def pending(self) -> tuple[CalledTool, ...]:
        """The calls of the newest step that have no return."""
        step = next((one for _, one in _backwards(self.items) if isinstance(one, StepItem)), None)
        if step is None or step.interrupted:
            return ()
        returned = {
            one.tool_call_id
            for one in self.items
            if isinstance(one, ReturnItem) and one.s == step.offset
        }
        calls = (part.call for part in step.parts if part.call is not None)
        return tuple(call for call in calls if call.id not in returned)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The offsets within which every visible item is in the window."""
        if not self.items:
            return ()
        offsets = [item.offset for item in self.items]
        return (Span(first=min(offsets), last=max(offsets)),)


def window_of(facts: Iterable[Recorded[Any]]) -> Window:
    """Fold a conversation's facts, in order, from the first."""
    window = Window()
    for fact in facts:
        window = evolve(window, fact)
    return window


def evolve(window: Window, fact: Recorded[Any]) -> Window:
    """Give the window after `fact`."""
    window = replace(window, at=fact.version)
    match fact.event:
        case ConversationStarted() as event:
            message_id = system_message_id(fact.stream)
            return replace(window, system=SystemAt(fact.version, message_id, event.system))
        case MessageAppended() as event if event.role != "approval":
            return replace(window, items=(*window.items, _message(fact.version, event)))
        case StepStarted() as event:
            opened = OpenStep(fact.version, event.run_id, event.message_id)
            return _with_step(window, opened)
        case StepPart() as event if event.s in window.open_steps:
            step = window.open_steps[event.s]
            return _with_step(window, replace(step, parts=(*step.parts, event)))
        case StepFinished() as event if event.s in window.open_steps:
            return _finished(window, event)
        case ToolFinished() as event:
            return _returned(window, fact.version, event)
        case WindowRolledBack() as event:
            kept = (one for one in window.items if one.message_id not in event.message_ids)
            return replace(window, items=tuple(kept))
        case StepSuperseded() as event:
            return _without_steps(window, lambda step: step.offset == event.s)
        case RunFinished() as event:
            return _without_steps(window, lambda step: step.run_id == event.run_id)
        case _:
            return window


def _message(offset: int, event: MessageAppended) -> MessageItem:
    role = "user" if event.role == "approval" else event.role
    return MessageItem(offset, event.message_id, role, parts_of(event.content or ""))


def _with_step(window: Window, step: OpenStep) -> Window:
    return replace(window, open_steps=MappingProxyType({**window.open_steps, step.offset: step}))


def _without_steps(window: Window, gone: Callable[[OpenStep], bool]) -> Window:
    kept = {s: step for s, step in window.open_steps.items() if not gone(step)}
    return replace(window, open_steps=MappingProxyType(kept))


def _finished(window: Window, event: StepFinished) -> Window:
    step = window.open_steps[event.s]
    closed = _without_steps(window, lambda one: one.offset == event.s)
    if event.outcome == "failed" or not step.parts:
        return closed
    item = StepItem(
        step.offset, step.message_id, step.parts, event.outcome == "interrupted", event.usage
    )
    return replace(closed, items=(*closed.items, item))


def _returned(window: Window, offset: int, event: ToolFinished) -> Window:
    """Put a return behind its step, in the order of the calls; one without its step is nothing."""
    place = next((n for n, one in _backwards(window.items) if one.offset == event.s), None)
    step = None if place is None else window.items[place]
    if place is None or not isinstance(step, StepItem):
        return window
    order = [part.call.id for part in step.parts if part.call is not None]
    item = ReturnItem(
        offset,
        event.message_id,
        event.s,
        event.tool_call_id,
        event.name,
        event.status,
        parts_of(event.content),
    )
    place += 1
    while place < len(window.items):
        other = window.items[place]
        if not isinstance(other, ReturnItem) or other.s != event.s:
            break
        if order.index(other.tool_call_id) > order.index(event.tool_call_id):
            break
        place += 1
    return replace(window, items=(*window.items[:place], item, *window.items[place:]))


def _backwards(items: tuple[Item, ...]) -> Iterable[tuple[int, Item]]:
    return ((n, items[n]) for n in reversed(range(len(items))))


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


# --- as people and programs see it ------------------------------------------------------------


class WindowSystem(Value):
    """The system prompt in a window: its text, where it is stored, what it was compiled from."""

    offset: int
    message_id: str
    text: str
    agent_version: int
    blocks: dict[str, tuple[str, int]]


class WindowMessage(Value):
    """A message in a window, with the offset it comes from."""

    offset: int
    message_id: str
    role: Literal["user", "system", "assistant", "tool"]
    parts: tuple[InputPart | OutputPart | ToolResult, ...]
    interrupted: bool = False


class WindowTokens(Value):
    """Tokens by part, estimated; `total` starts from what the vendor reported, if it did."""

    system: int
    summary: int
    messages: int
    total: int
    reported: int | None
    reported_at: int | None


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
    messages = tuple(_shown_item(item) for item in window.items)
    return WindowAnswer(
        at=window.at,
        system=_shown_system(window.system),
        summary=None,
        messages=messages,
        tokens=tokens_of(window),
        cutoff=window.cutoff,
        compaction_id=None,
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


def result_of(item: ReturnItem) -> ToolResult:
    """Give a return as content."""
    words = [part.text for part in item.parts if isinstance(part, Text)]
    content = "".join(words) if len(words) == len(item.parts) else item.parts
    return ToolResult(tool_call_id=item.tool_call_id, content=content, status=item.status)


def _shown_item(item: Item) -> WindowMessage:
    if isinstance(item, ReturnItem):
        return WindowMessage(
            offset=item.offset, message_id=item.message_id, role="tool", parts=(result_of(item),)
        )
    if isinstance(item, MessageItem):
        return WindowMessage(
            offset=item.offset, message_id=item.message_id, role=item.role, parts=item.parts
        )
    return WindowMessage(
        offset=item.offset,
        message_id=item.message_id,
        role="assistant",
        parts=tuple(spoken(part) for part in item.parts),
        interrupted=item.interrupted,
    )


def tokens_of(window: Window) -> WindowTokens:
    """Count a window: the newest reported usage is the truth, what came after it is estimated."""
    system = 0 if window.system is None else estimate(window.system.system.text)
    sizes = [_estimated(item) for item in window.items]
    newest = next(
        (n for n in reversed(range(len(window.items))) if _reported(window.items[n]) is not None),
        None,
    )
    reported = None if newest is None else _reported(window.items[newest])
    after = sum(sizes if newest is None else sizes[newest + 1 :])
    return WindowTokens(
        system=system,
        summary=0,
        messages=sum(sizes),
        total=after + (system if reported is None else reported),
        reported=reported,
        reported_at=None if newest is None else window.items[newest].offset,
    )


def _reported(item: Item) -> int | None:
    if not isinstance(item, StepItem) or item.usage is None:
        return None
    return item.usage.input_tokens + item.usage.output_tokens


def _estimated(item: Item) -> int:
    if not isinstance(item, StepItem):
        return sum(estimate(part.text) for part in item.parts if isinstance(part, Text))
    return sum(
        estimate(part.text or "" if part.call is None else part.call.arguments)
        for part in item.parts
    )
