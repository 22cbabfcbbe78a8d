"""Whether the log is what was once written, and the read tables written again from it.

Streams are read page by page, so memory does not grow with them. All of it blocks: a server runs it
in a reader's thread.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from app.mapper import GENESIS, Row, UnreadableFact, hash_of, prev_of, revive
from app.storage.lineages import parent_of
from app.storage.store import VERSION_MAX, Store
from domain.event import Recorded
from projections.patches import Patch, patches_of
from projections.tables import TABLES

PAGE_ROWS: Final = 200
PATCHES_HELD_MAX: Final = 2000

# Told how many more offsets are done.
Progress: TypeAlias = Callable[[int], None]

_ORPHANS: Final = (
    "SELECT DISTINCT originator_id AS id FROM stored_events "
    "WHERE NOT EXISTS (SELECT 1 FROM streams WHERE streams.id = stored_events.originator_id) "
    "ORDER BY originator_id"
)
_SIZE: Final = "SELECT CAST(coalesce(sum(head), 0) AS bigint) AS facts FROM streams"


def _unwatched(_offsets: int) -> None:
    pass


# --- verify -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check of a stream came to.

    `head` and `hash` (hexadecimal) are what the table of heads says. `first_bad` is the first
    offset that is missing, unreadable or not what the hashes around it say was written there; it is
    that of `stream` if that is there, which is an ancestor of a fork.
    """

    ok: bool
    head: int
    hash: str
    first_bad: int | None = None
    reason: str | None = None
    stream: str | None = None


class Flaw(NamedTuple):
    """What is wrong, and where first; `stream` if it is in an ancestor's."""

    offset: int
    reason: str
    stream: str | None = None


def verify_stream(
    store: Store, stream: str, progress: Progress = _unwatched, *, ancestors: bool = True
) -> Verdict:
    """Check that every fact of a stream is there, unchanged, in order and readable.

    A fork's ancestors are checked as well, up to where it left them, or only the fact there if not
    `ancestors`. A stream that does not exist is good and has head 0.
    """
    head, digest = store.head(stream) or (0, GENESIS)
    flaw = _flaw_of(store, stream, head, digest, progress) or _flaw_beyond(store, stream, head)
    flaw = flaw or _flaw_before(store, stream, whole=ancestors)
    if flaw is None:
        return Verdict(ok=True, head=head, hash=digest.hex())
    return Verdict(
        ok=False,
        head=head,
        hash=digest.hex(),
        first_bad=flaw.offset,
        reason=flaw.reason,
        stream=flaw.stream,
    )


def verify_all(store: Store, progress: Progress = _unwatched) -> Iterator[tuple[str, Verdict]]:
    """Check one stream after another, and give each with its verdict."""
    for stream in streams_of(store):
        yield stream, verify_stream(store, stream, progress, ancestors=False)


def _flaw_of(
    store: Store, stream: str, head: int, digest: bytes, progress: Progress
) -> Flaw | None:
    version, last = 0, GENESIS
    for page in pages_of(store, stream, upto=head):
        for row in page:
            if row.version != version + 1:
                return Flaw(version + 1, "it is missing")
            if prev_of(row) != last:
                return _broken_link(store, row, head, digest)
            if (reason := _unreadable(row)) is not None:
                return Flaw(row.version, reason)
            version, last = row.version, hash_of(row)
        progress(len(page))
    if version < head:
        return Flaw(version + 1, f"it is missing, although the stream's head is {head}")
    if last != digest:
        return Flaw(max(head, 1), "its hash is not the one kept with the stream's head")
    return None


def _flaw_before(store: Store, stream: str, *, whole: bool) -> Flaw | None:
    """Look for what is wrong with what a fork inherited: `whole`, or only where it left its parent."""
    while (parent := parent_of(store, stream)) is not None:
        stream, at, digest = parent.conversation_id, parent.at, bytes.fromhex(parent.hash)
        rows = store.read(stream, after=at - 1, upto=at)
        if not rows:
            return Flaw(at, f"a fork begins after it, but it is missing in {stream}", stream)
        if hash_of(rows[0]) != digest:
            return Flaw(at, f"in {stream} it is not what the fork that begins after it has", stream)
        if not whole:
            return None
        flaw = _flaw_of(store, stream, at, digest, _unwatched)
        if flaw is not None:
            return Flaw(flaw.offset, f"in {stream}, which was forked: {flaw.reason}", stream)
    return None


