"""One database's log written into another, byte for byte: same offsets, same hashes, same order.

Each page of a stream is an append like any other, read tables and all, in the transaction of the
target's own store. So whoever stops half-way has copied whole pages, and goes on where they end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.mapper import GENESIS, Row, hash_of, prev_of
from app.storage.integrity import Progress, heads_of, pages_of, revived, verify_stream
from app.storage.store import Sealed, Store
from projections.patches import Patch, patches_of


class Differs(Exception):
    """The target has a stream that is not a beginning of the source's."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy came to; `facts` are those that the target did not have yet."""

    streams: int
    facts: int
    unreadable: tuple[str, ...]


def copy_all(source: Store, target: Store, progress: Progress) -> Copied:
    """Append to the target what it lacks of the source. Raises Differs, or PersistenceError."""
    streams = facts = 0
    unreadable: list[str] = []
    for stream, head, digest in heads_of(source):
        streams += 1
        begun, prev = _begun(source, target, stream, head, digest)
        progress(begun)
        facts += head - begun
        for page in pages_of(source, stream, after=begun, upto=head):
            last = _linked(page, prev)
            _append(target, page, prev, last, unreadable)
            prev = last
            progress(len(page))
    return Copied(streams, facts, tuple(unreadable))


def flaws_of(source: Store, target: Store, progress: Progress) -> Iterator[str]:
    """Compare every stream's head and hash with the source's, and check its chain in the target."""
    for stream, head, digest in heads_of(source):
        found = target.head(stream) or (0, GENESIS)
        if found[0] < head or _hash_at(target, stream, head) != digest:
            yield f"{stream} is at {found[0]}, not as in the source, where it is at {head}"
            continue
        verdict = verify_stream(target, stream, progress)
        if not verdict.ok:
            yield f"{stream} is bad at offset {verdict.first_bad}: {verdict.reason}"


def _begun(
    source: Store, target: Store, stream: str, head: int, digest: bytes
) -> tuple[int, bytes]:
    """Tell how far the target has a stream already, and its hash there."""
    version, hash_ = target.head(stream) or (0, GENESIS)
    known = digest if version == head else _hash_at(source, stream, version)
    if version > head or hash_ != known:
        raise Differs(f"{stream} is another in the target, which is at {version} of it")
    return version, hash_


def _hash_at(store: Store, stream: str, version: int) -> bytes:
    rows = store.read(stream, after=version - 1, upto=version) if version else []
    return hash_of(rows[0]) if rows else GENESIS


def _linked(page: list[Row], prev: bytes) -> bytes:
    """Follow the chain through a page; give its last hash. Raises Differs where it is broken."""
    for row in page:
        if prev_of(row) != prev:
            raise Differs(
                f"{row.stream} is broken in the source at offset {row.version}: "
                "run `everlog verify` on it"
            )
        prev = hash_of(row)
    return prev


def _append(
    target: Store, page: list[Row], prev: bytes, last: bytes, unreadable: list[str]
) -> None:
    stream, first = page[0].stream, page[0].version
    patches: list[Patch] = []
    for row in page:
        fact = revived(row)
        if isinstance(fact, str):
            unreadable.append(f"{stream}@{row.version}: {fact}")
        else:
            patches += patches_of(fact)
    sealed = Sealed(stream, first - 1, prev, page, last, patches)
    if target.store([sealed]) != [True]:
        raise Differs(f"{stream} has grown in the target while it was copied")
