"""Reads a file of conversations (projections/transcript.py), each checked whole before it is given.

What is wrong is told with its line, and the rest of that conversation is passed over; the next one
is read again from its header.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final, TypeAlias, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from app.model_settings import ModelSettings
from domain.content import Content, Image, OutputPart, Text, ToolCall
from domain.conversation import (
    IMPORTED_MESSAGES_MAX,
    SaidMessage,
    SaidReply,
    SaidReturn,
    messages_in,
)
from projections.interchange import (
    AS_PARTS,
    AS_TEXT,
    PARTS_MAX,
    Header,
    HeaderLine,
    InputLine,
    Line,
    ReplyLine,
    ReplyPart,
    ReturnLine,
    has_image,
    parts_in,
)
from projections.parts import stored_parts

LINE_BYTES_MAX: Final = 10 * 1024 * 1024
# A conversation is held in memory until all of it is known to be good.
CONVERSATION_BYTES_MAX: Final = 256 * 1024 * 1024
CONVERSATION_MESSAGES_MAX: Final = 1_000_000
BATCH_BYTES_MAX: Final = 256 * 1024
PROBLEM_CHARS_MAX: Final = 300

Said: TypeAlias = SaidMessage | SaidReply


class _WithSettings(BaseModel):
    """What has settings of a model."""

    model_config = ConfigDict(protected_namespaces=())

    model_settings: ModelSettings | None = None


class _HeaderSettings(_WithSettings):
    """Those of a conversation, and of the agent that it describes."""

    agent: _WithSettings | None = None


class SettingsLine(BaseModel):
    """A header line once more, for the settings in it: their digest is that of what stands there."""

    conversation: _HeaderSettings


Shape = TypeVar("Shape", bound=HeaderLine | SettingsLine | Line)
SHAPES: Final[dict[str, type[Line]]] = {
    "user": InputLine,
    "system": InputLine,
    "assistant": ReplyLine,
    "tool": ReturnLine,
}
_SAID: Final[TypeAdapter[Said]] = TypeAdapter(Said)


class BadLine(Exception):
    """A line that cannot be taken in: its number in the file, and what is wrong in words."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"{number}: {problem}")
        self.number = number
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Batch:
    """What one append takes in, its size in the file, and a digest of its meaning."""

    said: tuple[Said, ...]
    messages: int
    bytes: int
    sha256: str


@dataclass(slots=True)
class Told:
    """A conversation as a file tells it; `line` is its header's, `unreturned` calls had no return."""

    line: int
    header: Header
    batches: list[Batch] = field(default_factory=list[Batch])
    messages: int = 0
    unreturned: int = 0
    bytes: int = 0
    sha256: str = ""


def told_in(file: BinaryIO) -> Iterator[Told | BadLine]:
    """Give the conversations of a file in order, and in the place of a bad one what is wrong."""
    reader = _Reader()
    number = 0
    while line := file.readline(LINE_BYTES_MAX + 1):
        number += 1
        whole = len(line) <= LINE_BYTES_MAX
        while not line.endswith(b"\n") and (rest := file.readline(LINE_BYTES_MAX + 1)):
            line = rest
        yield from reader.take(number, line if whole else None)
    yield from reader.end(number)


# --- from lines to conversations ----------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """A reply whose calls may still get their returns, and the lines of those that have."""

    line: ReplyLine
    parts: tuple[ReplyPart, ...]
    size: int
    returns: dict[str, tuple[int, ReturnLine]] = field(
        default_factory=dict[str, tuple[int, ReturnLine]]
    )

    @property
    def calls(self) -> list[str]:
        return [part.id for part in self.parts if isinstance(part, ToolCall)]


