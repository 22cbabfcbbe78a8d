"""Finds what became of something that was said: `projections.why` over the tables and the marks.

A phrase is looked up in the index of texts, an id among the locators; read are the texts that have
all its words, the marks, and the few facts that are shown. So a conversation's length does not
matter. What a model found again by looking back does not count as said once more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from app.log import Log
from app.recall.items import UNKNOWN, Item, Items
from app.recall.search import Search
from app.storage.lineages import Chain
from app.windows import marked_facts
from domain.run import StepPart
from domain.streams import MESSAGE, is_id, system_message_id
from projections.marks import summary_of
from projections.patches import CALL, CALL_ID_CHARS_MAX, RETURN
from projections.search_questions import Correction, Question, question_of, with_corrections
from projections.search_texts import TEXT_CHARS_MAX
from projections.search_words import excerpt_of, words_of
from projections.why import (
    Asked,
    Closeness,
    Findings,
    Found,
    Near,
    Phrase,
    Swapped,
    Thing,
    Timeline,
    WhyAnswer,
    answer_of,
    content_terms,
    phrase_of,
    telling_of,
    timeline_of,
    words_held,
)

EXCERPT_CHARS_MAX: Final = 300
CLOSEST_MAX: Final = 3
# Of texts that have all the words, so many of the newest are looked into, and so much of them read.
POSTINGS_MAX: Final = 20_000
CHECKED_MAX: Final = 5_000
CHECKED_CHARS_MAX: Final = 8_000_000
READ_AT_ONCE: Final = 100
# How many texts have a word is counted up to here: above, it is a common one.
HOLDERS_MAX: Final = 1_000

OLDER: Final = "No text of the newest that have these words has them just so; older ones may."
NO_WORDS: Final = "There is no word in the question to look for."


class Why:
    """Tells what became of things said in conversations."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._search = Search(log)

    async def asked(self, stream: str, query: str, limit: int = 10) -> WhyAnswer:
        """Tell of a phrase, or of a message or tool call by its id. Raises StoreUnavailable."""
        log = self._log
        head = await log.in_reader(lambda: log.store.head(stream))
        at = 0 if head is None else head[0]
        marks = [fact for fact in await marked_facts(log, stream) if fact.version <= at]
        timeline = timeline_of(marks)
        chain = Chain(log.store, stream, timeline.marks.lineage)
        past = _Past(chain, at, query, limit, timeline)
        findings = await log.in_reader(past.findings)
        if findings.asked == "phrase" and not findings.total:
            findings = await self._close_to(past, findings)
        return await log.in_reader(lambda: answer_of(findings))

    async def _close_to(self, past: "_Past", findings: Findings) -> Findings:
        """Look for the words that may have been meant, and for what comes closest."""
        words = " ".join(words_of(past.query))
        near = await self._search.find(past.chain.stream, words, limit=CLOSEST_MAX, upto=past.at)
        question = with_corrections(question_of(past.query), near.corrections)
        if near.corrections:
            swapped = await self._log.in_reader(lambda: past.said(question, near.corrections))
            if swapped.total:
                return swapped
        closest = (
            Near(
                offset=hit.place,
                role=hit.role,
                at=hit.at,
                text=hit.text,
                words=words_held(hit.text, question.terms),
            )
            for hit in near.hits
        )
        # A hit may be the neighbour of one that has the words.
        return replace(
            findings,
            closest=tuple(one for one in closest if one.words),
            corrections=_swapped(near.corrections),
        )


class _Text(NamedTuple):
    """A text that has the words, by the place of its item."""

    version: int
    match: Closeness


class _Matches(NamedTuple):
    """The texts of each place that have the words; whether all that may were looked into."""

    texts: Mapping[int, _Text]
    complete: bool


