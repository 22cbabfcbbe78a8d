"""English words cut down to their stems, by Porter's algorithm of 1980: "walking" is "walk".

Words of other languages keep most of what they are; what matters is that a text and a question go
through the same cut. The rules are those that the algorithm was published with.
"""

import re
from functools import lru_cache
from typing import Final, TypeAlias

STEMS_CACHED_MAX: Final = 50_000
# Shorter words are their own stems.
LETTERS_MIN: Final = 3

Rules: TypeAlias = dict[str, str]

_PLAIN: Final = re.compile(r"[a-z]+")
_ENDS: Final[Rules] = {"sses": "ss", "ies": "i", "ss": "ss", "s": ""}
_DOUBLE_SUFFIXES: Final[Rules] = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "abli": "able",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
}
_SUFFIXES: Final[Rules] = {
    "icate": "ic",
    "ative": "",
    "alize": "al",
    "iciti": "ic",
    "ical": "ic",
    "ful": "",
    "ness": "",
}
_LAST_SUFFIXES: Final[Rules] = dict.fromkeys(
    (
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent"),
        *("sion", "tion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    ),
    "",
)


@lru_cache(maxsize=STEMS_CACHED_MAX)
def stem_of(word: str) -> str:
    """Give the stem of a word in lower case; what is not plain Latin letters stays as it is."""
    if len(word) < LETTERS_MIN or _PLAIN.fullmatch(word) is None:
        return word
    word = _without_past(_replaced(word, _ENDS, measure_min=0))
    if word.endswith("y") and "v" in _shape(word[:-1]):
        word = f"{word[:-1]}i"
    word = _replaced(word, _DOUBLE_SUFFIXES, measure_min=1)
    word = _replaced(word, _SUFFIXES, measure_min=1)
    return _tidied(_without_last(word))


def _shape(word: str) -> str:
    """Spell a word in `v` for vowels and `c` for consonants; `y` is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    """Count how often consonants follow vowels: about the number of syllables."""
    return _shape(word).count("vc")


def _ends_short(word: str) -> bool:
    """Tell whether a word ends like "hop": consonant, vowel, consonant that is not w, x or y."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"


def _replaced(word: str, rules: Rules, *, measure_min: int) -> str:
    """Replace the longest suffix that there is a rule for, if enough is left before it."""
    for length in range(min(len(word), 7), 0, -1):
        instead = rules.get(word[-length:])
        if instead is not None:
            kept = word[:-length]
            return kept + instead if _measure(kept) >= measure_min else word
    return word


def _without_past(word: str) -> str:
    """Take away `ed` and `ing`, and put back the `e` that they had taken."""
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        kept = word.removesuffix(suffix)
        if kept != word and "v" in _shape(kept):
            return _mended(kept)
    return word


def _mended(word: str) -> str:
    if word.endswith(("at", "bl", "iz")):
        return f"{word}e"
    if len(word) > 1 and word[-1] == word[-2] and _shape(word).endswith("cc"):
        return word if word[-1] in "lsz" else word[:-1]
    return f"{word}e" if _measure(word) == 1 and _ends_short(word) else word


def _without_last(word: str) -> str:
    for length in range(min(len(word), 5), 1, -1):
        suffix = word[-length:]
        if suffix in _LAST_SUFFIXES:
            # Of "-sion" and "-tion" the first letter stays.
            cut = 3 if suffix in ("sion", "tion") else length
            return word[:-cut] if _measure(word[:-cut]) > 1 else word
    return word


def _tidied(word: str) -> str:
    """Take away a last `e`, and one of two last `l`."""
    if word.endswith("e"):
        kept = word[:-1]
        if _measure(kept) > 1 or (_measure(kept) == 1 and not _ends_short(kept)):
            word = kept
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
