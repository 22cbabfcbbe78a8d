"""Three tools by which a model works what was said into memory, offered for that alone.

They are those of a consolidation's own conversation: what they store is stored once for each call,
and what they write is a draft until the run is over.
"""

from typing import Any, Final, NamedTuple, Protocol, cast

from app.tools import Call, ToolFailed
from app.tools.arguments import whole_number
from domain.block import VALUE_CHARS_MAX
from domain.content import ToolSchema
from domain.run import OfferedTool
from projections.consolidation import FINISH, RETHINK, STORE, Line, told_of_stored
from projections.memories import serialize

CHUNKS_MAX: Final = 100
LINE_MAX: Final = 2**31
CONTEXT_CHARS_MAX: Final = 4_000


class Piece(NamedTuple):
    """Lines `first` to `last`, both included, and the memory that they are kept as."""

    first: int
    last: int
    text: str


class Work(Protocol):
    """What a consolidation has to do with, found by the conversation that a call is in."""

    async def lines(self, call: Call) -> tuple[Line, ...]:
        """Give the numbered lines. Raises ToolFailed if there is nothing to consolidate here."""
        ...

    async def keep(self, call: Call, number: int, piece: Piece) -> None:
        """Put a piece into the agent's archive, once for its lines. Raises ToolFailed."""
        ...

    async def chars_max(self, call: Call) -> int:
        """Give the number of characters that the block may hold. Raises ToolFailed."""
        ...

    async def reviewed(self, call: Call) -> bool:
        """Tell whether the lines have been gone through."""
        ...


class StoreMemories:
    """Puts pieces of the conversation into the archive."""

    idempotent = True
    schema = ToolSchema(
        name=STORE,
        description=(
            "Stores pieces of the conversation in the assistant's archive, where they can be found "
            "by their words. Call it once, with all pieces."
        ),
        parameters={
            "type": "object",
            "properties": {
                "chunks": {
                    "type": "array",
                    "maxItems": CHUNKS_MAX,
                    "items": {
                        "type": "object",
                        "properties": {
                            "start_index": {
                                "type": "integer",
                                "minimum": 0,
                                "description": "The number of the piece's first line.",
                            },
                            "end_index": {
                                "type": "integer",
                                "minimum": 0,
                                "description": "The number of its last line, which belongs to it.",
                            },
                            "context": {
                                "type": "string",
                                "maxLength": CONTEXT_CHARS_MAX,
                                "description": "What the piece is about, for whoever finds it.",
                            },
                        },
                        "required": ["start_index", "end_index", "context"],
                    },
                    "description": "The pieces, in the order of the conversation.",
                }
            },
            "required": ["chunks"],
        },
    )

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Store each piece that can be; a bad one is told of and harms no other."""
        chunks = arguments.get("chunks")
        if not isinstance(chunks, list):
            raise ToolFailed("chunks: a list is needed, empty if nothing is worth keeping")
        pieces = cast("list[Any]", chunks)
        if len(pieces) > CHUNKS_MAX:
            raise ToolFailed(f"chunks: at most {CHUNKS_MAX}, not {len(pieces)}")
        lines = await self._work.lines(call)
        problems: list[str] = []
        for number, chunk in enumerate(pieces):
            try:
                await self._work.keep(call, number, piece_of(chunk, lines))
            except ToolFailed as error:
                problems.append(f"Piece {number} was not stored: {error}")
        told = told_of_stored(len(pieces) - len(problems), len(pieces), problems)
        if problems and len(problems) == len(pieces):
            raise ToolFailed(told)
        return f"{told}\nNow bring the block up to date with `{RETHINK}`, then call `{FINISH}`."


def piece_of(chunk: Any, lines: tuple[Line, ...]) -> Piece:
    """Write a piece of the lines down as a memory. Raises ToolFailed for one that there is not."""
    if not isinstance(chunk, dict):
        raise ToolFailed("an object with start_index, end_index and context is needed")
    sent = cast("dict[str, Any]", chunk)
    first, last = (
        whole_number(sent, name, 0, LINE_MAX, bounds=" from 0")
        for name in ("start_index", "end_index")
    )
    if not first <= last < len(lines):
        raise ToolFailed(
            f"lines {first} to {last} are not a piece of [0] to [{len(lines) - 1}], the last "
            "line not before the first"
        )
    context = sent.get("context")
    if not isinstance(context, str) or len(context) > CONTEXT_CHARS_MAX:
        raise ToolFailed(f"context: a string of at most {CONTEXT_CHARS_MAX} characters is needed")
    try:
        text = serialize([line.said for line in lines[first : last + 1]], context)
    except ValueError as error:
        raise ToolFailed(str(error)) from None
    return Piece(first, last, text)


class RethinkMemory:
    """Drafts what the block is to hold."""

    idempotent = True
    schema = ToolSchema(
        name=RETHINK,
        description=(
            "Sets the whole text that the memory block is to hold from now on. Called again, the "
            "later text counts. What it leaves out is gone from the block."
        ),
        parameters={
            "type": "object",
            "properties": {
                "new_memory": {
                    "type": "string",
                    "description": "All that the block is to hold.",
                }
            },
            "required": ["new_memory"],
        },
    )

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Check that the draft can be kept; the call itself is what keeps it."""
        text = arguments.get("new_memory")
        if not isinstance(text, str):
            raise ToolFailed("new_memory: a string is needed")
        await _check_reviewed(self._work, call)
        most = min(await self._work.chars_max(call), VALUE_CHARS_MAX)
        if len(text) > most:
            raise ToolFailed(f"new_memory has {len(text)} characters, and the block holds {most}")
        if "\0" in text or not _encodable(text):
            raise ToolFailed("new_memory holds a character that cannot be kept")
        return (
            f"Noted: the block is to hold these {len(text)} of {most} characters. Call `{RETHINK}` "
            f"again to change them, or `{FINISH}` if they are as they should be."
        )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class FinishRethinking:
    """Ends the work: the run is over when it returns."""

    idempotent = True
    schema = ToolSchema(
        name=FINISH,
        description="Ends your work, when the memory is as it should be.",
        parameters={"type": "object", "properties": {}},
    )

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, arguments: dict[str, Any], call: Call) -> str:  # noqa: ARG002 - has none
        """Say so."""
        await _check_reviewed(self._work, call)
        return "The memory is as you left it."


async def _check_reviewed(work: Work, call: Call) -> None:
    if not await work.reviewed(call):
        raise ToolFailed(
            f"First store what is worth keeping with `{STORE}`, or call it with an empty list."
        )


SCHEMAS: Final = (StoreMemories.schema, RethinkMemory.schema, FinishRethinking.schema)
# As a run is offered them: all may be run again after a crash, and the last one ends it.
OFFERED: Final = tuple(
    OfferedTool(**schema.model_dump(exclude_none=True), idempotent=True, terminal=True)
    if schema.name == FINISH
    else OfferedTool(**schema.model_dump(exclude_none=True), idempotent=True)
    for schema in SCHEMAS
)
