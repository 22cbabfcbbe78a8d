"""The facts of a conversation as the lines of a transcript."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from domain.agent import AgentSettings
from domain.block import BlockSettings
from domain.content import Content, OutputPart, Reasoning, Text, ToolCall
from domain.conversation import ConversationSettings, MessageAppended
from domain.event import Recorded
from domain.run import StepFinished, StepPart, StepStarted, ToolFinished
from projections.interchange import (
    AgentDescribed,
    BlockDescribed,
    Header,
    HeaderLine,
    InputLine,
    Line,
    ReplyLine,
    ReturnLine,
    has_image,
    reply_fields,
    telling,
)
from projections.items import spoken

# Lines are built without being checked: what has happened is not refused for its size.


@dataclass(slots=True)
class _Entry:
    """A line, and for a reply its calls' returns, which stand behind it in the calls' order."""

    line: Line
    calls: tuple[str, ...] = ()
    returns: dict[str, ReturnLine] = field(default_factory=dict[str, ReturnLine])

    @property
    def whole(self) -> bool:
        return len(self.returns) == len(set(self.calls))

    @property
    def lines(self) -> list[Line]:
        return [
            self.line,
            *(self.returns[one] for one in dict.fromkeys(self.calls) if one in self.returns),
        ]


class Transcript:
    """Folds a conversation's facts, in order, into its lines but for the header.

    Messages with `hidden` ids are left out. Approvals are none: who allowed a call is no message of
    the conversation.
    """

    def __init__(self, hidden: Collection[str] = ()) -> None:
        self._hidden = hidden
        self._steps: dict[int, Recorded[StepStarted]] = {}
        self._parts: dict[int, list[StepPart]] = {}
        self._replies: dict[int, _Entry] = {}
        self._waiting: deque[_Entry] = deque()

    def of(self, fact: Recorded[Any]) -> list[Line]:
        """Give the lines that are whole with this fact."""
        match fact.event:
            case MessageAppended() as event if event.approvals is None:
                self._add(event.message_id, _Entry(_input(fact, event)))
            case StepStarted():
                self._steps[fact.version] = fact
            case StepPart() as event if event.s in self._steps:
                self._parts.setdefault(event.s, []).append(event)
            case StepFinished() as event if event.s in self._steps:
                self._replied(event)
            case ToolFinished() as event if event.s in self._replies:
                self._returned(fact, event)
            case _:
                pass
        return [*self._flushed()]

    def rest(self) -> list[Line]:
        """Give the lines that are left at the end: from a reply on whose calls still wait."""
        left = [line for entry in self._waiting for line in entry.lines]
        self._waiting.clear()
        return left

    def _add(self, message_id: str, entry: _Entry) -> None:
        if message_id not in self._hidden:
            self._waiting.append(entry)

    def _replied(self, event: StepFinished) -> None:
        started = self._steps.pop(event.s)
        stored = self._parts.pop(event.s, [])
        cut = event.outcome == "interrupted"
        parts = telling([_said(one) for one in stored if one.call is None or not cut])
        if event.outcome == "failed" or not parts:
            return
        said = reply_fields(parts)
        if cut:
            said["status"] = "interrupted"
        at = started.event.said_at or started.at
        line = ReplyLine.model_construct(role="assistant", **said, date=at)
        entry = _Entry(line, tuple(part.id for part in parts if isinstance(part, ToolCall)))
        self._add(started.event.message_id, entry)
        if entry.calls and started.event.message_id not in self._hidden:
            self._replies[event.s] = entry

    def _returned(self, fact: Recorded[ToolFinished], event: ToolFinished) -> None:
        entry = self._replies[event.s]
        entry.returns[event.tool_call_id] = _return(fact, event)
        if entry.whole:
            del self._replies[event.s]

    def _flushed(self) -> Iterator[Line]:
        while self._waiting and self._waiting[0].whole:
            yield from self._waiting.popleft().lines


def _said(part: StepPart) -> OutputPart:
    """Give a part with nothing set that it has not."""
    if part.kind == "reasoning" and part.signature is None:
        return Reasoning(text=part.text or "")
    return spoken(part)


def _input(fact: Recorded[MessageAppended], event: MessageAppended) -> Line:
    at, content = event.said_at or fact.at, event.content or ""
    if event.role == "assistant":
        return ReplyLine.model_construct(role="assistant", **_words(content), date=at)
    role = "system" if event.role == "system" else "user"
    return InputLine.model_construct(role=role, content=content, date=at)


def _words(content: Content) -> dict[str, Any]:
    """Give the words of a model that came as a message; in parts only where there are pictures."""
    if isinstance(content, str) or has_image(content):
        return {"content": content}
    return {"content": "".join(part.text for part in content if isinstance(part, Text))}


def _return(fact: Recorded[ToolFinished], event: ToolFinished) -> ReturnLine:
    optional = {"stdout": event.stdout, "stderr": event.stderr}
    given: dict[str, Any] = {name: lines for name, lines in optional.items() if lines is not None}
    if event.status != "ok":
        given["status"] = event.status
    return ReturnLine.model_construct(
        role="tool",
        tool_call_id=event.tool_call_id,
        content=event.content,
        **given,
        date=event.said_at or fact.at,
    )


# --- the header -------------------------------------------------------------------------------


def header_of(
    conversation_id: str,
    agent_id: str,
    settings: ConversationSettings,
    agent: AgentDescribed | None,
) -> HeaderLine:
    """Give the line that a conversation begins with."""
    known = settings.model_dump(exclude_none=True)
    described = {} if agent is None else {"agent": agent}
    header = Header.model_construct(id=conversation_id, agent_id=agent_id, **described, **known)
    return HeaderLine.model_construct(conversation=header)


def described(settings: AgentSettings, blocks: list[BlockSettings]) -> AgentDescribed:
    """Give what of an agent goes into a file, its blocks' values among it."""
    wanted = AgentDescribed.model_fields.keys() & AgentSettings.model_fields.keys()
    known = _known(settings.model_dump(include=set(wanted)))
    if blocks:
        known["blocks"] = tuple(_block(one) for one in blocks)
    return AgentDescribed.model_construct(**known)


def _block(settings: BlockSettings) -> BlockDescribed:
    wanted = set(BlockDescribed.model_fields)
    return BlockDescribed.model_construct(**_known(settings.model_dump(include=wanted)))


def _known(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was not set."""
    return {name: value for name, value in values.items() if value not in (None, ())}
