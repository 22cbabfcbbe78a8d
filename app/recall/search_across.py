"""Finding what was said in many conversations: first which of them, then what in those.

Both read only what has the words, and no more of it than a limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Final

from app.history.holders import Holders
from app.log import Log
from app.mapper import revive
from app.ranking import POSTINGS_MAX
from app.recall.search import EXCERPT_CHARS_MAX, READ_AT_ONCE, fits, gone_from
from app.storage.lineages import lineage_of
from app.storage.store import Store
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
    """A message in which something was found: its own words, and a stretch of them around it.

    `offset` is that of `stream`, which is there if it was said in another conversation than in the
    one that has it.
    """

    conversation_id: str
    agent_id: str
    offset: int
    stream: str | None
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
        self,
        query: str,
        streams: Sequence[str] | None = None,
        *,
        within: str | None = None,
        limit: int,
        only: Only = ANY,
    ) -> list[Found]:
        """Give the messages said in some conversations, or in all, that answer a query best.

        `within` a conversation, those that it has: its own, and what it inherited. Calls of tools and
        what they came to are not among them. Raises StoreUnavailable.
        """
        store = self._log.store

        def find() -> list[Found]:
            searched = streams if within is None else _streams_of(store, within)
            past = _Pasts(store, searched, Holders(store, within=within))
            return past.find(query, limit, only)

        return await self._log.in_reader(find)


def _streams_of(store: Store, conversation_id: str) -> list[str]:
    """Name the streams that a conversation consists of."""
    return [conversation_id, *(one.stream for one in lineage_of(store, conversation_id).ancestors)]


@dataclass(frozen=True, slots=True)
class _Pasts:
    """What was said in conversations, as far as anybody has it. Every call blocks."""

    store: Store
    streams: Sequence[str] | None
    holders: Holders

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
        streams = list(dict.fromkeys(stream for (stream, _), _ in first))
        best = [*islice(self.holders.held(streams), streams_max)]
        near = [[one for one in term if one.stream in best] for term in terms]
        order = _ranked(near, [*self._texts(best)], Weights())
        if not question.phrases:
            return order
        possible = {(one.stream, one.version) for one in mentions[question.needed]}
        return [one for one in order if one[0] in possible]

    def _texts(self, streams: Sequence[str]) -> Iterator[Text]:
        """Give what can be found, so much between two conversations that none is near another."""
        for stream in streams:
            yield from ((stream, version) for version in self._had(stream))
            yield from ((stream, -number) for number, _ in enumerate(NEARNESS, 1))

    def _had(self, stream: str) -> Sequence[int]:
        """Give the texts of a stream that anybody has: what nobody has does not count for others."""
        said, had = self.store.said(stream), set[int]()
        for one in self.holders.of(stream):
            gone = gone_from(one.chain, one.listed)
            had.update(each for each in said if each <= one.upto and each + one.shift not in gone)
            if one.lists_all:
                break  # the others have no more of it
        return sorted(had)

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
                if message_id is None:
                    continue
                holder = self.holders.holder_of(row["stream"], row["place"], message_id)
                if holder is not None:
                    yield _hit(row, holder, message_id, question, score)

    def _rows(self, texts: Sequence[Text]) -> dict[Text, dict[str, Any]]:
        """Read texts with their agents."""
        one = "(texts.stream = ? AND texts.version = ?)"
        params: list[Scalar] = [each for text in texts for each in text]
        rows = self.store.query(
            "SELECT texts.*, conversations.agent_id FROM texts JOIN conversations "  # noqa: S608 - only question marks
            "ON conversations.conversation_id = texts.stream "
            f"WHERE texts.kind = 'words' AND ({' OR '.join([one] * len(texts))})",
            params,
        )
        return {(row["stream"], row["version"]): row for row in rows}

    def _message_id(self, stream: str, place: int) -> str | None:
        """Name the message at a place."""
        for row in self.store.read(stream, after=place - 1, upto=place, deltas=False):
            match revive(row).event:
                case MessageAppended(message_id=found) | StepStarted(message_id=found):
                    return found
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


def _hit(
    row: dict[str, Any], holder: str, message_id: str, question: Question, score: float
) -> Found:
    return Found(
        conversation_id=holder,
        agent_id=row["agent_id"],
        offset=row["place"],
        stream=None if row["stream"] == holder else row["stream"],
        message_id=message_id,
        role=row["role"],
        at=datetime.fromisoformat(row["at"]),
        text=row["text"],
        excerpt=excerpt_of(row["text"], frozenset(question.terms), EXCERPT_CHARS_MAX),
        score=round(score, 4),
    )
