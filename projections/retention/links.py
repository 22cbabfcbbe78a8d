"""URLs and e-mail addresses."""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from linkify_it import LinkifyIt  # pyright: ignore[reportMissingTypeStubs]

from projections.retention.things import Thing
from projections.retention.vocabulary import TLDS

# Nobody types a longer one; what is longer is data, and is searched no further.
CHUNK_CHARS_MAX: Final = 4_096
CHUNK: Final = re.compile(r"\S+")
# What every link has.
MARKS: Final = re.compile(r"\w@\w|//|www\.|mailto:|\w\.[a-z]{2}", re.IGNORECASE)
SCHEME: Final = re.compile(r"(?:https?:)?//(?:www\.)?|www\.")


def links(text: str) -> Iterator[Thing]:
    """Find URLs, also those without a scheme, and e-mail addresses."""
    if MARKS.search(text) is None:
        return
    for chunk in CHUNK.finditer(text):
        word = chunk[0]
        # All but http://localhost have a point inside, and few other words have one.
        likely = "." in word[1:-1] or "//" in word
        if likely and len(word) <= CHUNK_CHARS_MAX:
            for start, end, schema in _linkified(word):
                yield _link(chunk.start() + start, word[start:end], schema)


def _link(start: int, said: str, schema: str) -> Thing:
    if schema == "mailto:":
        key = said.casefold().removeprefix("mailto:")
        return Thing("email", start, start + len(said), said, key)
    key = SCHEME.sub("", said.casefold(), count=1).rstrip("/")
    return Thing("url", start, start + len(said), said, key)


LINKIFY: Final[Any] = cast("Any", LinkifyIt)().tlds(list(TLDS))


def _linkified(word: str) -> list[tuple[int, int, str]]:
    """Ask the library, which has no types: start, end and schema of each link."""
    found = cast("list[Any] | None", LINKIFY.match(word))
    return [(link.index, link.last_index, link.schema) for link in found or ()]
