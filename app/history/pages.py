"""Pages of a conversation's messages, read backwards or forwards from a cursor.

A page reads only the facts around it: a conversation's length does not matter.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeAlias

from app.mapper import Row, revive
from app.storage.lineages import BEGINNING, Chain
from app.storage.store import VERSION_MAX, Store
from domain.conversation import Lineage
from domain.event import Recorded
from projections.listing import LISTED, left_out, messages_of
from projections.marks import marks_of
from projections.wire import Message

# Ids of messages that lists leave out.
Hidden: TypeAlias = frozenset[str]
# Where a conversation begins, with its system prompt.
BEGIN: Final = 1
# Facts a message takes: a turn's user message and reply have four of their own, its run three more.
FACTS_PER_MESSAGE: Final = 4
CHUNK_MIN: Final = 32


@dataclass(frozen=True, slots=True)
class Page:
    """Which messages: those between two places, `limit` of them, from one end.

    Of a fork all are listed, its prompt before what it inherited, or only its `own`.
    """

    after: int = BEGINNING
    before: int = VERSION_MAX
    limit: int = 100
    newest_first: bool = True
    own: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """What lists show: nothing of `hidden`, after a reset nothing up to place `reset`.

    The system prompt is there in any case, as it is now, at place `begin`.
    """

    hidden: Hidden = frozenset()
    reset: int = BEGINNING
    prompt: str | None = None
    begin: int = BEGIN

    def shown(self, place: int, items: list[Message]) -> list[Message]:
        """Give a message as it is to be shown."""
        if place != self.begin or self.prompt is None:
            return items
        if items[0]["message_type"] != "system_message":
            return items
        return [{**items[0], "content": self.prompt}]


def messages_page(store: Store, stream: str, page: Page) -> list[Message]:
    """Give the items of up to `limit` messages in the page's order.

    A message's place is that of its fact, a step's that of its `step.started`; a fork's begin with
    those that it inherited. Blocks, so it runs in a reader's thread.
    """
    return [item for _, items in placed_page(store, stream, page) for item in items]


def placed_page(store: Store, stream: str, page: Page) -> list[tuple[int, list[Message]]]:
    """Give up to `limit` messages in the page's order, each with its place. Blocks."""
    if page.limit == 0:
        return []
    chain = Chain.of(store, stream)
    return page_in(chain, listed_in(chain), page)


def page_in(chain: Chain, listed: Listed, page: Page) -> list[tuple[int, list[Message]]]:
    """Give a page of a conversation of which is known what lists show. Blocks."""
    if not page.own:
        listed = replace(listed, begin=begin_of(chain.lineage))
    return (_newest if page.newest_first else _oldest)(chain, page, listed)


def begin_of(lineage: Lineage) -> int:
    """Give the place at which lists show the prompt: a fork's before all that it inherited."""
    return lineage.beginning if lineage.ancestors else BEGIN


def listed_in(chain: Chain) -> Listed:
    """Tell what lists of a conversation show. Blocks."""
    marks = marks_of(map(chain.fact, chain.marked()))
    hidden = left_out(marks) | chain.inherited_prompts
    reset = BEGINNING if marks.unlisted is None else marks.unlisted
    return Listed(hidden, reset, None if marks.system is None else marks.system.system.text)


Placed: TypeAlias = list[tuple[int, list[Message]]]


def _oldest(chain: Chain, page: Page, listed: Listed) -> Placed:
    chunk = max(CHUNK_MIN, page.limit * FACTS_PER_MESSAGE)
    facts = _beginning(chain, page, listed)
    cursor = max(page.after, listed.reset)
    while True:
        rows = chain.read(after=cursor, limit=chunk)
        facts += _revived(chain, rows, listed)
        found = _between(facts, page, listed)
        if len(found) >= page.limit or len(rows) < chunk or _past(chain.place(rows[-1]), page):
            return found[: page.limit]
        cursor = chain.place(rows[-1])


def _newest(chain: Chain, page: Page, listed: Listed) -> Placed:
    """Read backwards in chunks until the page is full, or the beginning is reached.

    A step of which a chunk holds only the end is not counted before its beginning is read.
    """
    chunk = max(CHUNK_MIN, page.limit * FACTS_PER_MESSAGE)
    upto = page.before - 1
    after = max(page.after, listed.reset)
    facts: list[Recorded[Any]] = []
    while True:
        rows = chain.read(after=after, upto=upto, limit=chunk, newest_first=True)
        facts = [*_revived(chain, reversed(rows), listed), *facts]
        if len(rows) < chunk:
            facts = [*_beginning(chain, page, listed), *facts]
        found = _between(facts, page, listed)
        if len(found) >= page.limit or len(rows) < chunk:
            return [(place, items[::-1]) for place, items in reversed(found[-page.limit :])]
        upto = chain.place(rows[-1]) - 1


def _beginning(chain: Chain, page: Page, listed: Listed) -> list[Recorded[Any]]:
    """Give the fact that a conversation began with, where it is not read in its turn."""
    apart = listed.reset >= BEGIN or listed.begin != BEGIN
    if not apart or page.after >= listed.begin:
        return []
    return [replace(chain.fact(chain.at(BEGIN)), version=listed.begin)]


def _revived(chain: Chain, rows: Iterable[Row], listed: Listed) -> list[Recorded[Any]]:
    facts = [chain.fact(row) for row in rows if row.topic in LISTED]
    return [fact for fact in facts if fact.version != BEGIN or listed.begin == BEGIN]


def _between(facts: list[Recorded[Any]], page: Page, listed: Listed) -> Placed:
    return [
        (place, listed.shown(place, items))
        for place, items in messages_of(facts, listed.hidden)
        if page.after < place < page.before
    ]


def _past(place: int, page: Page) -> bool:
    return place >= page.before and page.before < VERSION_MAX


def first_since(store: Store, stream: str, moment: datetime) -> int:
    """Give the first offset recorded at or after a moment; one past the end if there is none.

    A binary search: times in a stream do not go back, as one writer's clock gives them.
    """
    head = store.head(stream)
    low, high = 1, (head[0] if head else 0) + 1
    while low < high:
        middle = (low + high) // 2
        row = store.read(stream, after=middle - 1, limit=1)[0]
        if revive(row).at < moment:
            low = middle + 1
        else:
            high = middle
    return low
