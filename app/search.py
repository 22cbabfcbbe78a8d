"""Finding again what was said in a conversation, and reading around it.

A search reads a list of numbers for each word, and the texts of its hits: not the conversation.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from app.history import hidden_in
from app.log import Log
from app.store import VERSION_MAX, Store
from projections.columns import Scalar
from projections.search_answers import ANY, Hit, Item, Only, SearchAnswer
from projections.search_questions import (
    Correction,
    Question,
    corrected,
    counted,
    question_of,
    with_corrections,
)
from projections.search_ranks import Posting, ranked
from projections.search_words import excerpt_of, has_phrase

EXCERPT_CHARS_MAX: Final = 400
# A word that more texts have is looked for in the newest of them.
POSTINGS_MAX: Final = 5_000
# Where the word that was meant by a mistaken one is looked for: in so many texts, their beginnings.
VOCABULARY_TEXTS_MAX: Final = 5_000
VOCABULARY_CHARS_MAX: Final = 2_000
READ_AT_ONCE: Final = 100
ITEM_CHARS_MAX: Final = 4_000
# A step's words and calls; what it has more of is not read again.
TEXTS_PER_ITEM: Final = 8

Postings = Mapping[str, Sequence[Posting]]


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
        past = _Past(self._log.store, stream, VERSION_MAX if upto is None else upto)
        return await self._log.in_reader(lambda: past.find(query, limit, only))

    async def around(
        self, stream: str, offset: int, *, before: int = 2, after: int = 2, upto: int | None = None
    ) -> tuple[Item, ...]:
        """Give what was said at an offset, and the items before and after it, in order.

        Nothing, if nothing was said there. Raises StoreUnavailable.
        """
        past = _Past(self._log.store, stream, VERSION_MAX if upto is None else upto)
        return await self._log.in_reader(lambda: past.around(offset, before, after))


@dataclass(frozen=True, slots=True)
class _Past:
    """What was said in a conversation up to an offset. Every call blocks."""

    store: Store
    stream: str
    upto: int

    def find(self, query: str, limit: int, only: Only) -> SearchAnswer:
        question = question_of(query)
        postings = self._postings(question)
        corrections = self._corrections(question, postings)
        if corrections:
            question = with_corrections(question, corrections)
            postings = self._postings(question)
        hits = islice(self._hits(question, postings, only), limit)
        return SearchAnswer(tuple(hits), tuple(corrections))

    def around(self, offset: int, before: int, after: int) -> tuple[Item, ...]:
        later = "version >= ? ORDER BY version LIMIT ?"
        earlier = "version < ? ORDER BY version DESC LIMIT ?"
        rows = self._rows(later, offset, (after + 2) * TEXTS_PER_ITEM)
        first = next((row for row in rows if offset in (row["place"], row["version"])), None)
        if first is None:
            return ()
        if first["place"] != offset:
            return self.around(first["place"], before, after)
        following = _items(row for row in rows if row["version"] >= first["version"])
        leading = self._rows(earlier, first["version"], (before + 1) * TEXTS_PER_ITEM)
        preceding = _items(row for row in reversed(leading) if row["place"] != first["place"])
        hidden = self._hidden()
        if first["place"] in hidden:
            return ()
        head = [one for one in preceding if one.place not in hidden]
        tail = [one for one in following if one.place not in hidden]
        return (*head[max(0, len(head) - before) :], *tail[: after + 1])

    # --- words ----------------------------------------------------------------------------

    def _postings(self, question: Question) -> Postings:
        wanted = [*question.terms, *([question.needed] if question.needed else [])]
        found = self.store.search(self.stream, wanted, upto=self.upto, limit=POSTINGS_MAX)
        return dict(zip(wanted, found, strict=True))

    def _corrections(self, question: Question, postings: Postings) -> list[Correction]:
        missing = [term for term in question.words if not postings[term]]
        if not missing:
            return []
        rows = self.store.query(
            "SELECT substr(text, 1, ?) AS text FROM texts WHERE stream = ? AND version <= ? "
            "ORDER BY version DESC LIMIT ?",
            (VOCABULARY_CHARS_MAX, self.stream, self.upto, VOCABULARY_TEXTS_MAX),
        )
        return corrected(question, missing, counted(row["text"] for row in rows))

    # --- hits -----------------------------------------------------------------------------

    def _hits(self, question: Question, postings: Postings, only: Only) -> Iterator[Hit]:
        order = self._order(question, postings)
        left_out = {*self._hidden()} if order else set[int]()
        for start in range(0, len(order), READ_AT_ONCE):
            page = order[start : start + READ_AT_ONCE]
            texts = self._texts([version for version, _ in page])
            for version, score in page:
                row = texts.get(version)
                if row is None or row["place"] in left_out or not _fits(row, question, only):
                    continue
                # The best of an item's texts stands for it.
                left_out.add(row["place"])
                yield _hit(row, question, score)

    def _order(self, question: Question, postings: Postings) -> list[tuple[int, float]]:
        if not any(postings.values()):
            return []
        known = [postings[term] for term in question.terms]
        texts = self.store.said(self.stream, self.upto)
        order = ranked(known, texts, postings_max=POSTINGS_MAX)
        if not question.phrases:
            return order
        possible = {one.version for one in postings[question.needed]}
        return [one for one in order if one[0] in possible]

    def _texts(self, versions: Sequence[int]) -> dict[int, dict[str, Any]]:
        marks = ", ".join("?" * len(versions))
        rows = self.store.query(
            f"SELECT * FROM texts WHERE stream = ? AND version IN ({marks})",  # noqa: S608 - only marks
            (self.stream, *versions),
        )
        return {row["version"]: row for row in rows}

    def _rows(self, which: str, *bounds: int) -> list[dict[str, Any]]:
        return self.store.query(
            f"SELECT * FROM texts WHERE stream = ? AND version <= ? AND {which}",  # noqa: S608 - our own words
            (self.stream, self.upto, *bounds),
        )

    def _hidden(self) -> frozenset[int]:
        """Give the places of what was rolled back: it is as if nobody had said it."""
        ids = sorted(hidden_in(self.store, self.stream))
        pages = (ids[start : start + READ_AT_ONCE] for start in range(0, len(ids), READ_AT_ONCE))
        return frozenset(place for page in pages for place in self._places(page))

    def _places(self, message_ids: Collection[str]) -> list[int]:
        marks = ", ".join("?" * len(message_ids))
        params: list[Scalar] = [self.stream, *message_ids]
        rows = self.store.query(
            f"SELECT version FROM locators WHERE stream = ? AND id IN ({marks})",  # noqa: S608 - only marks
            params,
        )
        return [row["version"] for row in rows]


def _fits(row: dict[str, Any], question: Question, only: Only) -> bool:
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
