"""Finding again what was said in a conversation, and reading around it.

A search reads a list of numbers for each word, and the texts of its hits: not the conversation. A fork
is searched with what it inherited; what is found there has a place of 0 or less.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from app.history.pages import Listed, listed_in
from app.log import Log
from app.ranking import VOCABULARY_CHARS_MAX, VOCABULARY_TEXTS_MAX, Ranking, ranking_of
from app.storage.lineages import BEGINNING, Chain
from app.storage.store import VERSION_MAX
from projections.search_answers import ANY, Hit, Item, Only, SearchAnswer
from projections.search_questions import Question
from projections.search_ranks import Posting
from projections.search_words import excerpt_of, has_phrase

EXCERPT_CHARS_MAX: Final = 400
READ_AT_ONCE: Final = 100
ITEM_CHARS_MAX: Final = 4_000
# A step's words and calls; what it has more of is not read again.
TEXTS_PER_ITEM: Final = 8


class Search:
    """Looks for words in conversations."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def find(
        self, stream: str, query: str, *, limit: int = 10, upto: int | None = None, only: Only = ANY
    ) -> SearchAnswer:
        """Give the texts up to an offset that answer a query best, one of each item.

        Any query will do: one without words finds nothing. Raises StoreUnavailable.
        """
        return await self._log.in_reader(lambda: self._past(stream, upto).find(query, limit, only))

    async def around(
        self, stream: str, offset: int, *, before: int = 2, after: int = 2, upto: int | None = None
    ) -> tuple[Item, ...]:
        """Give what was said at an offset, and the items before and after it, in order.

        Nothing, if nothing was said there. Raises StoreUnavailable.
        """
        return await self._log.in_reader(
            lambda: self._past(stream, upto).around(offset, before, after)
        )

    def _past(self, stream: str, upto: int | None) -> "_Past":
        return _Past(Chain.of(self._log.store, stream), VERSION_MAX if upto is None else upto)


@dataclass(frozen=True, slots=True)
class _Texts:
    """The texts of a conversation and of what it inherited, as they are ranked.

    What is gone does not count for its neighbours either, nor for what a word may have meant.
    """

    chain: Chain
    gone: "Gone"

    def search(
        self, wanted: Sequence[str], *, upto: int, limit: int
    ) -> Sequence[Sequence[Posting]]:
        found = self.chain.search(wanted, upto=upto, limit=limit)
        # That more than `limit` have a word must stay to be seen: texts are sorted out by `said`.
        return [each if any(one.version not in self.gone for one in each) else [] for each in found]

    def said(self, upto: int) -> Sequence[int]:
        return self.gone.left_of(self.chain.said(upto))

    def beginnings(self, upto: int) -> Iterable[str]:
        rows = self.chain.rows(
            f"version, substr(text, 1, {VOCABULARY_CHARS_MAX}) AS text",
            after=BEGINNING,
            upto=upto,
            limit=VOCABULARY_TEXTS_MAX,
            newest_first=True,
        )
        return (row["text"] for row in rows if row["version"] not in self.gone)


