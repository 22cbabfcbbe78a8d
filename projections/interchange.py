"""A conversation as lines of JSON: what was said, without how it came about.

A file is JSON Lines in UTF-8, one conversation after the other. Each begins with its header, all of
whose fields may be left out; then come its messages in order, in the shape that programs for
language models exchange:

    {"conversation": {"id": …, "agent_id": …, "agent": {"name": …, "model": …}, "summary": …}}
    {"role": "user" | "system", "content": words or parts, "date": …}
    {"role": "assistant", "content": words or parts, "reasoning": …, "tool_calls": […], "date": …}
    {"role": "tool", "tool_call_id": …, "content": words or parts, "status": …, "date": …}

A call is `{"id", "name", "arguments"}`. The returns of a reply's calls follow it at once, in any
order; a call without one is closed as `unknown`. `reasoning` is a text or parts with signatures.
`status` of a return is `ok` unless it is said to be `error`, `denied`, `cancelled` or `unknown`;
that of a reply may be `interrupted`. `date` is as in RFC 3339; where there is none, it is the
moment of the import. A field that is not known is an error.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

import orjson
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from domain.content import (
    Image,
    InputPart,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
)
from domain.event import Value
from domain.run import ToolStatus
from domain.streams import AGENT, pattern_of

# A part's otid has 7 bits for its place.
PARTS_MAX: Final = 128
INPUT_PARTS_MAX: Final = 1000
DEPTH_MAX: Final = 64
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")

AS_TEXT: Final = "as text"
AS_PARTS: Final = "as parts"


# --- fields -----------------------------------------------------------------------------------


def _moment(value: object) -> object:
    """Read a moment; only one with its distance from UTC is one."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or _RFC_3339.fullmatch(value) is None:
        raise ValueError("must be a moment as in RFC 3339, such as 2024-05-31T16:20:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment between the years 1 and 9999 in UTC") from error


