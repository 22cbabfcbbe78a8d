"""Questions that are open, and promises.

A question is open if its own text does not go on to answer it with a yes, a no or a because. Whether
a later message answers it needs somebody who understands it, so that counts for nothing here.

A promise is a sentence in which somebody says what they will do or want to be reminded of. "Let
me" is one only with a time to do it: "let me check tomorrow", not "let me know".
"""

import re
from collections.abc import Iterator
from typing import Final

from domain.retention import Kind
from projections.retention.plain import joined, stems_of
from projections.retention.things import Thing

# "How are you?" and "I'll do it." tell nothing that a summary could keep.
CONTENT_WORDS_MIN: Final = 2
# What goes on for longer without a full stop is data.
SENTENCE_CHARS_MAX: Final = 600
END: Final = re.compile(r"(?<=[.!?])[\"')*_]{0,3}[ \t]+|(?<=[.!?])(?=[A-Z][a-z])|\n")
ANSWER: Final = re.compile(r"(?:yes|yeah|yep|yup|no|nope|because|since|of course)\b", re.IGNORECASE)
PROMISE: Final = re.compile(
    r"\b(?:(?:i|we)(?:'ll| will| shall)(?! (?:always|never|be honest|say\b|admit))|i promise|remind me"
    r"|(?:i'm|i am|we're|we are) (?:gonna|going to(?! (?:a|an|the|my|our|this|that)\b))"
    r"|let me(?! know)\b.{0,200}?\b(?:tomorrow|later|tonight|soon|next|today|by|on|in|this|first|then))"
    r"\b",
    re.IGNORECASE,
)
# What a text must hold for the search to be worth it.
PROMISE_PARTS: Final = ("'ll", "will", "shall", "promise", "remind", "going to", "gonna", "let me")


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Give where each sentence of a plain text begins and ends; none goes over a line."""
    start = 0
    for end in END.finditer(text):
        yield start, end.start()
        start = end.end()
    yield start, len(text)


def questions(text: str) -> Iterator[Thing]:
    """Find open questions."""
    if "?" not in text:
        return
    asked: list[Thing] = []
    for start, end in sentences(text):
        said = text[start:end].strip()
        if said:
            if ANSWER.match(said) is None:
                yield from asked
            asked = list(_sentence("question", start, end, said)) if _asks(said) else []
    yield from asked


def promises(text: str) -> Iterator[Thing]:
    """Find promises, their negatives and reminders asked for too."""
    small = text.casefold()
    if not any(part in small for part in PROMISE_PARTS) or PROMISE.search(text) is None:
        return
    for start, end in sentences(text):
        said = text[start:end].strip()
        if not _asks(said) and PROMISE.search(said):
            yield from _sentence("promise", start, end, said)


def _asks(said: str) -> bool:
    mark = said.rfind("?")
    return mark >= 0 and not any(char.isalnum() for char in said[mark:])


def _sentence(kind: Kind, start: int, end: int, said: str) -> Iterator[Thing]:
    """Give a sentence, unless it says too little; the same in other forms of its words is the same."""
    stems = stems_of(said) if len(said) <= SENTENCE_CHARS_MAX else ()
    if len(stems) >= CONTENT_WORDS_MIN:
        yield Thing(kind, start, end, said, joined(sorted(stems)))
