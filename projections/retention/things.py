"""A thing said, and where: what all finders give."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from domain.retention import Kind


@dataclass(frozen=True, slots=True)
class Thing:
    """A part of a plain text; what is spelled otherwise but means the same has the same `key`."""

    kind: Kind
    start: int
    end: int
    text: str
    key: str


Finder: TypeAlias = Callable[[str], Iterable[Thing]]


class Taken:
    """Which characters of a text are spoken for."""

    def __init__(self, text: str) -> None:
        self._taken = bytearray(len(text))

    def free(self, start: int, end: int) -> bool:
        """Tell whether no character of the span is."""
        return self._taken.find(1, start, end) < 0

    def take(self, start: int, end: int) -> None:
        """Speak for a span."""
        self._taken[start:end] = b"\x01" * (end - start)

    def first(self, things: Iterable[Thing]) -> Iterator[Thing]:
        """Take and give the things that are free when their turn comes."""
        for thing in things:
            if self.free(thing.start, thing.end):
                self.take(thing.start, thing.end)
                yield thing