def _shallow(value: dict[str, Any]) -> dict[str, Any]:
    """Check that a document does not nest so deep that it could not be written again."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [inner for one in level for inner in _inside(one)]
    if level:
        raise ValueError(f"must nest no deeper than {DEPTH_MAX} levels")
    return value


def _inside(value: object) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _spelled(value: object) -> object:
    """Spell arguments that came as a document: a model writes them as JSON text."""
    if not isinstance(value, dict):
        return value
    return orjson.dumps(_shallow(cast("dict[str, Any]", value))).decode()


def _form(value: object) -> str:
    return AS_TEXT if isinstance(value, str) else AS_PARTS


Moment: TypeAlias = Annotated[datetime, BeforeValidator(_moment)]
Document: TypeAlias = Annotated[dict[str, Any], AfterValidator(_shallow)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=256)]
Words: TypeAlias = Annotated[str, Field(max_length=64 * 1024)]
Printed: TypeAlias = Annotated[tuple[str, ...], Field(max_length=1000)]
ReplyPart: TypeAlias = Annotated[
    Text | Image | Reasoning | Redacted | ToolCall, Field(discriminator="type")
]
Thought: TypeAlias = Annotated[Reasoning | Redacted, Field(discriminator="type")]
InputParts: TypeAlias = Annotated[
    tuple[InputPart, ...], Field(min_length=1, max_length=INPUT_PARTS_MAX)
]
ReplyParts: TypeAlias = Annotated[
    tuple[ReplyPart, ...], Field(min_length=1, max_length=INPUT_PARTS_MAX)
]
Thoughts: TypeAlias = Annotated[tuple[Thought, ...], Field(max_length=PARTS_MAX)]
InputContent: TypeAlias = Annotated[
    Annotated[str, Tag(AS_TEXT)] | Annotated[InputParts, Tag(AS_PARTS)], Discriminator(_form)
]
ReplyContent: TypeAlias = Annotated[
    Annotated[str, Tag(AS_TEXT)] | Annotated[ReplyParts, Tag(AS_PARTS)], Discriminator(_form)
]
ReasoningContent: TypeAlias = Annotated[
    Annotated[str, Tag(AS_TEXT)] | Annotated[Thoughts, Tag(AS_PARTS)], Discriminator(_form)
]


# --- lines ------------------------------------------------------------------------------------


class BlockDescribed(Value):
    """A memory block of an agent."""

    label: Name
    value: Annotated[str, Field(max_length=1024 * 1024)] = ""
    description: Words | None = None
    limit: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    read_only: bool | None = None


class AgentDescribed(Value):
    """An agent, to be made where there is none. `model` is a handle, provider/name."""

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    model: Annotated[str, Field(max_length=256, pattern="^[^/]+/.+$")]
    system: Annotated[str, Field(max_length=1024 * 1024)] | None = None
    description: Words | None = None
    tags: Annotated[tuple[Name, ...], Field(max_length=128)] | None = None
    metadata: Document | None = None
    timezone: Name | None = None
    context_window_limit: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    model_settings: Document | None = None
    tools: Annotated[tuple[Name, ...], Field(max_length=128)] | None = None
    approval_tools: Annotated[tuple[Name, ...], Field(max_length=128)] | None = None
    terminal_tools: Annotated[tuple[Name, ...], Field(max_length=128)] | None = None
    blocks: Annotated[tuple[BlockDescribed, ...], Field(max_length=64)] | None = None


class Header(Value):
    """Whose conversation it is and how it is set up. Without an `id` it is known by its content."""

    id: Name | None = None
    agent_id: Annotated[str, Field(pattern=pattern_of(AGENT))] | None = None
    agent: AgentDescribed | None = None
    summary: Words | None = None
    description: Words | None = None
    model: Annotated[str, Field(max_length=256, pattern="^[^/]+/.+$")] | None = None
    model_settings: Document | None = None
    context_window_limit: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    hidden: bool | None = None


class HeaderLine(Value):
    """The line that a conversation begins with."""

    conversation: Header


class InputLine(Value):
    """What was said to the model: by a user, or as a note in the role `system`."""

    role: Literal["user", "system"]
    content: InputContent
    date: Moment | None = None


class Call(Value):
    """A tool call; `arguments` are JSON text, or a document that is spelled as such."""

    id: Name
    name: Name
    arguments: Annotated[str, BeforeValidator(_spelled)] = "{}"

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """Take a call as some write it: its name and arguments one level down."""
        match value:
            case {"type": "function", "function": {**called}, **others}:
                return {**others, **called}
            case _:
                return value


class ReplyLine(Value):
    """What a model said: its reasoning, then its words, then its calls.

    Where they came in another order, `content` holds all of them as parts.
    """

    role: Literal["assistant"]
    content: ReplyContent | None = None
    reasoning: ReasoningContent | None = None
    tool_calls: Annotated[tuple[Call, ...], Field(max_length=PARTS_MAX)] | None = None
    status: Literal["ok", "interrupted"] | None = None
    date: Moment | None = None


class ReturnLine(Value):
    """What a call of the reply before it came to."""

    role: Literal["tool"]
    tool_call_id: Name
    content: InputContent
    status: ToolStatus | None = None
    stdout: Printed | None = None
    stderr: Printed | None = None
    date: Moment | None = None


Line: TypeAlias = InputLine | ReplyLine | ReturnLine


def spelled(line: HeaderLine | Line) -> bytes:
    """Give a line as it stands in a file."""
    return orjson.dumps(line.model_dump(mode="json", exclude_unset=True)) + b"\n"


# --- replies ----------------------------------------------------------------------------------


def parts_in(line: ReplyLine) -> tuple[ReplyPart, ...]:
    """Give a reply's parts in order."""
    thoughts, words = line.reasoning or (), line.content
    if isinstance(thoughts, str):
        thoughts = (Reasoning(text=thoughts),)
    if isinstance(words, str):
        words = (Text(text=words),)
    calls = (
        ToolCall(id=one.id, name=one.name, arguments=one.arguments) for one in line.tool_calls or ()
    )
    return telling((*thoughts, *(words or ()), *calls))


def telling(parts: Sequence[ReplyPart]) -> tuple[ReplyPart, ...]:
    """Leave out parts that say nothing, unless there are no others."""
    kept = tuple(part for part in parts if not _is_empty(part))
    return kept or tuple(parts[:1])


def _is_empty(part: ReplyPart) -> bool:
    match part:
        case Text() | Reasoning(signature=None):
            return part.text == ""
        case _:
            return False


def reply_fields(parts: Sequence[ReplyPart]) -> dict[str, Any]:
    """Give the fields of a line that say these parts, in the short form where their order allows."""
    thoughts = [part for part in parts if isinstance(part, Reasoning | Redacted)]
    words = [part for part in parts if isinstance(part, Text | Image)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    if [*thoughts, *words, *calls] != [*parts] or len(words) > 1 or has_image(words):
        return {"content": tuple(parts)}
    said: dict[str, Any] = {}
    if thoughts:
        said["reasoning"] = _short(thoughts)
    if words:
        said["content"] = cast("Text", words[0]).text
    if calls:
        said["tool_calls"] = tuple(
            Call.model_construct(id=one.id, name=one.name, arguments=one.arguments) for one in calls
        )
    return said


def has_image(parts: Sequence[Any]) -> bool:
    """Tell whether there is a picture among these."""
    return any(isinstance(part, Image) for part in parts)


def _short(thoughts: list[Reasoning | Redacted]) -> str | tuple[Thought, ...]:
    match thoughts:
        case [Reasoning(signature=None) as only]:
            return only.text
        case _:
            return tuple(thoughts)
