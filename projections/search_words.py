"""From a text to the words it is searched by, the same way whoever stores it and whoever asks.

Words are in lower case and without accents; terms are their stems. What a database indexes are these
terms and not the text: every engine finds the same, and none needs a language installed.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from projections.search_stems import stem_of

# An engine's index refuses a key of some thousand bytes; no word that is looked for is so long.
WORD_CHARS_MAX: Final = 64

# Scripts that put no spaces between words: each character is one. Kana, Han, and Han's later blocks.
_SPACELESS: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD: Final = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")
_ASCII_WORD: Final = re.compile(r"[a-z0-9]+")
# What English hangs on a word behind an apostrophe.
_CLITIC: Final = re.compile(r"['\u2019](?:s|t|m|d|ll|re|ve)\b")
_SPACE: Final = re.compile(r"\s+")

# Words that say how a question is put, and not what it is about.
_FUNCTION_WORDS: Final = """
a about after again against ain all also am an and any are aren as at be because been before being
below between both but by can cannot could couldn did didn do does doesn doing don down during each
few for from further had hadn has hasn have haven having he her here hers herself him himself his
how i if in into is isn it its itself just let ll me more most mustn my myself no nor not of off on
once only or other ought our ours ourselves out over own please re same shall shan she should
shouldn so some such tell than that the their theirs them themselves then there these they this
those through to too under until up us ve very was wasn we were weren what when where which while
who whom whose why will with would wouldn you your yours yourself yourselves
"""
FUNCTION_WORDS: Final = frozenset(_FUNCTION_WORDS.split())


def folded(text: str) -> str:
    """Give a text in lower case and without accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFKD", text)
    kept = "".join(one for one in apart if not unicodedata.combining(one))
    return unicodedata.normalize("NFC", kept.casefold())


def words_of(text: str) -> list[str]:
    """Give a text's words in order; what hangs on one behind an apostrophe is left out."""
    plain = _CLITIC.sub(" ", folded(text))
    found = (_ASCII_WORD if plain.isascii() else _WORD).findall(plain)
    return [word[:WORD_CHARS_MAX] for word in found]


def terms_of(text: str) -> list[str]:
    """Give the stems of a text's words, each once, in order."""
    return list(dict.fromkeys(map(stem_of, words_of(text))))


def has_phrase(text: str, phrase: tuple[str, ...]) -> bool:
    """Tell whether a text's words hold a phrase's, one right after the other."""
    return f" {' '.join(phrase)} " in f" {' '.join(words_of(text))} "


# --- excerpts ---------------------------------------------------------------------------------


def excerpt_of(text: str, terms: frozenset[str], chars_max: int) -> str:
    """Give the stretch of a text in which most of the terms are, dots where something is left out."""
    text = _SPACE.sub(" ", unicodedata.normalize("NFC", text)).strip()
    if len(text) <= chars_max:
        return text
    best = _best_start(list(_found_in(text, terms)), chars_max)
    # Some words before the first match say what it is about; at the end nothing is wasted.
    start = max(0, min(best - chars_max // 4, len(text) - chars_max))
    end = start + chars_max
    if start:
        start = text.find(" ", start, best) + 1 or start
    if end < len(text):
        end = max(text.rfind(" ", best, end), 0) or end
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"


def _found_in(text: str, terms: frozenset[str]) -> Iterator[tuple[int, str]]:
    for word in _WORD.finditer(text):
        term = stem_of(folded(word.group())[:WORD_CHARS_MAX])
        if term in terms:
            yield word.start(), term


def _best_start(found: list[tuple[int, str]], chars_max: int) -> int:
    """Tell from where on most different terms are within reach."""
    reach = chars_max * 3 // 4
    best, best_count, end = 0, 0, 0
    held: dict[str, int] = {}
    for start, term in found:
        while end < len(found) and found[end][0] < start + reach:
            held[found[end][1]] = held.get(found[end][1], 0) + 1
            end += 1
        if len(held) > best_count:
            best, best_count = start, len(held)
        held[term] -= 1
        if not held[term]:
            del held[term]
    return best
