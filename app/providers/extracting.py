"""A summary without a model: sentences picked from what was said, in order, none of them written.

A sentence counts for its words that many others share, and for what in it cannot be guessed: names,
numbers, dates, places to look things up. The same conversation gives the same summary.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from math import log, log1p
from typing import Final, NamedTuple

import orjson

from projections.transcript import Entry

LABEL: Final = "[demo model, not an AI] "
SUMMARY_LABEL: Final = (
    f"{LABEL}These sentences were picked from the conversation by counting words; "
    "nothing here was understood, and none of it was written by a model."
)
SENTENCE_CHARS_MAX: Final = 300
SPEAKER_CHARS_MAX: Final = 60
WORDS_USUAL: Final = 4  # shorter sentences are worth less: they rarely say what they are about
CHARS_PER_WORD: Final = 6  # what a word counts in languages that put no spaces between them
WORDS_MIN: Final = 60  # so much is kept of any conversation; of longer ones at most a half
EARLIER: Final = "earlier"
EARLIER_LINES: Final = 2  # what precedes a summary in its message
NOTHING: Final = "Nothing was said in words."

# What an earlier summary holds stands nowhere else any more.
EARLIER_FACTOR: Final = 2.0

_BREAK: Final = re.compile(r"(?<=[.!?…])\s(?=[^a-z])|(?<=[。\uff01\uff1f])")
_WORD: Final = re.compile(r"\w{3,}")
_PICKED: Final = re.compile(r"^- ([^:]{1,60}): (.+)$")
_MONTHS: Final = "january|february|march|april|june|july|august|september|october|november|december"
_DAYS: Final = "(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_NEAR: Final = "today|tomorrow|yesterday|(?:last|next) (?:week|weekend|month|year)|ago"
# What nobody could guess, and what it adds to a sentence.
_FACTS: Final = (
    (3.0, re.compile(r"\d")),
    (3.0, re.compile(r"https?://|\w@\w")),
    (3.0, re.compile(r"(?:^|[\s\"'(])(?:[A-Z]:\\|[~.]{0,2}/)\w|\w/\w+\.\w")),
    (2.0, re.compile(rf"\b(?:{_MONTHS}|{_DAYS}|{_NEAR})\b", re.IGNORECASE)),
    (2.0, re.compile(r"\w_\w|[a-z][A-Z]|\b[A-Z]{2,}|\w::\w|--\w")),
    (1.0, re.compile(r"(?<=[a-z] )[A-Z][\w'\u2019]")),
    (1.0, re.compile(r"[\"“„«`].{2,}[\"”“»`]")),
    (1.0, re.compile(r"\b(?:I'll|I will|we'll|remind|promise|must|deadline)\b", re.IGNORECASE)),
    (0.5, re.compile(r"[?\uff1f]")),
)
_STOPWORDS: Final = frozenset(
    _WORD.findall(
        "the and for are was were has have had been being but not you your yours our ours his her hers "
        "its they them their theirs she him who whom whose which what when where why how that this these "
        "those there here then than with without from into onto about over under after before again also "
        "can could will would shall should may might must did does doing done just very too more most "
        "much many some any all both each few other such own same only out off down all yes get got let "
        "one two like know think really well good great going want make made said say says see"
    )
)


class Sentence(NamedTuple):
    """A sentence of somebody's. `earlier` says that it comes from an earlier summary."""

    speaker: str
    text: str
    earlier: bool


