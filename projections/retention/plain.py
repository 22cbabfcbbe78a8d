"""Texts as they are compared: without the ways in which the same words can be spelled."""

import re
from collections.abc import Iterable
from typing import Final
from unicodedata import normalize

from projections.retention.vocabulary import FUNCTION_WORDS

# Soft hyphens, zero-width characters, marks of direction: seen by nobody, between any two letters.
INVISIBLE: Final = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
TYPOGRAPHY: Final = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u02bc\u00b4", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2122\u00ae\u00a9", ""),  # NFKC would spell the first out as letters
        **dict.fromkeys(INVISIBLE, ""),
    }
)
TOKEN: Final = re.compile(r"[^\W_]+|[^\w\s]|_")
WORD: Final = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")
ENDINGS: Final = ("ing", "ed", "es", "s")
STEM_CHARS_MIN: Final = 3


def plain(text: str) -> str:
    """Give one spelling to what Unicode and typographers spell in several; case stays."""
    return normalize("NFKC", text.translate(TYPOGRAPHY))


def tokens_of(text: str) -> list[str]:
    """Cut a plain text into words and signs, without case and space."""
    return TOKEN.findall(text.casefold())


def joined(tokens: Iterable[str]) -> str:
    """Write tokens so that one row of them holds another exactly if the text holds it.

    The spaces around it keep words whole: " an " is not in " ann ".
    """
    return f" {' '.join(tokens)} "


def stems_of(text: str) -> frozenset[str]:
    """Give the content words of a plain text, without their commonest endings."""
    words = (word.split("'")[0] for word in WORD.findall(text.casefold()))
    return frozenset(_stem(word) for word in words if len(word) > 1 and word not in FUNCTION_WORDS)


def _stem(word: str) -> str:
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= STEM_CHARS_MIN:
            return word.removesuffix(ending).removesuffix("e")
    return word.removesuffix("e") if len(word) > STEM_CHARS_MIN else word
