"""Pages of a conversation's messages, read backwards or forwards from a cursor.

A page reads only the facts around it: a conversation's length does not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from app.mapper import Row, revive
from app.store import VERSION_MAX, Store
from domain.event import Recorded
from projections.listing import LISTED, messages_of, unlisted
from projections.wire import Message

# Ids of messages that lists leave out.
Hidden: TypeAlias = frozenset[str]
# Facts a message takes: a turn's user message and reply have four of their own, its run three more.
FACTS_PER_MESSAGE: Final = 4
CHUNK_MIN: Final = 32


@dataclass(frozen=True, slots=True)
class Page:
    """Which messages: those between two places, `limit` of them, from one end."""

    after: int = 0
    before: int = VERSION_MAX
    limit: int = 100
    newest_first: bool = True


def messages_page(store: Store, stream: str, page: Page) -> list[Message]:
    """Give the items of up to `limit` messages in the page's order.

    A message's place is the offset of its fact, a step's that of its `step.started`. Blocks, so it
    runs in a reader's thread.
    """
    if page.limit == 0:
        return []
    hidden = hidden_in(store, stream)
    found = (_newest if page.newest_first else _oldest)(store, stream, page, hidden)
    return [item for items in found for item in items]


def hidden_in(store: Store, stream: str) -> Hidden:
    """Name the messages of a stream that lists leave out. Blocks."""
    return unlisted(map(revive, store.marked(stream)))


def _oldest(store: Store, stream: str, page: Page, hidden: Hidden) -> list[list[Message]]:
    chunk = max(CHUNK_MIN, page.limit * FACTS_PER_MESSAGE)
    facts: list[Recorded[Any]] = []
    cursor = page.after
    while True:
        rows = store.read(stream, after=cursor, limit=chunk, deltas=False)
        facts += _revived(rows)
        found = _between(facts, page, hidden)
        if len(found) >= page.limit or len(rows) < chunk or _past(rows, page):
            return [items for _, items in found[: page.limit]]
        cursor = rows[-1].version


def _newest(store: Store, stream: str, page: Page, hidden: Hidden) -> list[list[Message]]:
    """Read backwards in chunks until the page is full, or the beginning is reached.

    A step of which a chunk holds only the end is not counted before its beginning is read.
    """
    chunk = max(CHUNK_MIN, page.limit * FACTS_PER_MESSAGE)
    upto = page.before - 1
    facts: list[Recorded[Any]] = []
    while True:
        rows = store.read(
            stream, after=page.after, upto=upto, limit=chunk, deltas=False, newest_first=True
        )
        facts = [*_revived(reversed(rows)), *facts]
        found = _between(facts, page, hidden)
        if len(found) >= page.limit or len(rows) < chunk:
            return [list(reversed(items)) for _, items in reversed(found[-page.limit :])]
        upto = rows[-1].version - 1


def _revived(rows: Iterable[Row]) -> list[Recorded[Any]]:
    return [revive(row) for row in rows if row.topic in LISTED]


def _between(
    facts: list[Recorded[Any]], page: Page, hidden: Hidden
) -> list[tuple[int, list[Message]]]:
    return [
        (place, items)
        for place, items in messages_of(facts, hidden)
        if page.after < place < page.before
    ]


def _past(rows: list[Row], page: Page) -> bool:
    return bool(rows) and rows[-1].version >= page.before and page.before < VERSION_MAX
