"""What of the things said is in a summary."""

from collections import defaultdict
from math import ceil
from typing import Final

from domain.retention import Kind
from projections.retention.dates import implied
from projections.retention.finding import exact_in
from projections.retention.plain import joined, plain, stems_of, tokens_of

# The share of a sentence's content words that must be in one line of the summary: who retells a
# question or a promise keeps its nouns and verbs and loses adjectives and asides. From half of the
# words on, lines about other things share them by chance; with two thirds, retellings are missed.
SENTENCE_SHARE_MIN: Final = 0.6
# What comes after as many lines counts as one more, so that a summary of very many costs no more.
LINES_MAX: Final = 1_000
# From so many places of its rarest token on, a search of the whole summary for a thing is quicker.
PLACES_MAX: Final = 64


class Summary:
    """A summary, ready to be asked for things.

    More text never makes it hold less, as long as the text begins on a new line.
    """

    def __init__(self, text: str) -> None:
        text = plain(text)
        self._tokens = tokens_of(text)
        self._joined = joined(self._tokens)
        self._places: defaultdict[str, list[int]] = defaultdict(list)
        for place, token in enumerate(self._tokens):
            self._places[token].append(place)
        self._lines: defaultdict[str, int] = defaultdict(int)
        for number, line in enumerate(text.split("\n", LINES_MAX)):
            for stem in stems_of(line):
                self._lines[stem] |= 1 << number
        self._keys: defaultdict[Kind, set[str]] = defaultdict(set)
        for thing in exact_in(text):
            keys = implied(thing.key) if thing.kind == "date" else (thing.key,)
            self._keys[thing.kind].update(keys)

    def holds(self, kind: Kind, key: str) -> bool:
        """Tell whether a thing survives: its value, its words in a row, or most of its words."""
        match kind:
            case "money" | "path" | "url" | "email" | "identifier":
                return key in self._keys[kind]
            case "number" | "date":  # a year may look like either
                return any(
                    reading in self._keys["date"] or reading in self._keys["number"]
                    for reading in key.split("|")
                )
            case "name" | "code" | "quote" | "command":
                return self._says(key)
            case "question" | "promise":
                return self._retells(key)

    def _says(self, key: str) -> bool:
        """Tell whether tokens are in the summary in a row.

        Looking at the few places of the rarest one is quick where there are very many things.
        """
        tokens = key.split()
        times, rarest = min((len(self._places.get(one, ())), n) for n, one in enumerate(tokens))
        if times > PLACES_MAX:
            return key in self._joined
        starts = (place - rarest for place in self._places.get(tokens[rarest], ()))
        return any(
            self._tokens[start : start + len(tokens)] == tokens for start in starts if start >= 0
        )

    def _retells(self, key: str) -> bool:
        """Tell whether some line has enough of a sentence's stems.

        Lines are bits: `having[n]` are those with at least n of the stems so far.
        """
        stems = key.split()
        wanted = ceil(SENTENCE_SHARE_MIN * len(stems))
        having = [-1] + [0] * wanted
        for stem in stems:
            lines = self._lines.get(stem, 0)
            for n in range(wanted, 0, -1):
                having[n] |= having[n - 1] & lines
        return having[wanted] != 0
