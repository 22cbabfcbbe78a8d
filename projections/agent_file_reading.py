"""The messages of an agent's file as what was said elsewhere, and which of it had left the window.

A call's return may come late, and with the client's answer or without it: it goes to its call. What
cannot be taken is named with its place, never passed over in silence.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias, cast

from domain.content import Image, InputPart, OutputPart, Text, ToolCall, text_of
from domain.conversation import SaidMessage, SaidReply, SaidReturn, denial_of
from projections.agent_file import (
    CALLS_MAX,
    BadFile,
    FileAnswer,
    FileMessage,
    FileReturn,
    check_known,
    check_unique,
)
from projections.agent_file_parts import LeftOut, Part, content_in, parts_in, plain
from projections.interchange import telling
from projections.parts import stored_parts
from projections.summary import summary_in

Said: TypeAlias = SaidMessage | SaidReply


@dataclass(frozen=True, slots=True)
class Told:
    """What was said in a conversation, in order.

    `evicted` are the places of what was not in the window any more; `summary` stood for it just
    before place `before`. `unreturned` calls had no return.
    """

    said: tuple[Said, ...] = ()
    evicted: frozenset[int] = frozenset()
    summary: str = ""
    before: int | None = None
    unreturned: int = 0


def told_by(
    messages: Sequence[FileMessage],
    window_ids: Sequence[str] | None,
    place: str,
    left_out: LeftOut,
) -> Told:
    """Read a conversation. `window_ids` None: all of it is in the window. Raises BadFile."""
    ids = [one.id for one in messages]
    check_unique(f"{place}.messages", "id", ids)
    check_known(f"{place}.in_context_message_ids", window_ids or (), ids)
    reader = _Reader(messages, ids if window_ids is None else window_ids, place, left_out)
    for n, message in enumerate(messages):
        reader.take(f"{place}.messages[{n}]", message)
    return reader.done()


@dataclass(slots=True)
class _Reply:
    """A reply with calls, whose returns may still come; `answered` came with the client's answer."""

    said: SaidReply
    calls: tuple[str, ...] = ()
    returns: dict[str, SaidReturn] = field(default_factory=dict[str, SaidReturn])
    answered: dict[str, SaidReturn] = field(default_factory=dict[str, SaidReturn])
    approved: set[str] = field(default_factory=set[str])
    denied: set[str] = field(default_factory=set[str])

    def whole(self) -> SaidReply:
        """Give it with its returns; a tool's own message wins over the client's answer."""
        known = {**self.answered, **self.returns}
        returns = tuple(self._judged(known[one]) for one in self.calls if one in known)
        return replace(self.said, returns=returns)

    def _judged(self, returned: SaidReturn) -> SaidReturn:
        if returned.tool_call_id in self.denied:
            return replace(returned, status="denied")
        by_server = returned.tool_call_id in self.approved
        return replace(returned, source="server") if by_server else returned


