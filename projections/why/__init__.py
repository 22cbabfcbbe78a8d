"""Why an agent has forgotten something: whether it was said, where it went, what is left of it."""

from projections.why.answer import Findings, Found, answer_of
from projections.why.sentence import sentence_of
from projections.why.times import Stay, Thing, Timeline, timeline_of
from projections.why.values import (
    Asked,
    Evictor,
    Link,
    Near,
    Occurrence,
    Reachable,
    Role,
    Survivor,
    Swapped,
    Verdict,
    WhyAnswer,
)
from projections.why.words import (
    Closeness,
    Phrase,
    Telling,
    content_terms,
    phrase_of,
    telling_of,
    words_held,
)

__all__ = [
    "Asked",
    "Closeness",
    "Evictor",
    "Findings",
    "Found",
    "Link",
    "Near",
    "Occurrence",
    "Phrase",
    "Reachable",
    "Role",
    "Stay",
    "Survivor",
    "Swapped",
    "Telling",
    "Thing",
    "Timeline",
    "Verdict",
    "WhyAnswer",
    "answer_of",
    "content_terms",
    "phrase_of",
    "sentence_of",
    "telling_of",
    "timeline_of",
    "words_held",
]