class _Reader:
    """Puts lines together; a conversation with a bad line is told once and passed over."""

    def __init__(self) -> None:
        self._told: Told | None = None
        self._bad = False
        self._open: _Open | None = None
        self._batch = Gathered()
        self._digest = hashlib.sha256()

    def take(self, number: int, line: bytes | None) -> Iterator[Told | BadLine]:
        try:
            value = _object_in(number, line)
            if value is not None and "conversation" in value:
                yield from self._finished()
                self._bad = False
                header = _shape_of(number, HeaderLine, value).conversation
                _shape_of(number, SettingsLine, value)
                self._begin(number, header)
            elif value is not None and not self._bad:
                self._add(number, _shape_of(number, _kind_of(number, value), value), line or b"")
        except BadLine as bad:
            if not self._bad:
                yield bad
            self._told, self._open, self._bad = None, None, True
            self._batch = Gathered()

    def _begin(self, number: int, header: Header) -> None:
        self._told = Told(number, header)
        self._digest = hashlib.sha256(header.model_dump_json(exclude_none=True).encode())

    def end(self, number: int) -> Iterator[Told | BadLine]:
        if self._told is None and not self._bad:
            yield BadLine(number, f"conversation: {NO_HEADER}")
        yield from self._finished()

    def _finished(self) -> Iterator[Told]:
        if self._told is None:
            return
        self._close()
        self._told.batches += self._batch.rest()
        self._told.sha256 = self._digest.hexdigest()
        yield self._told
        self._told = None

    def _add(self, number: int, line: Line, raw: bytes) -> None:
        told = self._told
        if told is None:
            raise BadLine(number, f"conversation: {NO_HEADER}")
        size = len(raw)
        told.messages, told.bytes = told.messages + 1, told.bytes + size
        if told.messages > CONVERSATION_MESSAGES_MAX:
            raise BadLine(
                number, f"a conversation has at most {CONVERSATION_MESSAGES_MAX} messages"
            )
        if told.bytes > CONVERSATION_BYTES_MAX:
            raise BadLine(number, f"a conversation has at most {CONVERSATION_BYTES_MAX} bytes")
        if isinstance(line, ReturnLine):
            self._return(number, line, size)
            return
        self._close()
        if isinstance(line, InputLine):
            self._put(SaidMessage(line.role, line.content, line.date), 1, size)
        else:
            self._reply(number, line, size)

    def _put(self, said: Said, lines: int, size: int) -> None:
        if self._told is None:
            return
        spelled = spelled_out(said)
        self._digest.update(spelled)
        self._told.batches += self._batch.add(said, lines, size, spelled)

    def _reply(self, number: int, line: ReplyLine, size: int) -> None:
        parts = parts_in(line)
        _check_parts(number, line, parts)
        only = parts[0] if len(parts) == 1 else None
        if has_image(parts) or (isinstance(only, Text) and line.status != "interrupted"):
            content: Content = only.text if isinstance(only, Text) else cast("Any", parts)
            self._put(SaidMessage("assistant", content, line.date), 1, size)
            return
        self._open = _Open(line, parts, size)

    def _return(self, number: int, line: ReturnLine, size: int) -> None:
        opened = self._open
        name = line.tool_call_id
        if opened is None or name not in opened.calls:
            raise BadLine(number, f"tool_call_id: no call {name!r} in a reply just before it")
        if name in opened.returns:
            first = opened.returns[name][0]
            raise BadLine(number, f"tool_call_id: {name!r} has its return in line {first}")
        opened.returns[name] = (number, line)
        opened.size += size

    def _close(self) -> None:
        """Take in a reply: what comes next is no return of its calls."""
        opened, self._open = self._open, None
        if opened is None or self._told is None:
            return
        calls = opened.calls
        self._told.unreturned += len(calls) - len(opened.returns)
        returns = (opened.returns[one][1] for one in calls if one in opened.returns)
        said = SaidReply(
            stored_parts(0, cast("tuple[OutputPart, ...]", opened.parts)),
            tuple(map(_said_return, returns)),
            opened.line.status == "interrupted",
            opened.line.date,
        )
        self._put(said, 1 + len(opened.returns), opened.size)


def spelled_out(said: Said) -> bytes:
    """Spell what was said, so that its digest is that of its meaning."""
    return _SAID.dump_json(said, exclude_none=True) + b"\n"


