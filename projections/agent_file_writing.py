"""A conversation's facts as the messages of an agent's file.

Messages are in the order of the window: a summary that stands in it is where the model reads it. The
client's answer to calls that waited for it is told by their returns.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from domain.content import ToolCall
from domain.conversation import ConversationStarted, MessageAppended, WindowCompacted
from domain.event import Recorded
from domain.run import StepFinished, StepPart, StepStarted, ToolFinished
from domain.streams import otid_of, system_message_id
from projections.agent_file import MESSAGES_MAX
from projections.agent_file_parts import response_of, written, written_content
from projections.items import SummaryItem, spoken
from projections.summary import INTRODUCED
from projections.window import Window

Json: TypeAlias = dict[str, Any]
SUCCESS: Final = {"ok": "success"}


class TooLong(Exception):
    """A conversation with more messages than a file holds."""

    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"{conversation_id} has more than {MESSAGES_MAX} messages.")


@dataclass(slots=True)
class _Reply:
    """A step that has finished, and what its calls came to."""

    started: Recorded[StepStarted]
    parts: Sequence[StepPart]
    cut: bool
    returns: dict[str, Recorded[ToolFinished]] = field(
        default_factory=dict[str, Recorded[ToolFinished]]
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """A message at its place: before all of its offset, or there. `inside` the window, or not."""

    place: tuple[int, int]
    inside: bool
    message: Json | _Reply


class Messages:
    """Folds a conversation's facts, in order, into messages; those `hidden` are left out.

    `window` is what the model sees.
    """

    def __init__(self, window: Window, hidden: Collection[str]) -> None:
        self._hidden = hidden
        self._inside = {item.offset for item in window.items}
        summaries = (item for item in window.items if isinstance(item, SummaryItem))
        self._before = {item.offset: item.before for item in summaries}
        self._entries: list[_Entry] = []
        self._open: dict[int, tuple[Recorded[StepStarted], list[StepPart]]] = {}
        self._replies: dict[int, _Reply] = {}
        system = window.system
        self._system = "" if system is None else system.system.text

    def add(self, fact: Recorded[Any]) -> None:
        """Take a fact. Raises TooLong."""
        match fact.event:
            case ConversationStarted():
                self._put(fact.version, _system(fact, self._system), inside=True)
            case MessageAppended() as event if event.approvals is None:
                self._say(fact.version, event.message_id, _input(fact, event))
            case WindowCompacted() as event if event.summary:
                self._say(fact.version, event.summary_message_id, _summary(fact))
            case StepStarted():
                self._open[fact.version] = (fact, [])
            case StepPart() as event if event.s in self._open:
                self._open[event.s][1].append(event)
            case StepFinished() as event if event.s in self._open:
                self._finished(event)
            case ToolFinished() as event if event.s in self._replies:
                self._replies[event.s].returns[event.tool_call_id] = fact
            case _:
                pass
        if len(self._entries) > MESSAGES_MAX:
            raise TooLong(fact.stream)

    def written(self, first: int) -> tuple[list[Json], list[str]]:
        """Give the messages, numbered from `first`, and the ids of those in the window."""
        messages: list[Json] = []
        inside: list[str] = []
        for entry in sorted(self._entries, key=lambda one: one.place):
            for message in _spelled(entry.message):
                identity = f"message-{first + len(messages)}"
                messages.append({**message, "id": identity})
                if entry.inside:
                    inside.append(identity)
        return messages, inside

    def _say(self, offset: int, message_id: str, message: Json | _Reply) -> None:
        if message_id not in self._hidden:
            self._put(offset, message, inside=offset in self._inside)

    def _put(self, offset: int, message: Json | _Reply, *, inside: bool) -> None:
        before = self._before.get(offset)
        place = (offset, 0) if before is None else (before, -1)
        self._entries.append(_Entry(place, inside, message))

    def _finished(self, event: StepFinished) -> None:
        started, parts = self._open.pop(event.s)
        cut = event.outcome == "interrupted"
        kept = [one for one in parts if one.call is None or not cut]
        if event.outcome == "failed" or not kept:
            return
        self._replies[event.s] = reply = _Reply(started, kept, cut)
        self._say(event.s, started.event.message_id, reply)


# --- messages as they are spelled -------------------------------------------------------------


def _spelled(message: Json | _Reply) -> Iterator[Json]:
    """Give a message; a reply's calls are followed by the client's answer, and by their returns."""
    if not isinstance(message, _Reply):
        yield message
        return
    yield _replied(message)
    parts = (one.call for one in message.parts if one.call is not None)
    calls = [one for one in parts if one.id in message.returns]
    returns = [message.returns[one.id] for one in calls]
    if gated := [message.returns[one.id] for one in calls if one.gated]:
        yield _answer(gated)
    yield from map(_returned, returns)


def _message(role: str, at: datetime, **given: Any) -> Json:
    """Give a message with every field that the form has."""
    return {
        "type": "message",
        "id": "",
        "role": role,
        "content": [],
        "otid": None,
        "name": None,
        "sender_id": None,
        "group_id": None,
        "batch_item_id": None,
        "model": None,
        "agent_id": "agent-0",
        "tool_calls": None,
        "tool_call_id": None,
        "tool_returns": [],
        "approve": None,
        "approval_request_id": None,
        "denial_reason": None,
        "approvals": [],
        "created_at": at.isoformat(),
        **given,
    }


def _system(fact: Recorded[ConversationStarted], text: str) -> Json:
    otid = otid_of(system_message_id(fact.stream), 0)
    return _message("system", fact.at, content=written_content(text), otid=otid)


def _input(fact: Recorded[MessageAppended], event: MessageAppended) -> Json:
    content = written_content(event.content or "")
    return _message(event.role, event.said_at or fact.at, content=content, otid=event.otid)


def _summary(fact: Recorded[WindowCompacted]) -> Json:
    """Give a summary in the form that the model gets, without what is about this log alone."""
    said = f"The following is a {INTRODUCED}\n {fact.event.summary}"
    told = {"type": "system_alert", "message": said}
    content = written_content(json.dumps(told, ensure_ascii=False))
    otid = otid_of(fact.event.summary_message_id, 0)
    return _message("user", fact.at, content=content, otid=otid)


def _replied(reply: _Reply) -> Json:
    event, at = reply.started.event, reply.started.event.said_at or reply.started.at
    said = [spoken(part) for part in reply.parts]
    calls = [_call(part) for part in said if isinstance(part, ToolCall)]
    gated = [part.call.name for part in reply.parts if part.call is not None and part.call.gated]
    given: Json = {"content": written(said), "otid": otid_of(event.message_id, 0)}
    if calls:
        given |= {"tool_calls": calls, "tool_call_id": calls[0]["id"]}
    if reply.cut:
        given["everlog"] = {"interrupted": True}
    elif gated and len(gated) < len(calls):
        given["everlog"] = {"gated": list(dict.fromkeys(gated))}
    return _message("approval" if gated else "assistant", at, **given)


def _call(part: ToolCall) -> Json:
    called = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": called}


def _answer(returns: Iterable[Recorded[ToolFinished]]) -> Json:
    """Give what the client said to calls that waited for it, as their returns show it."""
    facts = list(returns)
    last = facts[-1]
    at = last.event.said_at or last.at
    return _message("approval", at, approvals=[_word(one.event) for one in facts])


def _word(event: ToolFinished) -> Json:
    match event.source, event.status:
        case _, "denied":
            approve = False
        case "server", _:
            approve = True
        case _:
            return _came_to(event)
    return {
        "type": "approval",
        "tool_call_id": event.tool_call_id,
        "approve": approve,
        "reason": None,
    }


def _came_to(event: ToolFinished) -> Json:
    return {
        "tool_call_id": event.tool_call_id,
        "status": SUCCESS.get(event.status, "error"),
        "stdout": None if event.stdout is None else list(event.stdout),
        "stderr": None if event.stderr is None else list(event.stderr),
        "func_response": response_of(event.content),
    }


def _returned(fact: Recorded[ToolFinished]) -> Json:
    event = fact.event
    given: Json = {"tool_call_id": event.tool_call_id, "tool_returns": [_came_to(event)]}
    if event.status not in ("ok", "error"):
        given["everlog"] = {"status": event.status}
    otid = otid_of(event.message_id, 0)
    return _message("tool", event.said_at or fact.at, otid=otid, **given)
