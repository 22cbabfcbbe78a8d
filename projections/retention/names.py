"""Names of people, places, products: what is written with a capital where nothing else asks for one.

No model and no list of names is behind it, only how a word is written in all of the texts. A row of
capitalised words is a name, a single one if it is not written small more often. At the start of a
sentence, where every word has a capital, one counts if it is a name in the middle of another. So
names are found in languages that write small what is no name, and not in German, nor in scripts
without capitals.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from projections.retention.plain import joined, tokens_of
from projections.retention.things import Thing
from projections.retention.vocabulary import NO_NAMES

UPPER: Final = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u017f\u0386-\u03ab\u0400-\u042f"
_CAPITAL: Final = rf"(?:[ei](?=[A-Z]))?[{UPPER}][^\W_]{{0,63}}(?:['&-][^\W\d_]{{1,63}}){{0,4}}"
_TITLED: Final = rf"(?:(?:Mrs?|Ms|Dr|St|Prof|Mt)\.[ ])?{_CAPITAL}"
# What holds a name together, as in "Bank of America" and "Vincent van Gogh".
_BETWEEN: Final = r"(?:of[ ]the|of|on[ ]the|de[ ]la|del?|der|d[ai]|van[ ]der|v[ao]n|y)"
ROW: Final = re.compile(
    rf"(?<![\w'.@#/$-]){_TITLED}(?:[ ](?:{_BETWEEN}[ ])?{_TITLED}){{0,7}}(?![^\W_])"
)
WORD: Final = re.compile(r"[^ ]+")
SMALL: Final = re.compile(r"(?<![\w'])[^\W\d_A-Z]{2,64}(?![\w])")
# Behind these a capital is somebody's choice; behind anything else a sentence may begin.
MIDDLE: Final = frozenset(",;&")
VERBAL: Final = ("ed", "ing", "ly")


@dataclass(frozen=True, slots=True)
class Row:
    """Capitalised words side by side, from `offset`, and whether a sentence begins with them."""

    words: tuple[re.Match[str], ...]
    offset: int
    begins: bool


Run: TypeAlias = tuple[re.Match[str], ...]


class Names:
    """Finds names by how words are written in all of the given texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._small: Counter[str] = Counter()
        self._large: Counter[str] = Counter()
        self._rows = {text: tuple(_rows(text)) for text in texts}
        for text in texts:
            self._small.update(SMALL.findall(text))
            for row in self._rows[text]:
                self._large.update(_bare(word[0]) for word in row.words[row.begins :])

    def __call__(self, text: str) -> Iterator[Thing]:
        """Find the names in one of the texts."""
        for row in self._rows[text]:
            for run, begins in _runs(row):
                words = self._trusted(run) if begins else run
                if len(words) > 1 or (words and self._alone(words[0][0], begins and words is run)):
                    yield _name(text, row.offset + words[0].start(), row.offset + words[-1].end())

    def _trusted(self, run: Run) -> Run:
        """Drop the word that begins a sentence from a longer name, unless it is one itself."""
        bare = _bare(run[0][0])
        known = self._usually_large(bare)
        if known or (len(run) > 1 and not (self._small[bare] or bare.endswith(VERBAL))):
            return run
        rest = run[1:]
        while rest and rest[0][0].islower():
            rest = rest[1:]
        return rest or run

    def _alone(self, word: str, begins: bool) -> bool:
        """Tell a name from a word with a capital for emphasis, or for beginning a sentence."""
        bare = _bare(word)
        if len(bare) == 1:
            return False
        if word.isupper():
            return not self._small[bare]
        return self._usually_large(bare) or not (begins or self._small[bare])

    def _usually_large(self, bare: str) -> bool:
        return self._large[bare] > 0 and self._large[bare] >= self._small[bare]


def _rows(text: str) -> Iterator[Row]:
    for match in ROW.finditer(text):
        before = text[max(0, match.start() - 2) : match.start()].rstrip(" ")
        middle = bool(before) and (before[-1].isalnum() or before[-1] in MIDDLE)
        yield Row(tuple(WORD.finditer(match[0])), match.start(), not middle)


def _runs(row: Row) -> Iterator[tuple[Run, bool]]:
    """Part a row where a word is no name; tell of each part whether a sentence begins with it."""
    start = 0
    for place in range(len(row.words) + 1):
        if place == len(row.words) or _no_name(row.words[place][0]):
            run = row.words[start:place]
            while run and run[-1][0].islower():
                run = run[:-1]
            if run:
                yield run, row.begins and start == 0
            start = place + 1


def _no_name(word: str) -> bool:
    return not word.islower() and _bare(word) in NO_NAMES


def _bare(word: str) -> str:
    return word.casefold().removesuffix("'s").removesuffix(".")


def _name(text: str, start: int, end: int) -> Thing:
    said = text[start:end].removesuffix("'s")
    return Thing("name", start, start + len(said), said, joined(tokens_of(said)))