@dataclass(frozen=True, slots=True)
class _Past:
    """What was said in a conversation up to an offset. Every call blocks."""

    chain: Chain
    upto: int

    def find(self, query: str, limit: int, only: Only) -> SearchAnswer:
        ranking = ranking_of(_Texts(self.chain, self._gone()), query, upto=self.upto)
        hits = islice(self._hits(ranking, only), limit)
        return SearchAnswer(tuple(hits), ranking.corrections, self.chain.lineage)

    def around(self, offset: int, before: int, after: int) -> tuple[Item, ...]:
        rows = self._rows((after + 2) * TEXTS_PER_ITEM, after=offset - 1)
        first = next((row for row in rows if offset in (row["place"], row["version"])), None)
        if first is None:
            return ()
        if first["place"] != offset:
            return self.around(first["place"], before, after)
        following = _items(row for row in rows if row["version"] >= first["version"])
        leading = self._rows((before + 1) * TEXTS_PER_ITEM, upto=first["version"] - 1)
        preceding = _items(row for row in reversed(leading) if row["place"] != first["place"])
        gone = self._gone()
        if first["place"] in gone:
            return ()
        head = [one for one in preceding if one.place not in gone]
        tail = [one for one in following if one.place not in gone]
        return (*head[max(0, len(head) - before) :], *tail[: after + 1])

    # --- hits -----------------------------------------------------------------------------

    def _hits(self, ranking: Ranking, only: Only) -> Iterator[Hit]:
        question, order = ranking.question, ranking.order
        left_out = set[int]()
        for start in range(0, len(order), READ_AT_ONCE):
            page = order[start : start + READ_AT_ONCE]
            texts = self.chain.texts([version for version, _ in page])
            for version, score in page:
                row = texts.get(version)
                if row is None or row["place"] in left_out or not fits(row, question, only):
                    continue
                # The best of an item's texts stands for it.
                left_out.add(row["place"])
                yield _hit(row, question, score)

    def _rows(
        self, limit: int, *, after: int = BEGINNING, upto: int = VERSION_MAX
    ) -> list[dict[str, Any]]:
        """Read texts after a place, in order, or those before one, the newest first."""
        last = min(upto, self.upto)
        earlier = after == BEGINNING
        return self.chain.rows("*", after=after, upto=last, limit=limit, newest_first=earlier)

    def _gone(self) -> "Gone":
        return gone_from(self.chain, listed_in(self.chain))


@dataclass(frozen=True, slots=True)
class Gone:
    """The places of what nobody is to find: some, and after a reset all up to a place."""

    places: frozenset[int] = frozenset()
    reset: int = BEGINNING

    def __contains__(self, place: int) -> bool:
        return place <= self.reset or place in self.places

    def left_of(self, places: Sequence[int]) -> Sequence[int]:
        """Give the places that are not among them."""
        if not self.places and self.reset == BEGINNING:
            return places
        return [one for one in places if one > self.reset and one not in self.places]


def gone_from(chain: Chain, listed: Listed) -> Gone:
    """Give the places of what was rolled back or reset: it is as if nobody had said it. Blocks.

    They are those of items and those of the facts that have their texts.
    """
    found = chain.located(sorted(listed.hidden))
    items = {place for places in found.values() for place in places}
    return Gone(frozenset(items.union(chain.texts_of(items))), listed.reset)


def fits(row: dict[str, Any], question: Question, only: Only) -> bool:
    """Tell whether a text that has the words is one of those wanted, its phrases as they stand."""
    at = datetime.fromisoformat(row["at"])
    return only.holds(row["role"], at) and all(
        has_phrase(row["text"], phrase) for phrase in question.phrases
    )


def _hit(row: dict[str, Any], question: Question, score: float) -> Hit:
    terms = frozenset(question.terms)
    return Hit(
        place=row["place"],
        version=row["version"],
        role=row["role"],
        kind=row["kind"],
        at=datetime.fromisoformat(row["at"]),
        text=excerpt_of(row["text"], terms, EXCERPT_CHARS_MAX),
        score=round(score, 4),
    )


def _items(rows: Iterable[dict[str, Any]]) -> list[Item]:
    """Put the texts of one place together."""
    places: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        places.setdefault(row["place"], []).append(row)
    return [_item(place, texts) for place, texts in places.items()]


def _item(place: int, rows: Sequence[dict[str, Any]]) -> Item:
    texts: list[str] = []
    left = ITEM_CHARS_MAX
    for row in rows:
        texts.append(row["text"][:left])
        left -= len(texts[-1])
    whole = sum(len(row["text"]) for row in rows)
    at = datetime.fromisoformat(rows[0]["at"])
    kept = tuple(filter(None, texts))
    return Item(place, rows[0]["role"], at, kept, whole - sum(map(len, kept)))
