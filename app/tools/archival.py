"""Two tools by which a model keeps what it wants to know later, and finds it again.

They work on the archive of the agent whose conversation they are called in. What a call has put in is
not put in again when it is run again after a crash.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, tzinfo
from typing import Any, Final, Protocol, TypeAlias, cast

from app.tools import Call, ToolFailed
from app.tools.arguments import whole_number
from domain.archive import TAG_CHARS_MAX, TAGS_MAX, TEXT_CHARS_MAX
from domain.content import ToolSchema
from domain.errors import Refused
from domain.run import Cause
from projections.passages import Found, Passage, TagMatch, Wanted, since_of, until_of
from projections.search_questions import QUESTION_CHARS_MAX

FOUND_DEFAULT, FOUND_MAX = 10, 50
# All that one answer may hold; what does not fit is left out of the last passage, and told.
ANSWER_CHARS_MAX: Final = 24_000
DATE: Final = "a date such as 2026-01-31, or a moment such as 2026-01-31T18:30:00Z"
TAG_LIST: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "string", "maxLength": TAG_CHARS_MAX},
    "maxItems": TAGS_MAX,
}
Read: TypeAlias = Callable[[str, tzinfo], datetime]


class Memory(Protocol):
    """The archive of the agent that a conversation belongs to."""

    async def insert_for(
        self, conversation_id: str, text: str, *, tags: Sequence[str], cause: Cause, key: str
    ) -> Passage:
        """Put a text in, once for each key. Raises Refused."""
        ...

    async def search_for(
        self, conversation_id: str, query: str, limit: int, wanted: Wanted
    ) -> Found:
        """Give the passages that answer a query best."""
        ...

    async def zone_for(self, conversation_id: str) -> tzinfo:
        """Give the agent's time zone."""
        ...


class ArchivalMemoryInsert:
    """Puts a text into the archive."""

    idempotent = True
    schema = ToolSchema(
        name="archival_memory_insert",
        description=(
            "Keeps a text in your archival memory, where you find it again with "
            "`archival_memory_search` in this and in any other conversation. Write it so that it "
            "can be understood by itself: names instead of pronouns, dates instead of 'today'."
        ),
        parameters={
            "type": "object",
            "properties": {
                "content": {
                    "type": "string",
                    "maxLength": TEXT_CHARS_MAX,
                    "description": "The text to keep.",
                },
                "tags": {
                    **TAG_LIST,
                    "description": "Words to sort it under; a search can be narrowed to them.",
                },
            },
            "required": ["content"],
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Keep it."""
        content = _text(arguments, "content", TEXT_CHARS_MAX)
        cause = Cause(stream=call.conversation_id, offset=call.started_at)
        try:
            passage = await self._memory.insert_for(
                call.conversation_id,
                content,
                tags=_tags(arguments),
                cause=cause,
                key=f"{call.conversation_id}/{call.message_id or call.started_at}",
            )
        except Refused as error:
            raise ToolFailed(str(error)) from error
        under = f" under {', '.join(passage.tags)}" if passage.tags else ""
        return f"Kept in archival memory{under} as {passage.passage_id}."


class ArchivalMemorySearch:
    """Searches the archive."""

    idempotent = True
    schema = ToolSchema(
        name="archival_memory_search",
        description=(
            "Searches your archival memory: what was kept there in this or in any other "
            "conversation. Gives the best matches with the time that each dates from. Words in "
            "double quotes must occur just so; an empty query gives the newest."
        ),
        parameters={
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "maxLength": QUESTION_CHARS_MAX,
                    "description": "What to look for: a few telling words, or a question.",
                },
                "tags": {**TAG_LIST, "description": "Only what was kept under these tags."},
                "tag_match_mode": {
                    "type": "string",
                    "enum": ["any", "all"],
                    "description": "Under any of the tags, or under all; any if left out.",
                },
                "top_k": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": FOUND_MAX,
                    "description": f"How many matches to give; {FOUND_DEFAULT} if left out.",
                },
                "start_datetime": {
                    "type": "string",
                    "description": f"Only what dates from then or later: {DATE}.",
                },
                "end_datetime": {
                    "type": "string",
                    "description": f"Only what dates from then or earlier: {DATE}.",
                },
            },
            "required": ["query"],
        },
    )

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Search."""
        query = arguments.get("query")
        if not isinstance(query, str) or len(query) > QUESTION_CHARS_MAX:
            raise ToolFailed(
                f"query: a string of at most {QUESTION_CHARS_MAX} characters is needed"
            )
        zone = await self._memory.zone_for(call.conversation_id)
        wanted = Wanted(
            tags=_tags(arguments),
            match=_match(arguments),
            since=_moment(arguments, "start_datetime", zone, since_of),
            until=_moment(arguments, "end_datetime", zone, until_of),
        )
        found = await self._memory.search_for(
            call.conversation_id,
            query,
            whole_number(arguments, "top_k", 1, FOUND_MAX, default=FOUND_DEFAULT),
            wanted,
        )
        return "\n".join(_told(found, zone))


# --- arguments --------------------------------------------------------------------------------


def _text(arguments: dict[str, Any], name: str, chars_max: int) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > chars_max:
        raise ToolFailed(f"{name}: a string of 1 to {chars_max} characters is needed")
    return value


def _tags(arguments: dict[str, Any]) -> list[str]:
    """Read tags; one by itself is a list of one."""
    value = arguments.get("tags")
    if value is None or value == "":
        return []
    tags = cast("list[Any]", value if isinstance(value, list) else [value])
    fit = all(isinstance(one, str) and 0 < len(one) <= TAG_CHARS_MAX for one in tags)
    if not fit or len(tags) > TAGS_MAX:
        raise ToolFailed(
            f"tags: a list of at most {TAGS_MAX} strings is needed, "
            f"each of 1 to {TAG_CHARS_MAX} characters"
        )
    return tags


def _match(arguments: dict[str, Any]) -> TagMatch:
    value = arguments.get("tag_match_mode") or "any"
    if value not in ("any", "all"):
        raise ToolFailed("tag_match_mode: it is any or all")
    return value


def _moment(arguments: dict[str, Any], name: str, zone: tzinfo, read: Read) -> datetime | None:
    value = arguments.get(name)
    if value is None or value == "":
        return None
    try:
        return read(value, zone)
    except (TypeError, ValueError, OverflowError):
        raise ToolFailed(f"{name}: {DATE} is needed") from None


# --- words ------------------------------------------------------------------------------------


def _told(found: Found, zone: tzinfo) -> Iterator[str]:
    for one in found.corrections:
        yield f"No passage has {one.word!r}; searched for {one.instead!r} instead."
    if not found.hits:
        yield "Nothing in archival memory matches."
    left = ANSWER_CHARS_MAX
    for number, hit in enumerate(found.hits):
        if left <= 0:
            yield f"(… {len(found.hits) - number} more; ask for something narrower)"
            return
        yield _line(hit.passage, zone, left)
        left -= len(hit.passage.text)


def _line(passage: Passage, zone: tzinfo, chars_max: int) -> str:
    at = passage.created_at.astimezone(zone).strftime("%Y-%m-%d %H:%M")
    tags = f", tags: {', '.join(passage.tags)}" if passage.tags else ""
    over = len(passage.text) - chars_max
    rest = f" (… {over} more characters)" if over > 0 else ""
    return f"[{at}{tags}] {passage.text[:chars_max]}{rest}"
