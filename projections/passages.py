"""An archive's passages as they are read, and which of them somebody wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from pydantic_core import from_json

from projections.columns import Scalar, sortable
from projections.search_questions import Correction

TagMatch: TypeAlias = Literal["any", "all"]
# How passages were found: newest first without words, by their words, or by words and meaning.
SearchMode: TypeAlias = Literal["newest", "text", "hybrid"]

YEARS: Final = range(1970, 9999)


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage; `version` is the offset of its insertion."""

    archive_id: str
    passage_id: str
    version: int
    text: str
    tags: tuple[str, ...]
    created_at: datetime
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which passages will do: under any or all of some tags, of which time.

    `until` is the first moment too late; `at` an offset as of which the archive is looked at.
    """

    tags: Sequence[str] = ()
    match: TagMatch = "any"
    since: datetime | None = None
    until: datetime | None = None
    at: int | None = None


EVERY: Final = Wanted()


@dataclass(frozen=True, slots=True)
class PassageHit:
    """A passage that was found. Scores compare the hits of one search."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """The hits, the best first, how they were found, and which words were taken for others."""

    hits: tuple[PassageHit, ...]
    mode: SearchMode
    corrections: tuple[Correction, ...] = ()


class Conditions:
    """Conditions on the rows of an archive's passages `p` and their texts `t`, gathered.

    They are written for SQLite, as a store's `query` takes them.
    """

    def __init__(self, archive_id: str, wanted: Wanted = EVERY, *, deleted: bool = False) -> None:
        self.params: list[Scalar] = [archive_id]
        self._where = ["p.archive_id = ?"]
        if wanted.at is None and not deleted:
            self.add("p.deleted_at IS NULL")
        if wanted.at is not None:
            self.add("p.version <= ?", wanted.at)
            self.add("(p.deleted_at IS NULL OR p.deleted_at > ?)", wanted.at)
        if wanted.since is not None:
            self.add("p.created_at >= ?", sortable(wanted.since))
        if wanted.until is not None:
            self.add("p.created_at < ?", sortable(wanted.until))
        self._tagged(wanted.tags, wanted.match)

    def add(self, condition: str, *params: Scalar) -> None:
        """Add a condition."""
        self._where.append(condition)
        self.params += params

    def _tagged(self, tags: Sequence[str], match: TagMatch) -> None:
        if tags:
            glue = " AND " if match == "all" else " OR "
            one = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
            self.add(f"({glue.join([one] * len(tags))})", *tags)

    @property
    def where(self) -> str:
        """The conditions themselves."""
        return " AND ".join(self._where)

    @property
    def sql(self) -> str:
        """The SELECT of passages with their texts, to which an order and a limit may be added."""
        return (
            "SELECT p.archive_id, p.passage_id, p.version, p.tags, p.metadata, p.created_at, t.text "  # noqa: S608 - our own words
            "FROM passages AS p JOIN texts AS t ON t.stream = p.archive_id AND t.version = p.version "
            f"WHERE {self.where}"
        )


def passage_of(row: dict[str, Any]) -> Passage:
    """Give the passage of a row."""
    return Passage(
        archive_id=row["archive_id"],
        passage_id=row["passage_id"],
        version=row["version"],
        text=row["text"],
        tags=tuple(from_json(row["tags"])),
        created_at=datetime.fromisoformat(row["created_at"]),
        metadata=None if row["metadata"] is None else from_json(row["metadata"]),
    )


# --- times ------------------------------------------------------------------------------------


def zone_of(name: str | None) -> tzinfo:
    """Give a time zone by its name; UTC for one that is not known here."""
    return UTC if name is None else known_zone(name) or UTC


def known_zone(name: str) -> tzinfo | None:
    """Give a time zone by its name, None for one that is not known here."""
    try:
        return ZoneInfo(name)
    # Not known, no name of a zone at all, or a folder or file that is not to be read.
    except (KeyError, ValueError, OSError):
        return None


def since_of(text: str, zone: tzinfo) -> datetime:
    """Give the moment from which something is wanted. Raises ValueError."""
    return _span_of(text, zone)[0]


def until_of(text: str, zone: tzinfo) -> datetime:
    """Give the first moment too late: a day lasts to its end. Raises ValueError."""
    begin, lasts = _span_of(text, zone)
    return begin + lasts


def _span_of(text: str, zone: tzinfo) -> tuple[datetime, timedelta]:
    """Give when a day or a moment begins and how long it lasts; what names no zone is of `zone`."""
    try:
        begin, lasts = datetime.combine(date.fromisoformat(text), time(), zone), timedelta(days=1)
    except ValueError:
        moment = datetime.fromisoformat(text)
        begin = moment if moment.tzinfo else moment.replace(tzinfo=zone)
        lasts = timedelta.resolution
    if begin.year not in YEARS:
        raise ValueError(f"the year must be from {YEARS[0]} to {YEARS[-1]}")
    return begin, lasts
