"""Finding what was said in many conversations: first which of them, then what in those.

Both read only what has the words, and no more of it than a limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

from app.history import Listed, listed_in
from app.lineages import Chain
from app.log import Log
from app.mapper import revive
from app.ranking import POSTINGS_MAX
from app.search import EXCERPT_CHARS_MAX, READ_AT_ONCE, fits
from app.store import Store
from domain.conversation import MessageAppended
from domain.run import StepStarted
from projections.columns import Scalar
from projections.search_answers import ANY, Only
from projections.search_questions import Question, question_of
from projections.search_ranks import NEARNESS, Mention, Posting, Weights, ranked
from projections.search_texts import Role
from projections.search_words import excerpt_of

# In how many conversations is looked at what is said around the words, unless more hits are wanted.
STREAMS_MIN: Final = 16
BY_WORDS: Final = Weights(passage_share=0.0)

Text = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """A message in which something was found: its own words, and a stretch of them around it."""

    conversation_id: str
    agent_id: str
    offset: int
    message_id: str
    role: Role
    at: datetime
    text: str
    excerpt: str
    score: float


class SearchAcross:
    """Looks for words in many conversations."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def find(
        self, query: str, streams: Sequence[str] | None = None, *, limit: int, only: Only = ANY
    ) -> list[Found]:
        """Give the messages of some conversations, or of all, that answer a query best.

        Calls of tools and what they came to are not among them. Raises StoreUnavailable.
        """
        past = _Pasts(self._log.store, streams)
        return await self._log.in_reader(lambda: past.find(query, limit, only))


@dataclass(frozen=True, slots=True)
class _Pasts:
    """What was said in conversations. Every call blocks."""

    store: Store
    streams: Sequence[str] | None
    listed: dict[str, Listed] = field(default_factory=dict[str, Listed])

    def find(self, query: str, limit: int, only: Only) -> list[Found]:
        question = question_of(query)
        wanted = [*question.terms, *([question.needed] if question.needed else [])]
        found = self.store.mentions(wanted, self.streams, limit=POSTINGS_MAX)
        mentions = dict(zip(wanted, found, strict=True))
        order = self._order(question, mentions, max(STREAMS_MIN, limit))
        return list(islice(self._found(order, question, only), limit))

    # --- order ----------------------------------------------------------------------------

    def _order(
        self, question: Question, mentions: Mapping[str, Sequence[Mention]], streams_max: int
    ) -> list[tuple[Text, float]]:
        terms = [mentions[term] for term in question.terms]
        texts = sorted({(one.stream, one.version) for term in terms for one in term})
        first = _ranked(terms, texts, BY_WORDS)
        best = self._shown(list(dict.fromkeys(stream for (stream, _), _ in first)), streams_max)
        near = [[one for one in term if one.stream in best] for term in terms]
        order = _ranked(near, [*self._texts(best)], Weights())
        if not question.phrases:
            return order
        possible = {(one.stream, one.version) for one in mentions[question.needed]}
        return [one for one in order if one[0] in possible]

    def _shown(self, streams: Sequence[str], streams_max: int) -> list[str]:
        """Keep the first that lists show: no deleted or hidden conversation, and no archive.

        Where conversations were named these are searched, hidden or not.
        """
        if self.streams is not None:
            return [*streams[:streams_max]]
        kept: list[str] = []
        for start in range(0, len(streams), READ_AT_ONCE):
            some = streams[start : start + READ_AT_ONCE]
            rows = self.store.query(
                "SELECT conversation_id FROM conversations WHERE deleted = 0 "  # noqa: S608 - only marks
                f"AND coalesce(hidden, 0) = 0 AND conversation_id IN ({', '.join('?' * len(some))})",
                some,
            )
            known = {row["conversation_id"] for row in rows}
            kept += [one for one in some if one in known]
            if len(kept) >= streams_max:
                break
        return kept[:streams_max]

    def _texts(self, streams: Sequence[str]) -> Iterator[Text]:
        """Give all texts of conversations, with so much between two that they are not neighbours."""
        for stream in streams:
            yield from ((stream, version) for version in self.store.said(stream))
            yield from ((stream, -number) for number, _ in enumerate(NEARNESS, 1))

    # --- hits -----------------------------------------------------------------------------

    def _found(
        self, order: Sequence[tuple[Text, float]], question: Question, only: Only
    ) -> Iterator[Found]:
        seen: set[Text] = set()
        for start in range(0, len(order), READ_AT_ONCE):
            page = order[start : start + READ_AT_ONCE]
            rows = self._rows([text for text, _ in page])
            for text, score in page:
                row = rows.get(text)
                if row is None or (row["stream"], row["place"]) in seen:
                    continue
                if not fits(row, question, only):
                    continue
                # The best of a message's texts stands for it.
                seen.add((row["stream"], row["place"]))
                message_id = self._message_id(row["stream"], row["place"])
                if message_id is not None:
                    yield _hit(row, message_id, question, score)

    def _rows(self, texts: Sequence[Text]) -> dict[Text, dict[str, Any]]:
        """Read texts with their agents; those of deleted and hidden conversations are not there."""
        one = "(texts.stream = ? AND texts.version = ?)"
        params: list[Scalar] = [each for text in texts for each in text]
        rows = self.store.query(
            "SELECT texts.*, conversations.agent_id FROM texts JOIN conversations "  # noqa: S608 - only marks
            "ON conversations.conversation_id = texts.stream WHERE conversations.deleted = 0 "
            f"AND (coalesce(conversations.hidden, 0) = 0 OR {int(self.streams is not None)} = 1) "
            f"AND texts.kind = 'words' AND ({' OR '.join([one] * len(texts))})",
            params,
        )
        return {(row["stream"], row["version"]): row for row in rows}

    def _message_id(self, stream: str, place: int) -> str | None:
        """Name the message at a place, None if it is hidden: as if nobody had said it."""
        if stream not in self.listed:
            self.listed[stream] = listed_in(Chain.of(self.store, stream))
        listed = self.listed[stream]
        if place <= listed.reset:
            return None
        for row in self.store.read(stream, after=place - 1, upto=place, deltas=False):
            match revive(row).event:
                case MessageAppended(message_id=found) | StepStarted(message_id=found):
                    return None if found in listed.hidden else found
                case _:
                    pass
        return None


def _ranked(
    terms: Sequence[Sequence[Mention]], texts: Sequence[Text], weights: Weights
) -> list[tuple[Text, float]]:
    numbers = {text: number for number, text in enumerate(texts)}
    postings = [
        [
            Posting(numbers[one.stream, one.version], one.terms)
            for one in term
            if (one.stream, one.version) in numbers
        ]
        for term in terms
    ]
    order = ranked(postings, range(len(texts)), weights)
    # Neighbours of what was found are ranked, too; what fills the gaps is no text.
    return [(texts[number], score) for number, score in order if texts[number][1] > 0]


def _hit(row: dict[str, Any], message_id: str, question: Question, score: float) -> Found:
    return Found(
        conversation_id=row["stream"],
        agent_id=row["agent_id"],
        offset=row["place"],
        message_id=message_id,
        role=row["role"],
        at=datetime.fromisoformat(row["at"]),
        text=row["text"],
        excerpt=excerpt_of(row["text"], frozenset(question.terms), EXCERPT_CHARS_MAX),
        score=round(score, 4),
    )
