"""A conversation's facts with those that it inherited, read as one line without being copied.

Every call blocks, so it runs in a reader's thread.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from app.mapper import Row, hash_of, revive
from app.storage.store import VERSION_MAX, Pieces, Store, question_marks
from domain.conversation import ConversationStarted, Lineage, Parent
from domain.event import Recorded
from domain.streams import system_message_id
from projections.columns import Scalar
from projections.search_ranks import Posting

# Before all places, an ancestor's among them.
BEGINNING: Final = -VERSION_MAX
# A fork's first fact has these bytes; others may, too.
_PARENT: Final = b'"parent":'
READ_AT_ONCE: Final = 100
# Each time the texts after the first of them are gone through.
ITEMS_AT_ONCE: Final = 1_000


def parent_in(rows: Sequence[Row]) -> Parent | None:
    """Give the parent that a stream's first rows name, None if they are no fork's."""
    if not rows or rows[0].version != 1 or _PARENT not in rows[0].state:
        return None
    event = revive(rows[0]).event
    return event.parent if isinstance(event, ConversationStarted) else None


def parent_of(store: Store, stream: str) -> Parent | None:
    """Give a conversation's parent, None if it is no fork."""
    return parent_in(store.read(stream, upto=1))


def lineage_of(store: Store, stream: str) -> Lineage:
    """Give a conversation's lineage."""
    parents: list[Parent] = []
    while (parent := parent_of(store, stream)) is not None:
        parents.append(parent)
        stream = parent.conversation_id
    lineage = Lineage()
    for parent in reversed(parents):
        lineage = lineage.forked(parent)
    return lineage


def parent_at(store: Store, stream: str, offset: int) -> Parent:
    """Name an offset of a conversation as the one that a fork begins after. It has to be there."""
    (row,) = store.read(stream, after=offset - 1, upto=offset)
    return Parent(conversation_id=stream, at=offset, hash=hash_of(row).hex())