def summary_of(entries: Iterable[Entry], words_max: int) -> str:
    """Pick the sentences that say most, a line each, in the order in which they were said.

    At most `words_max` words, and of a long conversation at most a half; labelled, never empty.
    """
    sentences = list(_distinct(_sentences(entries)))
    sizes = [_size(one.text) for one in sentences]
    budget = min(words_max, max(WORDS_MIN, sum(sizes) // 2))
    picked = _picked(_scores(sentences), sizes, budget)
    lines = [f"- {sentences[n].speaker}: {sentences[n].text}" for n in picked]
    return "\n".join([SUMMARY_LABEL, *(lines or [NOTHING])])


def _picked(scores: list[float], sizes: list[int], budget: int) -> list[int]:
    """Give the places of the best sentences that fit, and of the best one if it does not."""
    best = sorted(range(len(scores)), key=lambda n: (-scores[n], n))
    picked: list[int] = []
    left = budget
    for n in best:
        if not picked or sizes[n] <= left:
            picked.append(n)
            left -= sizes[n]
    return sorted(picked)


# --- what a sentence is worth -----------------------------------------------------------------


def _scores(sentences: list[Sentence]) -> list[float]:
    words = [_content_words(one.text) for one in sentences]
    weights = _weights(words)
    return [_score(one, found, weights) for one, found in zip(sentences, words, strict=True)]


def _weights(sentences: list[set[str]]) -> dict[str, float]:
    """Weigh each word: one that a few sentences share is what they are about.

    One that stands alone says little of the whole, and one that is everywhere says nothing.
    """
    shared = Counter(word for words in sentences for word in words)
    return {word: log1p(n) * log(1 + len(sentences) / n) for word, n in shared.items()}


def _score(sentence: Sentence, words: set[str], weights: dict[str, float]) -> float:
    topic = sum(weights[word] for word in words) / (len(words) + WORDS_USUAL)
    facts = sum(weight for weight, kind in _FACTS if kind.search(sentence.text))
    return (topic + facts) * (EARLIER_FACTOR if sentence.earlier else 1.0)


def _content_words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _STOPWORDS


def _size(text: str) -> int:
    return max(len(text.split()), len(text) // CHARS_PER_WORD)


# --- what the sentences are -------------------------------------------------------------------


def _distinct(sentences: Iterable[Sentence]) -> Iterator[Sentence]:
    """Leave out what was said before in the same words."""
    known: set[str] = set()
    for one in sentences:
        key = one.text.casefold()
        if key not in known:
            known.add(key)
            yield one


def _sentences(entries: Iterable[Entry]) -> Iterator[Sentence]:
    """Give all sentences. What the demo said itself only repeats what others did."""
    for entry in entries:
        summary = _earlier_summary(entry.text)
        if summary is not None:
            yield from _carried_over(summary)
        elif not entry.text.startswith(LABEL):
            speaker = entry.speaker[:SPEAKER_CHARS_MAX]
            for line in entry.text.splitlines():
                yield from (Sentence(speaker, text, earlier=False) for text in _split(line))


def _earlier_summary(text: str) -> str | None:
    """Give the summary in a message that stands for still earlier ones (contract 8.6)."""
    if not text.startswith("{") or "system_alert" not in text:
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    message = found.get("message")
    return message if found.get("type") == "system_alert" and isinstance(message, str) else None


def _carried_over(summary: str) -> Iterator[Sentence]:
    """Give an earlier summary's sentences; of one like ours, with those who said them."""
    for line in summary.splitlines()[EARLIER_LINES:]:
        picked = _PICKED.match(line.strip())
        if picked is not None:
            yield Sentence(picked[1], picked[2], earlier=True)
        elif not line.strip().startswith(LABEL):
            yield from (Sentence(EARLIER, text, earlier=True) for text in _split(line))


def _split(line: str) -> Iterator[str]:
    """Split a line into sentences, and what is too long for one where it has a space."""
    for text in _BREAK.split(" ".join(line.split())):
        start = 0
        while start < len(text):
            end = _end_of_piece(text, start)
            if piece := text[start:end].strip():
                yield piece
            start = end


def _end_of_piece(text: str, start: int) -> int:
    end = start + SENTENCE_CHARS_MAX
    if end >= len(text):
        return len(text)
    space = text.rfind(" ", start, end)
    return end if space <= start else space
