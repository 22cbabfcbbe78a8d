"""Which texts of a conversation answer a question best: BM25, by the conversation's own statistics.

A word is worth the more, the fewer texts of this conversation have it. A text is worth what its own
words are, and as much again for what it and its neighbours have together: in a dialogue the answer
often stands beside the words of the question. How often a text repeats a word does not count, so
that a long one does not win by saying little many times.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

# How fast a word is worth no more when it comes again, and how much long texts are held back. The
# figures are those found best for short texts; `benchmarks/searching.py` shows what others do.
SATURATION: Final = 0.9
LENGTH_SHARE: Final = 0.3
# What a word in a text itself, in the next one on either side, and so on, counts for in a passage;
# and what the passage is worth beside the text itself.
NEARNESS: Final = (1.0, 1.0, 0.8, 0.6)
PASSAGE_SHARE: Final = 1.0


class Posting(NamedTuple):
    """That a text, named by its version, has a term, and how many terms it has altogether."""

    version: int
    terms: int


class Mention(NamedTuple):
    """A posting of some conversation: that its text of this version has a term."""

    stream: str
    version: int
    terms: int


class Weights(NamedTuple):
    """How texts are ranked."""

    saturation: float = SATURATION
    length_share: float = LENGTH_SHARE
    nearness: tuple[float, ...] = NEARNESS
    passage_share: float = PASSAGE_SHARE


BY_PASSAGE: Final = Weights()
# For texts that stand alone: what is beside one says nothing of it.
BY_TEXT: Final = Weights(nearness=(), passage_share=0.0)


def ranked(
    postings: Iterable[Sequence[Posting]],
    texts: Sequence[int],
    weights: Weights = BY_PASSAGE,
    *,
    postings_max: int | None = None,
) -> list[tuple[int, float]]:
    """Give versions of texts with their scores, the best first; of equals the newest.

    `postings` are those of each term, `texts` the versions of all texts in order. Of a term with
    `postings_max` postings only the newest are known.
    """
    found = [one for one in postings if one]
    numbers = {version: number for number, version in enumerate(texts)}
    mean = _mean_terms(found)
    scores: dict[int, float] = {}
    for term in found:
        lengths = {
            numbers[one.version]: 1 + weights.length_share * (one.terms / mean - 1)
            for one in term
            if one.version in numbers
        }
        among = len(texts) - min(lengths, default=0) if len(term) == postings_max else len(texts)
        worth = _rarity(len(lengths), among)
        for number, length in lengths.items():
            _add(scores, number, worth * _saturated(1, weights.saturation, length))
        for number, count in _passages(lengths, len(texts), weights.nearness).items():
            _add(
                scores,
                number,
                weights.passage_share * worth * _saturated(count, weights.saturation),
            )
    order = sorted(scores.items(), key=lambda one: (-one[1], -one[0]))
    return [(texts[number], score) for number, score in order if score > 0]


def _passages(
    lengths: Mapping[int, float], texts: int, nearness: Sequence[float]
) -> dict[int, float]:
    """Count around each text those that have the term, long ones for less."""
    shares = [(away, share) for away, share in enumerate(nearness)]
    shares += [(-away, share) for away, share in shares[1:]]
    counts: dict[int, float] = {}
    for number, length in lengths.items():
        whole = max(1.0, length)
        for away, share in shares:
            near = number + away
            if 0 <= near < texts:
                counts[near] = counts.get(near, 0.0) + share / whole
    return counts


def _add(sums: dict[int, float], key: int, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value


def _rarity(holders: int, texts: int) -> float:
    """Tell what a term is worth that so many of so many texts have."""
    return math.log1p((max(texts - holders, 0) + 0.5) / (holders + 0.5))


def _saturated(count: float, saturation: float, length: float = 1.0) -> float:
    return count * (saturation + 1) / (count + saturation * length)


def _mean_terms(postings: Iterable[Sequence[Posting]]) -> float:
    counts = [one.terms for term in postings for one in term]
    return sum(counts) / len(counts) if counts else 1.0