def _broken_link(store: Store, row: Row, head: int, digest: bytes) -> Flaw:
    """Tell which of two neighbours was changed, where `row` does not follow the one before it.

    What comes next vouches for the whole of `row`, its word on the one before it included. Without
    that, it was `row` itself.
    """
    following = store.read(row.stream, after=row.version, upto=head, limit=1)
    vouched = prev_of(following[0]) if following else digest
    if row.version > 1 and hash_of(row) == vouched:
        return Flaw(row.version - 1, f"its hash is not the one that offset {row.version} has of it")
    return Flaw(row.version, f"it does not follow offset {row.version - 1}, nor does the next it")


def _flaw_beyond(store: Store, stream: str, head: int) -> Flaw | None:
    """Look for facts after the head; those that came while we looked have moved it."""
    later = store.read(stream, after=head, limit=1)
    if not later:
        return None
    now = store.head(stream)
    if now is not None and now[0] >= later[0].version:
        return None
    return Flaw(head + 1, f"the stream's head is {head}, but there is offset {later[0].version}")


def _unreadable(row: Row) -> str | None:
    found = revived(row)
    return found if isinstance(found, str) else None


def revived(row: Row) -> Recorded[Any] | str:
    """Give a fact, or in words why it cannot be read."""
    try:
        return revive(row)
    except (UnreadableFact, ValueError, LookupError, TypeError, AttributeError) as error:
        return (
            str(error) if isinstance(error, UnreadableFact) else f"{row.topic} with a broken body"
        )


# --- rebuild ----------------------------------------------------------------------------------


def rebuild_tables(store: Store, progress: Progress = _unwatched) -> list[str]:
    """Empty the read tables and write them again from the log, as they had been written live.

    A row of theirs comes from facts of one stream only, so the order of the streams does not
    matter. What cannot be read is left out and told. Stopped half-way, it is to be run again.
    """
    store.clear_tables()
    unreadable: list[str] = []
    held: list[Patch] = []
    for stream in streams_of(store):
        done = 0
        for page in pages_of(store, stream, deltas=False):
            held += _patches_of(page, unreadable)
            if len(held) > PATCHES_HELD_MAX:
                store.upsert(held)
                held = []
            progress(page[-1].version - done)
            done = page[-1].version
    store.upsert(held)
    return unreadable


def _patches_of(page: list[Row], unreadable: list[str]) -> Iterator[Patch]:
    for row in page:
        fact = revived(row)
        if isinstance(fact, str):
            unreadable.append(f"{row.stream}@{row.version}: {fact}")
        else:
            yield from (one for one in patches_of(fact) if TABLES[one.table].rebuilt)


# --- both -------------------------------------------------------------------------------------


def size_of(store: Store) -> int:
    """Count the facts that the heads of all streams add up to."""
    return store.query(_SIZE)[0]["facts"]


def heads_of(store: Store) -> Iterator[tuple[str, int, bytes]]:
    """Give every stream's id, head and hash, in order of id."""
    after = ""
    while page := store.streams(after):
        yield from page
        after = page[-1][0]


def streams_of(store: Store) -> Iterator[str]:
    """Name every stream: those with a head, then any that have facts but no head."""
    yield from (stream for stream, _, _ in heads_of(store))
    yield from (row["id"] for row in store.query(_ORPHANS))


def pages_of(
    store: Store, stream: str, *, after: int = 0, upto: int = VERSION_MAX, deltas: bool = True
) -> Iterator[list[Row]]:
    """Give a stream's rows with `after < version <= upto`, page by page."""
    while page := store.read(stream, after=after, upto=upto, limit=PAGE_ROWS, deltas=deltas):
        yield page
        after = page[-1].version
