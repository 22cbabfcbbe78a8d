"""A transcript of a window's items in plain text, which nothing said in it can break out of.

Who speaks stands at the margin, one line, ending in a colon; all that was said is indented below it.
So words that look like another speaker's line stay indented, and are somebody's words.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, assert_never

from domain.content import Image, InputPart, Text, ToolCall, UrlSource
from projections.items import Item, MessageItem, ReturnItem, StepItem, SummaryItem, spoken

INDENT: Final = "  "
NAME_CHARS_MAX: Final = 128
URL_CHARS_MAX: Final = 500
CODE_CHARS: Final = 16
# Of a budget in bytes: what a cut keeps of the beginning, and as much of the end (contract 8.5).
CUT_SHARE: Final = 0.3
CUT_SPEAKER: Final = "cut"

_SPEAKER: Final = re.compile(r"^(\S.*):$")
_NOT_IN_NAMES: Final = re.compile(r"[^\w.-]+")
_BEGINS: Final = re.compile(r"^=== transcript ([0-9a-f]{16}) begins ===$", re.MULTILINE)


class Entry(NamedTuple):
    """What one speaker said at one go. A speaker is a role, or a role and what it does."""

    speaker: str
    text: str


# --- writing ----------------------------------------------------------------------------------


def transcript_of(items: Iterable[Item], return_chars_max: int | None = None) -> str:
    """Write down a window's items, in order; what a tool returned at most so many characters of.

    Reasoning is left out: nobody but the model has heard it.
    """
    entries = (entry for item in items for entry in entries_in(item, return_chars_max))
    return written(entries)


def written(entries: Iterable[Entry]) -> str:
    """Write entries down: the speaker at the margin, the words indented."""
    return "\n".join(line for entry in entries for line in _lines(entry))


def _lines(entry: Entry) -> Iterator[str]:
    yield f"{entry.speaker}:"
    # Whatever some reader takes for the end of a line is one.
    for line in entry.text.splitlines():
        yield INDENT + line


def entries_in(item: Item, return_chars_max: int | None = None) -> Iterator[Entry]:
    """Give what is said in one item of a window: who says it, and the words."""
    match item:
        case MessageItem():
            yield Entry(item.role, _words(item.parts))
        case StepItem():
            yield from _replied(item)
        case ReturnItem():
            words = _clamped(_words(item.parts), return_chars_max)
            yield Entry(f"tool {_name(item.name)} returns ({item.status})", words)
        case SummaryItem():
            yield Entry("earlier summary", item.summary)
        case _:
            assert_never(item)


def _replied(item: StepItem) -> Iterator[Entry]:
    """Write a reply down as the model is shown it: an interrupted one made no calls."""
    speaker = "assistant (interrupted)" if item.interrupted else "assistant"
    for part in map(spoken, item.parts):
        if isinstance(part, Text):
            yield Entry(speaker, part.text)
        elif isinstance(part, ToolCall) and not item.interrupted:
            yield Entry(f"assistant calls {_name(part.name)}", part.arguments)


def _name(name: str) -> str:
    """Give a tool's name as one word: names come from clients, and stand at the margin."""
    return _NOT_IN_NAMES.sub("_", name)[:NAME_CHARS_MAX] or "_"


def _words(parts: Iterable[InputPart]) -> str:
    return "\n".join(part.text if isinstance(part, Text) else _picture(part) for part in parts)


def _picture(image: Image) -> str:
    source = image.source
    if isinstance(source, UrlSource):
        return f"[a picture: {source.url[:URL_CHARS_MAX]}]"
    return f"[a picture: {source.media_type[:NAME_CHARS_MAX]}]"


def _clamped(text: str, chars_max: int | None) -> str:
    if chars_max is None or len(text) <= chars_max:
        return text
    return f"{text[:chars_max]}\n[Cut here: {chars_max} of {len(text)} characters are shown.]"


# --- reading ----------------------------------------------------------------------------------


def entries_of(transcript: str) -> list[Entry]:
    """Read a transcript back: who said what, in order. What precedes the first speaker is no one's."""
    said: list[tuple[str, list[str]]] = []
    for line in transcript.split("\n"):
        speaker = _SPEAKER.match(line)
        if speaker is not None:
            said.append((speaker[1], []))
        elif said:
            said[-1][1].append(line.removeprefix(INDENT))
    return [Entry(speaker, "\n".join(lines)) for speaker, lines in said]


# --- cutting ----------------------------------------------------------------------------------


def middle_cut(text: str, bytes_max: int) -> str:
    """Keep the beginning and the end of a transcript that is larger than a budget of bytes.

    Each is 30 % of the budget, in whole characters; a line of nobody's stands for the rest, and the
    half line that may follow it is indented, so that it cannot pass for a speaker's.
    """
    whole = text.encode()
    if len(whole) <= bytes_max:
        return text
    kept = int(max(bytes_max, 0) * CUT_SHARE)
    head = whole[:kept].decode(errors="ignore")
    tail = whole[len(whole) - kept :].decode(errors="ignore")
    begins_a_line = text[-len(tail) - 1 : -len(tail)] == "\n"
    gone = len(whole) - len(head.encode()) - len(tail.encode())
    note = f"\n{CUT_SPEAKER}:\n{INDENT}[{gone} bytes of the middle are left out here.]\n"
    cut = f"{head}{note}{'' if begins_a_line else INDENT}{tail}"
    # A budget too small even for the note is for nothing but the beginning.
    return cut if len(cut.encode()) <= bytes_max else head


# --- fencing ----------------------------------------------------------------------------------


def fenced(text: str, what: str = "transcript") -> str:
    """Put a text between two lines with a code that does not occur in it.

    The code depends on every character between the lines, so nobody who is quoted there can know it.
    """
    code = _code(text)
    while code in text:
        code = _code(code)
    return f"=== {what} {code} begins ===\n{text}\n{_ending(code, what)}"


def unfenced(text: str) -> str | None:
    """Give what a text holds between the two lines of a fence, None if it has no fence."""
    begins = _BEGINS.search(text)
    if begins is None:
        return None
    # From the end of the first line on, so that a transcript of nothing has an end, too.
    ends = text.find(f"\n{_ending(begins[1])}", begins.end())
    return None if ends < 0 else text[begins.end() + 1 : ends]


def _ending(code: str, what: str = "transcript") -> str:
    return f"=== {what} {code} ends ==="


def _code(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:CODE_CHARS]
