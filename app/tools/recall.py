"""Two tools by which a model finds again what has left its window.

They see the conversation that they are called in and no other, up to the call: run again after a
crash, they say the same.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Protocol, cast, get_args

from app.tools import Call, ToolFailed
from app.tools.arguments import whole_number
from domain.content import ToolSchema
from domain.streams import VERSION_MAX
from projections.search_answers import Item, Only, SearchAnswer
from projections.search_questions import QUESTION_CHARS_MAX
from projections.search_texts import Role

FOUND_DEFAULT, FOUND_MAX = 5, 20
NEIGHBOURS_DEFAULT, NEIGHBOURS_MAX = 2, 10
ROLES: Final = get_args(Role)
DATE: Final = "a date such as 2026-01-31, or a moment such as 2026-01-31T18:30:00Z"


class Past(Protocol):
    """What was said in conversations."""

    async def find(
        self, stream: str, query: str, *, limit: int, upto: int | None, only: Only
    ) -> SearchAnswer:
        """Give the texts that answer a query best."""
        ...

    async def around(
        self, stream: str, offset: int, *, before: int, after: int, upto: int | None
    ) -> tuple[Item, ...]:
        """Give what was said at an offset and around it."""
        ...


class ConversationSearch:
    """Searches the whole conversation."""

    idempotent = True
    schema = ToolSchema(
        name="conversation_search",
        description=(
            "Searches everything that was ever said in this conversation, also what you no longer "
            "see: messages, your own replies, tool calls and their returns. Gives the best matches "
            "with their offsets, which the tool `recall` takes. Words in double quotes must occur "
            "just so."
        ),
        parameters={
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "maxLength": QUESTION_CHARS_MAX,
                    "description": "What to look for: a few telling words, or a question.",
                },
                "roles": {
                    "type": "array",
                    "items": {"type": "string", "enum": list(ROLES)},
                    "description": "Only what these said; everybody if left out.",
                },
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": FOUND_MAX,
                    "description": f"How many matches to give; {FOUND_DEFAULT} if left out.",
                },
                "start_date": {
                    "type": "string",
                    "description": f"Only what was said on this day or later: {DATE}.",
                },
                "end_date": {
                    "type": "string",
                    "description": f"Only what was said on this day or earlier: {DATE}.",
                },
            },
            "required": ["query"],
        },
    )

    def __init__(self, past: Past) -> None:
        self._past = past

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Search."""
        query = arguments.get("query")
        if not isinstance(query, str) or not query.strip() or len(query) > QUESTION_CHARS_MAX:
            raise ToolFailed(f"query: a string of 1 to {QUESTION_CHARS_MAX} characters is needed")
        limit = whole_number(arguments, "limit", 1, FOUND_MAX, default=FOUND_DEFAULT)
        only = Only(_roles(arguments), _since(arguments), _until(arguments))
        answer = await self._past.find(
            call.conversation_id, query, limit=limit, upto=call.started_at, only=only
        )
        return "\n".join(_told(answer))


class Recall:
    """Reads the conversation around an offset."""

    idempotent = True
    schema = ToolSchema(
        name="recall",
        description=(
            "Reads what was said at an offset of this conversation, whole, with what was said just "
            "before and after it. Offsets come from the tool `conversation_search`; those of 0 and less "
            "are from before this conversation was forked from another one."
        ),
        parameters={
            "type": "object",
            "properties": {
                "offset": {
                    "type": "integer",
                    "description": "The offset to read at.",
                },
                "before": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": NEIGHBOURS_MAX,
                    "description": f"How many before it; {NEIGHBOURS_DEFAULT} if left out.",
                },
                "after": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": NEIGHBOURS_MAX,
                    "description": f"How many after it; {NEIGHBOURS_DEFAULT} if left out.",
                },
            },
            "required": ["offset"],
        },
    )

    def __init__(self, past: Past) -> None:
        self._past = past

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Read."""
        offset = whole_number(arguments, "offset", -VERSION_MAX, VERSION_MAX, bounds="")
        before = whole_number(arguments, "before", 0, NEIGHBOURS_MAX, default=NEIGHBOURS_DEFAULT)
        after = whole_number(arguments, "after", 0, NEIGHBOURS_MAX, default=NEIGHBOURS_DEFAULT)
        items = await self._past.around(
            call.conversation_id, offset, before=before, after=after, upto=call.started_at
        )
        if not items:
            raise ToolFailed(
                f"offset: nothing was said at {offset}; take one from conversation_search"
            )
        return "\n\n".join(map(_shown, items))


# --- arguments --------------------------------------------------------------------------------


def _roles(arguments: dict[str, Any]) -> frozenset[Role] | None:
    roles = arguments.get("roles")
    if roles is None or roles == []:
        return None
    if not isinstance(roles, list) or not all(one in ROLES for one in cast("list[Any]", roles)):
        raise ToolFailed(f"roles: a list of some of {', '.join(ROLES)} is needed")
    return frozenset(cast("list[Role]", roles))


def _since(arguments: dict[str, Any]) -> datetime | None:
    found = _moment(arguments, "start_date")
    return None if found is None else found[0]


def _until(arguments: dict[str, Any]) -> datetime | None:
    """Give the first moment after the end: a day ends with its last moment."""
    found = _moment(arguments, "end_date")
    try:
        return None if found is None else found[0] + found[1]
    except OverflowError:
        return None


def _moment(arguments: dict[str, Any], name: str) -> tuple[datetime, timedelta] | None:
    """Give when something begins and how long it lasts: a day, or an instant."""
    value = arguments.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ToolFailed(f"{name}: {DATE} is needed")
    try:
        return datetime.combine(date.fromisoformat(value), time(), UTC), timedelta(days=1)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ToolFailed(f"{name}: {DATE} is needed") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC), timedelta.resolution


# --- words ------------------------------------------------------------------------------------


def _told(answer: SearchAnswer) -> Iterator[str]:
    for one in answer.corrections:
        yield f"Nobody said {one.word!r}; searched for {one.instead!r} instead."
    if not answer.hits:
        yield "Nothing that was said matches."
    for hit in answer.hits:
        yield f"[offset {hit.place}, {_date(hit.at)}] {hit.role}: {hit.text}"


def _shown(item: Item) -> str:
    rest = f"\n(… {item.chars_left_out} more characters)" if item.chars_left_out else ""
    words = "\n".join(item.texts)
    return f"[offset {item.place}, {_date(item.at)}] {item.role}: {words}{rest}"


def _date(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
