"""Messages of all conversations of an agent, as one list in the order in which they were recorded.

Conversations are opened as the list comes to them: the newest first by what was said in them last,
the oldest first by their beginnings. So a page costs what it shows, however many there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, TypeAlias

from app.history.holders import LISTED_OR_FORKED, Holders
from app.history.pages import Page, first_since
from app.mapper import revive
from app.storage.store import VERSION_MAX, Store
from projections.columns import sortable
from projections.listing import LISTED
from projections.tables import UNFINISHED
from projections.wire import Message

# Conversations that are looked up at once.
STREAMS_AT_ONCE: Final = 100
# Between two moments that can be told apart.
TICK: Final = timedelta(microseconds=1)


class Place(NamedTuple):
    """Where a message is in the list: when it was recorded, and where."""

    at: str
    stream: str
    offset: int


BEGINNING: Final = Place("", "", 0)
# Text that comes after every moment.
END: Final = Place("9", "", VERSION_MAX)


@dataclass(frozen=True, slots=True)
class AgentPage:
    """Which messages of an agent: those between two places, `limit` of them, from one end."""

    agent_id: str
    after: Place = BEGINNING
    before: Place = END
    limit: int = 100
    newest_first: bool = True


Found: TypeAlias = list[tuple[Place, list[Message]]]


def place_at(store: Store, stream: str, offset: int) -> Place:
    """Give the place in the list of what is at an offset of a stream. Blocks."""
    (row,) = store.read(stream, after=offset - 1, upto=offset)
    return Place(sortable(revive(row).at), stream, offset)


def agent_messages_page(store: Store, page: AgentPage) -> list[Message]:
    """Give the items of up to `limit` messages of an agent in the page's order. Blocks."""
    if page.limit == 0:
        return []
    found: Found = []
    holders = Holders(store)
    for bound, stream in _streams(store, holders, page):
        # What is opened from here on has nothing beyond its bound.
        if len(found) == page.limit and _is_past(bound, found[-1][0].at, page):
            break
        found += _of_stream(store, holders, stream, page)
        found.sort(key=_place, reverse=page.newest_first)
        del found[page.limit :]
    return [item for _, items in found for item in items]


def _place(found: tuple[Place, list[Message]]) -> Place:
    return found[0]


def _is_past(bound: str, last: str, page: AgentPage) -> bool:
    return bound < last if page.newest_first else bound > last


# Where a run is not over, more may be said at any moment.
_SAID: Final = (
    "CASE WHEN EXISTS (SELECT 1 FROM runs WHERE runs.conversation_id = "  # noqa: S608 - our own words
    f"conversations.conversation_id AND {UNFINISHED}) THEN '9' "
    "ELSE coalesce(conversations.last_said_at, conversations.created_at) END"
)


def _streams(store: Store, holders: Holders, page: AgentPage) -> Iterator[tuple[str, str]]:
    """Name conversations in the page's order, each with the first moment that it may hold."""
    began = "conversations.created_at"
    column, way = (_SAID, "DESC") if page.newest_first else (began, "ASC")
    sql = (
        f"SELECT {column} AS bound, conversations.conversation_id FROM conversations "  # noqa: S608 - our own words
        f"WHERE agent_id = ? AND {LISTED_OR_FORKED} AND {began} <= ? AND {_SAID} >= ? "
        f"ORDER BY {column} {way}, conversations.conversation_id {way} LIMIT ? OFFSET ?"
    )
    start = 0
    while True:
        bounds = (page.agent_id, page.before.at, page.after.at, STREAMS_AT_ONCE, start)
        some: list[dict[str, Any]] = store.query(sql, bounds)
        holders.look_up([row["conversation_id"] for row in some])
        yield from ((row["bound"], row["conversation_id"]) for row in some)
        start += len(some)
        if len(some) < STREAMS_AT_ONCE:
            return


def _of_stream(store: Store, holders: Holders, stream: str, page: AgentPage) -> Found:
    """Read what of a page was said in one conversation, each message with its place."""
    bounds = Page(
        after=0 if page.after == BEGINNING else _last_upto(store, stream, page.after),
        before=VERSION_MAX if page.before == END else _first_from(store, stream, page.before),
        limit=page.limit,
        newest_first=page.newest_first,
    )
    placed = holders.page(stream, bounds)
    pieces = sorted((offset - 1, offset) for offset, _ in placed)
    rows = store.pieces(stream, pieces, LISTED)
    moments = {row.version: sortable(revive(row).at) for row in rows}
    return [(Place(moments[offset], stream, offset), items) for offset, items in placed]


def _last_upto(store: Store, stream: str, place: Place) -> int:
    """Give the last offset of a stream that is in the list at a place or before it."""
    if stream == place.stream:
        return place.offset
    return _offset(store, stream, place) - 1


def _first_from(store: Store, stream: str, place: Place) -> int:
    """Give the first offset of a stream that is in the list at a place or after it."""
    return place.offset if stream == place.stream else _offset(store, stream, place)


def _offset(store: Store, stream: str, place: Place) -> int:
    """Give a stream's first offset after a place in another one; at one moment ids decide."""
    moment = datetime.fromisoformat(place.at)
    if stream < place.stream:
        moment += TICK
    return first_since(store, stream, moment)