class _Reader:
    """Puts messages together: `_entries` are what was said, replies while they may still change."""

    def __init__(
        self,
        messages: Sequence[FileMessage],
        inside: Sequence[str],
        place: str,
        left_out: LeftOut,
    ) -> None:
        self._place, self._left_out = place, left_out
        self._inside = frozenset(inside)
        by_id = {one.id: one for one in messages}
        window = [by_id[one] for one in inside]
        self._prompt = _prompt_of(window) or _prompt_of(messages)
        self._summary_id, self._summary = "", ""
        if len(window) < len(messages):
            self._summary_id, self._summary = _summary_of(window)
        self._before: int | None = None
        self._entries: list[SaidMessage | _Reply] = []
        self._evicted: set[int] = set()
        self._calls: dict[str, _Reply] = {}

    def take(self, place: str, message: FileMessage) -> None:
        """Take a message; the system prompt is compiled anew, so the old one is none."""
        if message.id == self._prompt:
            return
        if message.id == self._summary_id:
            self._before = len(self._entries)
        elif message.role == "tool":
            self._returned(place, message)
        elif message.role == "approval" and message.approvals:
            self._answered(place, message.approvals, message.created_at)
        elif message.role in ("assistant", "approval"):
            self._put(message, self._reply(place, message))
        else:
            self._put(message, self._input(place, message))

    def done(self) -> Told:
        """Give all of it."""
        said = tuple(one if isinstance(one, SaidMessage) else one.whole() for one in self._entries)
        calls = sum(len(one.calls) for one in self._entries if isinstance(one, _Reply))
        unreturned = calls - sum(len(one.returns) for one in said if isinstance(one, SaidReply))
        if unreturned:
            words = f"{unreturned} tool calls have no return; each is closed with one that says so"
            self._left_out.add(f"{self._place}.messages", words)
        evicted = frozenset(self._evicted)
        return Told(said, evicted, self._summary, self._before, unreturned)

    # --- a message ------------------------------------------------------------------------

    def _put(self, message: FileMessage, entry: SaidMessage | _Reply) -> None:
        if message.id not in self._inside:
            self._evicted.add(len(self._entries))
        self._entries.append(entry)

    def _input(self, place: str, message: FileMessage) -> SaidMessage:
        content = content_in(f"{place}.content", message.content, self._left_out)
        role = "system" if message.role == "system" else "user"
        return SaidMessage(role, content, message.created_at, message.otid)

    def _reply(self, place: str, message: FileMessage) -> SaidMessage | _Reply:
        """Take a model's words as a message, and as a step if it thought, called or broke off."""
        parts = self._parts(place, message)
        interrupted = message.remarks.interrupted
        if not interrupted and all(isinstance(one, Text | Image) for one in parts):
            content = plain(cast("list[InputPart]", parts))
            return SaidMessage("assistant", content, message.created_at, message.otid)
        outputs: list[OutputPart] = [one for one in parts if not isinstance(one, Image)]
        if len(outputs) < len(parts):
            self._left_out.add(place, "a picture in a reply that thought or called tools")
        calls = tuple(one for one in outputs if isinstance(one, ToolCall))
        _check(place, outputs, calls)
        stored = stored_parts(0, outputs or [Text(text="")], _gated(message, calls))
        said = SaidReply(stored, (), interrupted, message.created_at)
        reply = _Reply(said, () if interrupted else tuple(one.id for one in calls))
        self._calls |= dict.fromkeys(reply.calls, reply)
        return reply

    def _parts(self, place: str, message: FileMessage) -> list[Part]:
        said = parts_in(f"{place}.content", message.content, self._left_out)
        called = (
            ToolCall(id=one.id, name=one.function.name, arguments=one.function.arguments)
            for one in message.tool_calls or ()
        )
        return [*telling((*said, *called))]

    # --- returns --------------------------------------------------------------------------

    def _returned(self, place: str, message: FileMessage) -> None:
        """Take what tools gave back; older files have it as the message's content."""
        older = FileReturn(tool_call_id=message.tool_call_id, func_response=message.content)
        for one in message.tool_returns or (older,):
            name = one.tool_call_id or ""
            reply = self._calls.get(name)
            if reply is None:
                self._left_out.add(place, f"a return of {name!r}, which no reply before it calls")
            elif name in reply.returns:
                self._left_out.add(place, f"a second return of {name!r}")
            else:
                returned = self._return(place, one, message.created_at)
                status = message.remarks.status or returned.status
                reply.returns[name] = replace(returned, status=status)

    def _answered(self, place: str, answers: Iterable[FileAnswer], at: datetime | None) -> None:
        for one in answers:
            name = one.tool_call_id or ""
            reply = self._calls.get(name)
            if reply is None:
                self._left_out.add(place, f"an answer to {name!r}, which no reply before it calls")
            elif one.approve is None:
                reply.answered[name] = self._return(place, one, at)
            elif one.approve:
                reply.approved.add(name)
            else:
                reply.denied.add(name)
                reply.answered[name] = SaidReturn(name, denial_of(one.reason), said_at=at)

    def _return(self, place: str, one: FileReturn, at: datetime | None) -> SaidReturn:
        return SaidReturn(
            one.tool_call_id or "",
            content_in(f"{place}.func_response", one.func_response, self._left_out),
            "ok" if one.status == "success" else "error",
            at,
            one.stdout or None,
            one.stderr or None,
        )


def _gated(message: FileMessage, calls: Sequence[ToolCall]) -> Collection[str]:
    """Name the tools whose calls waited for the client: all of them, unless it is said which."""
    if message.role != "approval":
        return ()
    named = message.remarks.gated
    return [one.name for one in calls] if named is None else named


def _check(place: str, parts: Sequence[OutputPart], calls: Sequence[ToolCall]) -> None:
    """Check that an append can take a reply. Raises BadFile."""
    if len(parts) > CALLS_MAX:
        raise BadFile(place, f"a reply has at most {CALLS_MAX} parts, not {len(parts)}")
    check_unique(f"{place}.tool_calls", "id", [one.id for one in calls])


def _prompt_of(messages: Sequence[FileMessage]) -> str | None:
    """Name the message that is the compiled system prompt: the first, if it is the system's."""
    return messages[0].id if messages and messages[0].role == "system" else None


def _summary_of(window: Sequence[FileMessage]) -> tuple[str, str]:
    """Find the summary of what has left the window: the message's id, and its words."""
    for message in window:
        if message.role in ("summary", "user"):
            words = text_of(content_in("", message.content, LeftOut()))
            found = summary_in(words)
            if found is None and message.role == "summary":
                found = words
            if found:
                return message.id, found
    return "", ""