@dataclass(frozen=True, slots=True)
class _Past:
    """A conversation up to offset `at`, and what is asked about it. Every call blocks."""

    chain: Chain
    at: int
    query: str
    limit: int
    timeline: Timeline

    @property
    def items(self) -> Items:
        """What was said, by its place."""
        return Items(self.chain, self.at)

    def findings(self) -> Findings:
        """Find what the query names, else what says it."""
        if is_id(MESSAGE, self.query):
            return self._message()
        if len(self.query) <= CALL_ID_CHARS_MAX:
            places = self._located([f"{CALL}{self.query}", f"{RETURN}{self.query}"])
            if places:
                return self._named("tool_call", [self._place_of(one) for one in places])
        return self.said(question_of(self.query))

    # --- by name --------------------------------------------------------------------------

    def _message(self) -> Findings:
        own = (
            self._prompt()
            if self.query == system_message_id(self.chain.stream)
            else self._summary()
        )
        if own is not None:
            return self._of_items("message", [own])
        found = self._located([self.query])
        if found:
            return self._named("message", found)
        return self._nothing("message", UNKNOWN.format(self.query))

    def _prompt(self) -> Item | None:
        """Give the system prompt in force: it has one id for life."""
        system = self.timeline.marks.system
        if system is None:
            return None
        thing = Thing(system.offset, system.message_id, system.offset, always=True)
        text = system.system.text[:TEXT_CHARS_MAX]
        return Item(thing, "system", "words", self.items.fact(system.offset).at, text)

    def _summary(self) -> Item | None:
        """Give the summary that the query names."""
        known = (one.fact for one in self.timeline.marks.compactions.values())
        fact = next((one for one in known if one.event.summary_message_id == self.query), None)
        if fact is None:
            return None
        item = summary_of(fact)
        thing = Thing(item.offset, item.message_id, item.offset, own=item.compaction_id)
        return Item(thing, "summary", "words", item.at, item.summary)

    def _place_of(self, version: int) -> int:
        """Give the place of the item that a fact belongs to."""
        fact = self.items.fact(version)
        return fact.event.s if isinstance(fact.event, StepPart) else version

    def _named(self, asked: Asked, places: Sequence[int]) -> Findings:
        items = [self.items.at(place) for place in sorted(set(places))]
        known = [one for one in items if isinstance(one, Item)]
        if not known:
            return self._nothing(asked, str(items[0]).format(self.query))
        return self._of_items(asked, known)

    def _of_items(self, asked: Asked, items: Sequence[Item]) -> Findings:
        """Take items, those first that are in the window."""
        visible = [one for one in items if self.timeline.visible(one.thing)]
        order = [*visible, *(one for one in items if one not in visible)]
        return Findings(
            query=self.query,
            asked=asked,
            at=self.at,
            timeline=self.timeline,
            found=tuple(map(self._told, order)),
            total=len(items),
            visible=bool(visible),
            first_said=min(one.thing.place for one in items),
        )

    def _told(self, item: Item) -> Found:
        terms = content_terms(item.text)
        found = self.chain.search(terms, upto=self.at, limit=HOLDERS_MAX)
        holders = dict(zip(terms, map(len, found), strict=True))
        excerpt = excerpt_of(item.text, frozenset(), EXCERPT_CHARS_MAX)
        telling = telling_of(item.text, holders)
        return Found(item.thing, item.role, item.kind, item.at, excerpt, telling=telling)

    def _nothing(self, asked: Asked, remark: str | None = None) -> Findings:
        return Findings(self.query, asked, self.at, self.timeline, remark=remark)

    # --- by words -------------------------------------------------------------------------

    def said(self, question: Question, corrections: Sequence[Correction] = ()) -> Findings:
        """Find what says a phrase, with other words in it if it had to be corrected."""
        if not question.terms:
            return self._nothing("phrase", NO_WORDS)
        phrase = phrase_of(_corrected(self.query, corrections), question)
        matches = self._matches(phrase, question.terms)
        evicted, hidden = self.timeline.marks.evicted, self._hidden()
        visible = {one for one in matches.texts if one not in evicted and one not in hidden}
        order = sorted(matches.texts, key=lambda one: (one not in visible, one in hidden, -one))
        return Findings(
            query=self.query,
            asked="phrase",
            at=self.at,
            timeline=self.timeline,
            phrase=phrase,
            found=tuple(self._shown(order[: self.limit], matches.texts, question.terms)),
            total=len(order),
            visible=bool(visible),
            first_said=min(order, default=None),
            complete=matches.complete,
            corrections=_swapped(corrections),
            remark=None if order or matches.complete else OLDER,
        )

    def _matches(self, phrase: Phrase, terms: Sequence[str]) -> _Matches:
        """Look into the texts that have all the words, the newest first."""
        postings = self.chain.search(terms, upto=self.at, limit=POSTINGS_MAX)
        versions = set[int].intersection(*({one.version for one in each} for each in postings))
        newest = sorted(versions, reverse=True)[:CHECKED_MAX]
        complete = len(newest) == len(versions) and all(len(one) < POSTINGS_MAX for one in postings)
        near: dict[int, _Text] = {}
        far: dict[int, _Text] = {}
        left = CHECKED_CHARS_MAX
        for row in self._texts(newest):
            if left <= 0:
                complete = False
                break
            left -= len(row["text"])
            match = phrase.closeness(row["text"])
            if match is not None:
                texts = far if match == "text" else near
                texts[row["place"]] = _closest(texts.get(row["place"]), row["version"], match)
        return _Matches(near or far, complete)

    def _shown(
        self, places: Iterable[int], texts: Mapping[int, _Text], terms: Sequence[str]
    ) -> Iterator[Found]:
        for place in places:
            item = self.items.at(place)
            if isinstance(item, Item):
                version, match = texts[place]
                (row,) = self._texts([version])
                excerpt = excerpt_of(row["text"], frozenset(terms), EXCERPT_CHARS_MAX)
                yield Found(item.thing, item.role, row["kind"], item.at, excerpt, match)

    def _hidden(self) -> frozenset[int]:
        """Give the places of what was rolled back."""
        return frozenset(self._located(sorted(self.timeline.hidden)))

    # --- what is stored -------------------------------------------------------------------

    def _located(self, names: Sequence[str]) -> list[int]:
        found = self.chain.located(names)
        return [place for places in found.values() for place in places if place <= self.at]

    def _texts(self, places: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Give texts in the order of their places, the newest first."""
        for start in range(0, len(places), READ_AT_ONCE):
            some = self.chain.texts(
                places[start : start + READ_AT_ONCE], "version, place, kind, text"
            )
            yield from (some[place] for place in sorted(some, reverse=True))


def _closest(known: _Text | None, version: int, match: Closeness) -> _Text:
    """Choose which text of an item is shown: one with the very phrase, if there is one."""
    return known if known is not None and match != "phrase" else _Text(version, match)


def _corrected(query: str, corrections: Sequence[Correction]) -> str:
    instead = {one.word: one.instead for one in corrections}
    if not instead:
        return query
    return " ".join(instead.get(word, word) for word in words_of(query))


def _swapped(corrections: Iterable[Correction]) -> tuple[Swapped, ...]:
    return tuple(Swapped(word=one.word, instead=one.instead) for one in corrections)
