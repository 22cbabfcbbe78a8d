"""What a search finds, and what is read where it found it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.conversation import Lineage
from projections.search_questions import Correction
from projections.search_texts import Kind, Role


@dataclass(frozen=True, slots=True)
class Hit:
    """A text that was found: `place` names its item in the window, `version` the fact itself.

    `text` is a stretch of it around what was looked for. Scores compare the hits of one search.
    """

    place: int
    version: int
    role: Role
    kind: Kind
    at: datetime
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The hits, the best first, and which words were taken for others.

    A hit with a place of 0 or less is a fork's ancestor's: `lineage` tells whose.
    """

    hits: tuple[Hit, ...] = ()
    corrections: tuple[Correction, ...] = ()
    lineage: Lineage = field(default_factory=Lineage)


@dataclass(frozen=True, slots=True)
class Item:
    """What was said at a place: its texts in order. Of a long one only the beginning is there."""

    place: int
    role: Role
    at: datetime
    texts: tuple[str, ...]
    chars_left_out: int = 0


@dataclass(frozen=True, slots=True)
class Only:
    """Which texts will do: of which roles, said when; `until` is the first moment too late."""

    roles: frozenset[Role] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def holds(self, role: str, at: datetime) -> bool:
        """Tell whether a text is one of them."""
        return (
            (self.roles is None or role in self.roles)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
        )


ANY: Final = Only()