class Gathered:
    """Gathers what was said until it is enough for an append; a reply and its returns are one."""

    def __init__(self) -> None:
        self._said: list[Said] = []
        self._weight = self._lines = self._bytes = 0
        self._digest = hashlib.sha256()

    def add(self, said: Said, lines: int, size: int, spelled: bytes) -> Iterator[Batch]:
        """Take what was said in `lines` lines of `size` bytes; give a batch if one is full."""
        weight = messages_in(said)
        full = self._weight + weight > IMPORTED_MESSAGES_MAX
        if full or self._bytes + size > BATCH_BYTES_MAX:
            yield from self.rest()
        self._said.append(said)
        self._weight += weight
        self._lines += lines
        self._bytes += size
        self._digest.update(spelled)

    def rest(self) -> Iterator[Batch]:
        """Give what is left, and begin anew."""
        if self._said:
            said, sha256 = tuple(self._said), self._digest.hexdigest()
            yield Batch(said, self._lines, self._bytes, sha256)
        self._said = []
        self._weight = self._lines = self._bytes = 0
        self._digest = hashlib.sha256()


def _said_return(line: ReturnLine) -> SaidReturn:
    return SaidReturn(
        line.tool_call_id,
        line.content,
        line.status or "ok",
        line.date,
        line.stdout,
        line.stderr,
    )


def _check_parts(number: int, line: ReplyLine, parts: tuple[ReplyPart, ...]) -> None:
    """Check what is a matter of several fields. Raises BadLine."""
    if not parts:
        raise BadLine(number, "content: a reply has words, reasoning or tool_calls")
    if len(parts) > PARTS_MAX and not has_image(parts):
        raise BadLine(number, f"content: a reply has at most {PARTS_MAX} parts, not {len(parts)}")
    calls = [part.id for part in parts if isinstance(part, ToolCall)]
    twice = next((one for one in calls if calls.count(one) > 1), None)
    if twice is not None:
        raise BadLine(number, f"tool_calls: {twice!r} stands twice")
    if calls and line.status == "interrupted":
        raise BadLine(number, "tool_calls: a reply that was interrupted has none")
    plain = line.status != "interrupted" and all(isinstance(one, Text | Image) for one in parts)
    if has_image(parts) and not plain:
        raise BadLine(
            number, "content: a reply with images has no reasoning, calls or interruption"
        )


# --- from a line to its shape -------------------------------------------------------------------

NO_HEADER: Final = 'a conversation begins with a line {"conversation": {…}}'


def _object_in(number: int, line: bytes | None) -> dict[str, Any] | None:
    """Parse a line, None if there is nothing in it. Raises BadLine; `line` None is too large."""
    if line is None:
        raise BadLine(number, f"the line is larger than {LINE_BYTES_MAX} bytes")
    if not line.strip():
        return None
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise BadLine(number, f"not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise BadLine(number, "not an object")
    return cast("dict[str, Any]", value)


def _kind_of(number: int, value: dict[str, Any]) -> type[Line]:
    role = value.get("role")
    shape = SHAPES.get(role) if isinstance(role, str) else None
    if shape is None:
        raise BadLine(number, _short(f"role: must be one of {', '.join(SHAPES)}, not {role!r}"))
    return shape


def _shape_of(number: int, kind: type[Shape], value: dict[str, Any]) -> Shape:
    """Check a line's fields. Raises BadLine."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise BadLine(number, problem_of(error)) from error


def problem_of(error: ValidationError) -> str:
    """Name the first field that is wrong, and its bound."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    words = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        words = "there is no such field"
    return _short(f"{_path_of(first['loc'])}: {words[:1].lower()}{words[1:]}")


def _path_of(loc: tuple[int | str, ...]) -> str:
    """Spell a field's place, without the names that pydantic gives to members of unions."""
    path, before = "", None
    for one in loc:
        in_parts = isinstance(before, int) and path.startswith(("content", "reasoning"))
        if isinstance(one, int):
            path += f"[{one}]"
        elif one not in (AS_TEXT, AS_PARTS) and not in_parts and before != "source":
            path += f".{one}" if path else one
        before = one
    return path


def _short(words: str) -> str:
    return words if len(words) <= PROBLEM_CHARS_MAX else words[:PROBLEM_CHARS_MAX] + "…"