@dataclass(frozen=True, slots=True)
class Chain:
    """A conversation and its ancestors. Bounds are places; rows have the offsets of their streams."""

    store: Store
    stream: str
    lineage: Lineage

    @classmethod
    def of(cls, store: Store, stream: str) -> "Chain":
        """Look up the ancestors of a conversation."""
        return cls(store, stream, lineage_of(store, stream))

    @property
    def inherited_prompts(self) -> frozenset[str]:
        """The ids of the ancestors' system messages: a fork has its own."""
        return frozenset(system_message_id(one.stream) for one in self.lineage.ancestors)

    def place(self, row: Row) -> int:
        """Give the place of a row."""
        return self.lineage.place_of(row.stream, row.version)

    def fact(self, row: Row) -> Recorded[Any]:
        """Revive a row, with places in it."""
        return self.lineage.placed(revive(row))

    # --- facts ----------------------------------------------------------------------------

    def read(
        self,
        *,
        after: int = BEGINNING,
        upto: int = VERSION_MAX,
        limit: int = -1,
        newest_first: bool = False,
    ) -> list[Row]:
        """Read rows with `after < place <= upto` in order, but deltas; -1 is no limit."""
        stretches = [*self.lineage.stretches(self.stream, after, upto)]
        rows: list[Row] = []
        for stream, first, last in reversed(stretches) if newest_first else stretches:
            left = limit if limit < 0 else limit - len(rows)
            if left == 0:
                break
            rows += self.store.read(
                stream, after=first, upto=last, limit=left, deltas=False, newest_first=newest_first
            )
        return rows

    def pages(self, limit: int) -> Iterator[list[Row]]:
        """Read all rows in order, but deltas, `limit` at a time."""
        after = BEGINNING
        while page := self.read(after=after, limit=limit):
            yield page
            after = self.place(page[-1])

    def at(self, place: int) -> Row:
        """Read the row at a place. It has to be there."""
        stream, offset = self.lineage.named(place)
        (row,) = self.store.read(stream or self.stream, after=offset - 1, upto=offset)
        return row

    def pieces(self, pieces: Pieces, topics: Collection[str]) -> list[Row]:
        """Read the facts of some types in pieces of the line, in order; deltas are no facts."""
        if not self.lineage.ancestors:
            return self.store.pieces(self.stream, pieces, topics)
        parted = (one for piece in pieces for one in self.lineage.stretches(self.stream, *piece))
        rows: list[Row] = []
        for stream, some in groupby(parted, key=lambda one: one.stream):
            rows += self.store.pieces(stream, [one[1:] for one in some], topics)
        return rows

    def marked(self, upto: int = VERSION_MAX) -> list[Row]:
        """Read what changes the window beside messages; a fork's with the first fact of each stream."""
        if not self.lineage.ancestors:
            return self.store.marked(self.stream, upto)
        rows: list[Row] = []
        for stream, _, last in self.lineage.stretches(self.stream, BEGINNING, upto):
            rows += self.store.read(stream, upto=min(1, last))
            rows += self.store.marked(stream, last)
        return rows

    def located(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """Give the places at which ids are; what an ancestor went on to is not among them."""
        found: dict[str, list[int]] = {}
        for stream, _, last in self.lineage.stretches(self.stream, BEGINNING, VERSION_MAX):
            for identity, version in _located(self.store, stream, ids):
                if version <= last:
                    place = self.lineage.place_of(stream, version)
                    found.setdefault(identity, []).append(place)
        return found

    # --- texts ----------------------------------------------------------------------------

    def search(self, wanted: Sequence[str], *, upto: int, limit: int) -> list[list[Posting]]:
        """Find for each wanted term the newest texts that have it, at most `limit`."""
        found: list[list[Posting]] = [[] for _ in wanted]
        stretches = [*self.lineage.stretches(self.stream, BEGINNING, upto)]
        for stream, _, last in reversed(stretches):
            shift = self.lineage.place_of(stream, 0)
            hits = self.store.search(stream, wanted, upto=last, limit=limit)
            for known, more in zip(found, hits, strict=True):
                some = more[: limit - len(known)]
                known += [one._replace(version=one.version + shift) for one in some]
        return found

    def said(self, upto: int) -> list[int]:
        """Give the places of facts that say something, in order."""
        return [
            self.lineage.place_of(stream, version)
            for stream, _, last in self.lineage.stretches(self.stream, BEGINNING, upto)
            for version in self.store.said(stream, last)
        ]

    def texts_of(self, items: Collection[int]) -> Iterator[int]:
        """Give the places of the facts with the texts of some items, which places name, too."""
        for stream, offsets in self._named(items).items():
            shift = self.lineage.place_of(stream, 0)
            yield from (version + shift for version in _texts_of(self.store, stream, offsets))

    def _named(self, places: Iterable[int]) -> dict[str, list[int]]:
        """Part places by the streams that they are in."""
        named: dict[str, list[int]] = {}
        for place in places:
            stream, offset = self.lineage.named(place)
            named.setdefault(stream or self.stream, []).append(offset)
        return named

    def texts(self, places: Sequence[int], columns: str = "*") -> dict[int, dict[str, Any]]:
        """Read texts by the places of their facts; `place` and `version` in them are places."""
        return {
            row["version"]: row
            for stream, versions in self._named(places).items()
            for row in self._placed(stream, _texts(self.store, stream, versions, columns))
        }

    def rows(
        self, columns: str, *, after: int, upto: int, limit: int, newest_first: bool
    ) -> list[dict[str, Any]]:
        """Read texts with `after < place <= upto` in order; `place` and `version` are places."""
        order = "DESC" if newest_first else "ASC"
        sql = (
            f"SELECT {columns} FROM texts WHERE stream = ? AND version > ? AND version <= ? "  # noqa: S608 - our own words
            f"ORDER BY version {order} LIMIT ?"
        )
        stretches = [*self.lineage.stretches(self.stream, after, upto)]
        rows: list[dict[str, Any]] = []
        for stream, first, last in reversed(stretches) if newest_first else stretches:
            found = self.store.query(sql, (stream, first, last, limit - len(rows)))
            rows += self._placed(stream, found)
        return rows

    def _placed(self, stream: str, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        shift = self.lineage.place_of(stream, 0)
        for row in rows:
            for name in ("version", "place"):
                if shift and name in row:
                    row[name] += shift
            yield row


def _located(store: Store, stream: str, ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    for start in range(0, len(ids), READ_AT_ONCE):
        some = ids[start : start + READ_AT_ONCE]
        params: list[Scalar] = [stream, *some]
        rows = store.query(
            f"SELECT id, version FROM locators WHERE stream = ? AND id IN ({question_marks(some)})",  # noqa: S608 - only question marks
            params,
        )
        yield from ((row["id"], row["version"]) for row in rows)


def _texts(
    store: Store, stream: str, versions: Sequence[int], columns: str
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(versions), READ_AT_ONCE):
        some = versions[start : start + READ_AT_ONCE]
        yield from store.query(
            f"SELECT {columns} FROM texts WHERE stream = ? AND version IN ({question_marks(some)})",  # noqa: S608 - only question marks
            [stream, *some],
        )


def _texts_of(store: Store, stream: str, items: Sequence[int]) -> Iterator[int]:
    # An item's texts are stored with it or after it, and nothing says how long after.
    ordered = sorted(items)
    for start in range(0, len(ordered), ITEMS_AT_ONCE):
        some = ordered[start : start + ITEMS_AT_ONCE]
        rows = store.query(
            f"SELECT version FROM texts WHERE stream = ? AND version >= ? AND place IN ({question_marks(some)})",  # noqa: S608 - only question marks
            (stream, some[0], *some),
        )
        yield from (row["version"] for row in rows)
