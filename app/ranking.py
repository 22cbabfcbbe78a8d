"""Which texts answer a question, the best first: its words looked up, mended, ranked.

A search reads a list of numbers for each word, not the texts. Every call blocks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.storage.store import VERSION_MAX, Store
from projections.search_questions import (
    Correction,
    Question,
    corrected,
    counted,
    question_of,
    with_corrections,
)
from projections.search_ranks import BY_PASSAGE, Posting, Weights, ranked

# A word that more texts have is looked for in the newest of them.
POSTINGS_MAX: Final = 5_000
# Where the word that was meant by a mistaken one is looked for: in so many texts, their beginnings.
VOCABULARY_TEXTS_MAX: Final = 5_000
VOCABULARY_CHARS_MAX: Final = 2_000

Postings = Mapping[str, Sequence[Posting]]


class Texts(Protocol):
    """Texts in one order, named by their versions."""

    def search(
        self, wanted: Sequence[str], *, upto: int, limit: int
    ) -> Sequence[Sequence[Posting]]:
        """Find for each wanted term the newest texts that have it, as a store does."""
        ...

    def said(self, upto: int) -> Sequence[int]:
        """Give the versions of all texts up to one, in order."""
        ...

    def beginnings(self, upto: int) -> Iterable[str]:
        """Give how the newest texts up to one begin: where words are taken from."""
        ...


@dataclass(frozen=True, slots=True)
class StreamTexts:
    """The texts of one stream."""

    store: Store
    stream: str

    def search(
        self, wanted: Sequence[str], *, upto: int, limit: int
    ) -> Sequence[Sequence[Posting]]:
        """Find for each wanted term the newest texts that have it."""
        return self.store.search(self.stream, wanted, upto=upto, limit=limit)

    def said(self, upto: int) -> Sequence[int]:
        """Give the versions of all texts up to one, in order."""
        return self.store.said(self.stream, upto)

    def beginnings(self, upto: int) -> Iterable[str]:
        """Give how the newest texts up to one begin."""
        rows = self.store.query(
            "SELECT substr(text, 1, ?) AS text FROM texts WHERE stream = ? AND version <= ? "
            "ORDER BY version DESC LIMIT ?",
            (VOCABULARY_CHARS_MAX, self.stream, upto, VOCABULARY_TEXTS_MAX),
        )
        return (row["text"] for row in rows)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The versions of texts with their scores, the best first, and what was asked in the end.

    A text need not have the question's phrases, only their words: whoever reads it has to look.
    """

    question: Question
    corrections: tuple[Correction, ...]
    order: list[tuple[int, float]]


def ranking_of(
    texts: Texts, query: str, *, upto: int = VERSION_MAX, weights: Weights = BY_PASSAGE
) -> Ranking:
    """Rank texts up to a version. A query without words finds none."""
    question = question_of(query)
    postings = _postings(texts, question, upto)
    corrections = _corrections(texts, question, postings, upto)
    if corrections:
        question = with_corrections(question, corrections)
        postings = _postings(texts, question, upto)
    order = _order(texts, question, postings, upto, weights)
    return Ranking(question, tuple(corrections), order)


def _postings(texts: Texts, question: Question, upto: int) -> Postings:
    wanted = [*question.terms, *([question.needed] if question.needed else [])]
    found = texts.search(wanted, upto=upto, limit=POSTINGS_MAX)
    return dict(zip(wanted, found, strict=True))


def _corrections(
    texts: Texts, question: Question, postings: Postings, upto: int
) -> list[Correction]:
    missing = [term for term in question.words if not postings[term]]
    return corrected(question, missing, counted(texts.beginnings(upto))) if missing else []


def _order(
    texts: Texts, question: Question, postings: Postings, upto: int, weights: Weights
) -> list[tuple[int, float]]:
    if not any(postings.values()):
        return []
    known = [postings[term] for term in question.terms]
    order = ranked(known, texts.said(upto), weights, postings_max=POSTINGS_MAX)
    if not question.phrases:
        return order
    possible = {one.version for one in postings[question.needed]}
    return [one for one in order if one[0] in possible]
