"""What somebody looks for: any text at all is a question, and none is wrong.

Quotes around words ask for just these words in a row; all other signs and operators are nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from projections.search_stems import stem_of
from projections.search_words import FUNCTION_WORDS, words_of

# Of a longer question the rest is not looked at; nor are words after so many different ones, nor
# more phrases, or longer ones.
QUESTION_CHARS_MAX: Final = 2_000
TERMS_MAX: Final = 32
PHRASES_MAX: Final = 4
PHRASE_WORDS_MAX: Final = 16
# Shorter words are not corrected: too many others are close to them. Longer ones may differ in two
# places.
CORRECTED_CHARS_MIN: Final = 5
TWICE_WRONG_CHARS_MIN: Final = 9

_PHRASE: Final = re.compile(r'["“”„«»]([^"“”„«»]*)["“”„«»]')


@dataclass(frozen=True, slots=True)
class Question:
    """Terms, each with the word it was made of, and phrases of which a text must have all."""

    words: Mapping[str, str] = field(default_factory=dict[str, str])
    phrases: tuple[tuple[str, ...], ...] = ()

    @property
    def terms(self) -> tuple[str, ...]:
        """What texts are ranked by: the stems of the words, and those that only phrases have."""
        return tuple(dict.fromkeys((*self.words, *self._quoted)))

    @property
    def needed(self) -> str:
        """The terms, with spaces between, without all of which a text cannot have the phrases."""
        return " ".join(dict.fromkeys(self._quoted))

    @property
    def _quoted(self) -> list[str]:
        return [stem_of(word) for phrase in self.phrases for word in phrase]


@dataclass(frozen=True, slots=True)
class Correction:
    """A word that nobody had said, and the one that was looked for instead."""

    word: str
    instead: str


def question_of(text: str) -> Question:
    """Take a question apart. Words that only say how it is put count if there are no others."""
    text = text[:QUESTION_CHARS_MAX]
    quoted = (tuple(words_of(one)[:PHRASE_WORDS_MAX]) for one in _PHRASE.findall(text))
    phrases = list(dict.fromkeys(filter(None, quoted)))[:PHRASES_MAX]
    said = list(dict.fromkeys(words_of(text)))
    telling = [word for word in said if word not in FUNCTION_WORDS] or said
    words: dict[str, str] = {}
    for word in telling:
        words.setdefault(stem_of(word), word)
    kept = dict(list(words.items())[:TERMS_MAX])
    return Question(kept, tuple(phrases))


def corrected(
    question: Question, missing: Iterable[str], said: Mapping[str, int]
) -> list[Correction]:
    """Find for each missing term the closest word that was `said`, and how often, if one is close."""
    literal = {word for phrase in question.phrases for word in phrase}
    words = [question.words[term] for term in missing]
    found = ((word, _closest(word, said)) for word in words if word not in literal)
    return [Correction(word, instead) for word, instead in found if instead is not None]


def with_corrections(question: Question, corrections: Iterable[Correction]) -> Question:
    """Ask for the corrected words instead."""
    instead = {one.word: one.instead for one in corrections}
    words = [instead.get(word, word) for word in question.words.values()]
    return Question({stem_of(word): word for word in words}, question.phrases)


def _closest(word: str, said: Mapping[str, int]) -> str | None:
    """Give the word with the fewest mistakes between; of equals the one said most often."""
    if len(word) < CORRECTED_CHARS_MIN or not word.isalpha():
        return None
    most = 2 if len(word) >= TWICE_WRONG_CHARS_MIN else 1
    near = [
        (mistakes_between(word, one, most), -count, one)
        for one, count in said.items()
        # The first letter is hardly ever the wrong one, but it may have changed places.
        if word[0] in one[:2] and one[0] in word[:2]
    ]
    fewest = min(near, default=(most + 1, 0, ""))
    return fewest[2] if fewest[0] <= most else None


def mistakes_between(word: str, other: str, most: int) -> int:
    """Count letters put in, left out, changed or swapped with the next; `most` + 1 if there are more."""
    if abs(len(word) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, letter in enumerate(word, 1):
        row = [i]
        for j, its in enumerate(other, 1):
            cost = min(row[-1] + 1, last[j] + 1, last[j - 1] + (letter != its))
            if i > 1 and j > 1 and letter == other[j - 2] and word[i - 2] == its:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
        before, last = last, row
    return min(last[-1], most + 1)


def counted(texts: Iterable[str]) -> Counter[str]:
    """Count the words that texts are made of, those that could be meant by a mistaken one."""
    return Counter(
        word
        for text in texts
        for word in words_of(text)
        if len(word) >= CORRECTED_CHARS_MIN - 1 and word.isalpha()
    )
