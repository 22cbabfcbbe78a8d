"""What was said in texts, by kind: which finder goes first, and what it leaves to the others."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from projections.retention.amounts import money, numbers
from projections.retention.code import blocks, commands, quotes, spans
from projections.retention.dates import dates
from projections.retention.identifiers import identifiers
from projections.retention.links import links
from projections.retention.names import Names
from projections.retention.paths import paths
from projections.retention.sentences import promises, questions
from projections.retention.things import Finder, Taken, Thing

# In order: whatever a finder takes is not searched by the later ones. Each finds within a line and
# needs nothing but the line, so a text is found in any other that contains its lines.
EXACT: Final[tuple[Finder, ...]] = (links, commands, paths, money, dates, identifiers, numbers)
# Code and quotations, which take the things inside them, but for a thing that is all that is inside.
ENCLOSING: Final[tuple[Finder, ...]] = (blocks, spans, quotes)
SENTENCES: Final[tuple[Finder, ...]] = (questions, promises)


def found_in(texts: Sequence[str]) -> Iterator[Thing]:
    """Find the things in plain texts; no character is part of two, sentences aside."""
    names = Names(texts)
    for text in texts:
        taken = Taken(text)
        enclosing, exact = _enclosed(text, list(exact_in(text)))
        for thing in (*enclosing, *exact):
            taken.take(thing.start, thing.end)
            yield thing
        yield from taken.first(names(text))
        yield from chain.from_iterable(find(text) for find in SENTENCES)


def exact_in(text: str) -> Iterator[Thing]:
    """Find what has its own form, be it in code, in quotation marks or not."""
    taken = Taken(text)
    for find in EXACT:
        yield from taken.first(find(text))


def _enclosed(text: str, exact: list[Thing]) -> tuple[list[Thing], list[Thing]]:
    """Give what encloses, and the things outside of it."""
    alone = {thing.text.strip("\"'") for thing in exact}
    taken = Taken(text)
    found = [
        thing
        for find in ENCLOSING
        for thing in taken.first(
            one for one in find(text) if one.text.removeprefix("$ ") not in alone
        )
    ]
    return found, [thing for thing in exact if taken.free(thing.start, thing.end)]
