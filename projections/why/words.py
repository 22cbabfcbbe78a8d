"""Whether a text says what was asked for, and whether a summary has kept it.

A text says a phrase if it has the phrase's words in a row, or all its content words in one sentence;
what stands in double quotes has to be there just so. If nobody said the words that close together,
all of them anywhere in one text will do. A summary keeps what was said if it has the words as close
together as they were said. Of a whole message it keeps enough if it has half of the telling words:
of the content words, those that fewest texts of the conversation have.

Words are compared without case, accents and endings; in summaries dates, numbers and sums of money by
their value, however they are spelled.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from domain.retention import Kind
from projections.retention.finding import exact_in
from projections.retention.plain import plain
from projections.retention.surviving import Summary
from projections.search_questions import Question
from projections.search_stems import stem_of
from projections.search_words import FUNCTION_WORDS, WORD_CHARS_MAX, words_of

# How close together the words stand.
Closeness: TypeAlias = Literal["phrase", "sentence", "text"]

SHARE_MIN: Final = 0.5
# A message of few words is judged by all of them; of a long one by the rarest.
TELLING_MIN: Final = 5
TELLING_MAX: Final = 32
CONTENT_WORDS_MAX: Final = 64
SPELLINGS_MAX: Final = 32
# What is the same in several spellings. Other kinds of things are compared word by word.
BY_VALUE: Final[frozenset[Kind]] = frozenset({"number", "date", "money"})

# A sentence ends with its line, with a sign that is nothing else, or with a full stop before what can
# begin another, unless it may belong to a short word ("Dr.", "p.m.").
_END: Final = re.compile(
    "\n+|(?<=[!?\u2026\u3002\uff01\uff1f])\\s*|(?<=[^\\W_]{3}[.])[\"'\u201d\u2019)\\]]*\\s+(?=[^a-z\\s])"
)
_EDGES: Final = re.compile(r"^[\W_]+|[\W_]+$")


@dataclass(frozen=True, slots=True)
class Kept:
    """That a text has words that were asked for: as it spells them, and the share of all."""

    words: tuple[str, ...]
    share: float
    closeness: Closeness | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Words to look for, as stems; `values` has those that are part of a date or an amount."""

    terms: tuple[str, ...] = ()
    values: Mapping[str, tuple[Kind, str]] = field(default_factory=dict[str, tuple[Kind, str]])

    def held_by(self, text: str) -> frozenset[str]:
        """Give those that a text has, in whatever spelling."""
        stems = frozenset(map(stem_of, words_of(text)))
        held = frozenset(term for term in self.terms if term in stems)
        missing = [term for term in self.terms if term not in stems and term in self.values]
        if not missing:
            return held
        known = Summary(text)
        return held.union(term for term in missing if known.holds(*self.values[term]))


def terms_in(text: str, terms: Iterable[str]) -> Terms:
    """Take terms of a text, with the values of the dates and amounts that they are part of."""
    text = plain(text)
    values: dict[str, tuple[Kind, str]] = {}
    for thing in exact_in(text):
        if thing.kind in BY_VALUE:
            for word in words_of(thing.text):
                values.setdefault(stem_of(word), (thing.kind, thing.key))
    return Terms(tuple(terms), values)


# --- a phrase ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that somebody may have said: all of them in a row, and those that matter by themselves."""

    row: tuple[str, ...]
    terms: Terms
    quoted: tuple[tuple[str, ...], ...] = ()

    def closeness(self, text: str) -> Closeness | None:
        """Tell how close together a text says it, None if it does not."""
        if self._in_a_row(text):
            return "phrase"
        if not self._has_all(text):
            return None
        return "sentence" if any(map(self._has_all, sentences_of(text))) else "text"

    def kept_by(self, summary: str, said: Closeness) -> Kept | None:
        """Tell whether a summary has the words as close together as they were said."""
        found = self.closeness(summary)
        if found is None or (found == "text" and said != "text"):
            return None
        places = filter(self._has_all, sentences_of(summary))
        place = summary if found == "text" else next(places, summary)
        return Kept(spellings(place, self.terms), 1.0, found)

    def _in_a_row(self, text: str) -> bool:
        words = _padded(words_of(text))
        return bool(self.row) and all(_padded(one) in words for one in (self.row, *self.quoted))

    def _has_all(self, text: str) -> bool:
        if not self.terms.terms or len(self.terms.held_by(text)) < len(self.terms.terms):
            return False
        words = _padded(words_of(text)) if self.quoted else ""
        return all(_padded(one) in words for one in self.quoted)


def phrase_of(text: str, question: Question) -> Phrase:
    """Make what was asked into what is looked for; `question` has its words, perhaps corrected."""
    return Phrase(tuple(words_of(text)), terms_in(text, question.terms), question.phrases)


def _padded(words: Sequence[str]) -> str:
    return f" {' '.join(words)} "


# --- a whole message --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Telling:
    """The words by which a message is known."""

    terms: Terms

    def kept_by(self, summary: str) -> Kept | None:
        """Tell whether a summary has enough of them."""
        held = self.terms.held_by(summary)
        if not held or len(held) < SHARE_MIN * len(self.terms.terms):
            return None
        share = len(held) / len(self.terms.terms)
        return Kept(spellings(summary, self.terms), round(share, 4))


def content_terms(text: str) -> tuple[str, ...]:
    """Give the stems of a message's first content words, each once; of all words if it has none."""
    words = words_of(text)
    telling = [word for word in words if word not in FUNCTION_WORDS] or words
    return tuple(dict.fromkeys(map(stem_of, telling)))[:CONTENT_WORDS_MAX]


def telling_of(text: str, holders: Mapping[str, int]) -> Telling:
    """Choose the telling words of a message; `holders` counts the texts that have each."""
    terms = content_terms(text)
    rarest = sorted(terms, key=lambda term: holders.get(term, 0))
    count = min(max(TELLING_MIN, (len(terms) + 1) // 2), TELLING_MAX)
    chosen = frozenset(rarest[:count])
    return Telling(terms_in(text, (term for term in terms if term in chosen)))


# --- texts ------------------------------------------------------------------------------------


def sentences_of(text: str) -> Iterator[str]:
    """Cut a text into sentences."""
    start = 0
    for end in _END.finditer(text):
        if text[start : end.start()].strip():
            yield text[start : end.start()]
        start = end.end()
    if text[start:].strip():
        yield text[start:]


def spellings(text: str, terms: Terms) -> tuple[str, ...]:
    """Give the words of a text that are among the terms, each once, as the text spells them."""
    found: dict[str, None] = {}
    values = _values_spelled(text, terms) if terms.values else frozenset[str]()
    for chunk in text.split():
        stems = _stems(chunk)
        if not stems.isdisjoint(terms.terms) or not stems.isdisjoint(values):
            found.setdefault(_EDGES.sub("", chunk)[:WORD_CHARS_MAX])
    return tuple(found)[:SPELLINGS_MAX]


def _values_spelled(text: str, terms: Terms) -> frozenset[str]:
    """Give the stems by which a text spells values that are among the terms."""
    keys = {terms.values[term] for term in terms.terms if term in terms.values}
    spelled = plain(text)
    things = (thing for thing in exact_in(spelled) if (thing.kind, thing.key) in keys)
    return frozenset(stem_of(word) for thing in things for word in words_of(thing.text))


def _stems(chunk: str) -> frozenset[str]:
    return frozenset(map(stem_of, words_of(chunk)))


def words_held(text: str, terms: Collection[str]) -> tuple[str, ...]:
    """Give the words of a text whose stems are wanted, as it spells them."""
    return spellings(text, Terms(tuple(terms)))
