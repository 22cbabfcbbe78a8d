"""Who has what was said: the conversation in which it was said, and the forks that inherited it.

A message is stored in one stream and never copied. It is there, once, for as long as some living
conversation lists it. It counts as said where it was said; if that is deleted, or lists it no more,
as said in the fork that has the most of that stream, of several in the nearest and then the oldest.

Every call blocks, so it runs in a reader's thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import Any, Final, NamedTuple

from app.history.pages import Listed, Page, listed_in, page_in
from app.storage.lineages import Chain
from app.storage.store import VERSION_MAX, Store, question_marks
from projections.wire import Message

READ_AT_ONCE: Final = 100
# Of more forks of a stream than so many, or in one generation, those that have the most are known.
FORKS_MAX: Final = 1000

# Nothing in it refers to the row around it, so a distributed database finds it out beforehand.
_FORKED: Final = (
    "conversations.conversation_id IN "
    "(SELECT parent_id FROM conversations WHERE parent_id IS NOT NULL)"
)
# What may be in lists over many conversations, of the table of these: who has it shows for sure.
LISTED_OR_FORKED: Final = (
    f"(conversations.deleted = 0 AND coalesce(conversations.hidden, 0) = 0 OR {_FORKED})"
)


class Having(NamedTuple):
    """A conversation that has the offsets of a stream up to `upto`."""

    conversation_id: str
    upto: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A conversation that has the offsets of `stream` up to `upto`, and what its lists show."""

    stream: str
    upto: int
    chain: Chain
    listed: Listed

    @property
    def shift(self) -> int:
        """What makes places of the stream's offsets."""
        return self.chain.lineage.place_of(self.stream, 0)

    @property
    def lists_all(self) -> bool:
        """Whether its lists show all that it has of the stream."""
        hidden = self.listed.hidden - self.chain.inherited_prompts
        return not hidden and self.listed.reset <= self.shift

    def may_list(self, offset: int, message_id: str) -> bool:
        """Tell whether a message is there and not hidden; a reply may still have been under way."""
        if offset > self.upto or message_id in self.listed.hidden:
            return False
        return offset + self.shift > self.listed.reset

    def page(self, page: Page) -> list[tuple[int, list[Message]]]:
        """Give up to `limit` messages of the stream that it lists, each with its offset."""
        shift = self.shift
        bounds = replace(
            page,
            after=max(page.after, 0) + shift,
            before=min(page.before, self.upto + 1) + shift,
            own=True,
        )
        return [(place - shift, items) for place, items in page_in(self.chain, self.listed, bounds)]

    def items(self, offset: int, message_id: str) -> list[Message]:
        """Give what it lists of the message at an offset, nothing if it lists none."""
        if offset > self.upto or message_id in self.listed.hidden:
            return []
        page = self.page(Page(after=offset - 1, limit=1, newest_first=False))
        items = [item for _, one in page for item in one]
        return items if items and items[0]["id"] == message_id else []


class Holders:
    """Looks up who has what, for one request: what was looked up is kept.

    Hidden conversations count if `hidden`; if one is named by `within`, nothing else does.
    """

    def __init__(self, store: Store, *, hidden: bool = False, within: str | None = None) -> None:
        self._store = store
        self._hidden = hidden
        self._within = within
        self._counted: dict[str, bool] = {}
        self._forks: dict[str, list[Having]] = {}
        self._opened: dict[str, tuple[Chain, Listed]] = {}

    # --- messages -------------------------------------------------------------------------

    def items(self, stream: str, offset: int, message_id: str) -> list[Message]:
        """Give all items of the message at an offset, nothing if nobody lists it."""
        for one in self.of(stream):
            if items := one.items(offset, message_id):
                return items
        return []

    def holder_of(self, stream: str, offset: int, message_id: str) -> str | None:
        """Name the conversation in which a message counts as said, None if nobody lists it."""
        for one in self.of(stream):
            if one.may_list(offset, message_id) and (
                one.chain.stream == stream or one.items(offset, message_id)
            ):
                return one.chain.stream
        return None

    def page(self, stream: str, page: Page) -> list[tuple[int, list[Message]]]:
        """Give up to `limit` messages of a stream that anybody lists, each with its offset."""
        found: dict[int, list[Message]] = {}
        for one in self.of(stream):
            for offset, items in one.page(page):
                found.setdefault(offset, items)
            if one.lists_all:
                break  # the others have no more of it
        order = sorted(found, reverse=page.newest_first)
        return [(offset, found[offset]) for offset in order[: page.limit]]

    # --- who has them ---------------------------------------------------------------------

    def of(self, stream: str) -> Iterator[Holder]:
        """Give who has what was said in a stream, those that have more of it first."""
        for conversation_id, upto in self._having(stream):
            chain, listed = self._open(conversation_id)
            yield Holder(stream, upto, chain, listed)

    def held(self, streams: Sequence[str]) -> Iterator[str]:
        """Give those of some streams of which anybody has anything."""
        for start in range(0, len(streams), READ_AT_ONCE):
            some = streams[start : start + READ_AT_ONCE]
            self.look_up(some)
            yield from (one for one in some if any(True for _ in self._having(one)))

    def look_up(self, streams: Sequence[str]) -> None:
        """Find out at once which of some conversations count themselves, and which have no forks."""
        unknown = [one for one in dict.fromkeys(streams) if one not in self._counted]
        for start in range(0, len(unknown), READ_AT_ONCE):
            some = unknown[start : start + READ_AT_ONCE]
            rows = self._store.query(
                "SELECT conversation_id, deleted, hidden FROM conversations "  # noqa: S608 - only question marks
                f"WHERE conversation_id IN ({question_marks(some)})",
                some,
            )
            self._counted |= dict.fromkeys(some, False)
            self._counted |= {row["conversation_id"]: self._counts(row) for row in rows}
            self._note_childless([one for one in some if not self._counted[one]])

    def _note_childless(self, streams: Sequence[str]) -> None:
        """Note which of some streams, at most as many as are read at once, nobody has forked."""
        if not streams:
            return
        rows = self._store.query(
            "SELECT DISTINCT parent_id FROM conversations "  # noqa: S608 - only question marks
            f"WHERE parent_id IN ({question_marks(streams)})",
            streams,
        )
        forked = {row["parent_id"] for row in rows}
        self._forks |= {one: list[Having]() for one in streams if one not in forked}

    def _having(self, stream: str) -> Iterator[Having]:
        if self._within is not None:
            yield from self._of_one(self._within, stream)
            return
        self.look_up([stream])
        if self._counted[stream]:
            yield Having(stream, VERSION_MAX)
        if stream not in self._forks:
            self._forks[stream] = self._forks_of(stream)
        yield from self._forks[stream]

    def _of_one(self, conversation_id: str, stream: str) -> Iterator[Having]:
        if stream == conversation_id:
            yield Having(stream, VERSION_MAX)
        for ancestor in self._open(conversation_id)[0].lineage.ancestors:
            if ancestor.stream == stream:
                yield Having(conversation_id, ancestor.at)

    def _counts(self, row: dict[str, Any]) -> bool:
        return not row["deleted"] and (self._hidden or not row["hidden"])

    def _open(self, conversation_id: str) -> tuple[Chain, Listed]:
        if conversation_id not in self._opened:
            chain = Chain.of(self._store, conversation_id)
            self._opened[conversation_id] = chain, listed_in(chain)
        return self._opened[conversation_id]

    def _forks_of(self, stream: str) -> list[Having]:
        """Find the forks that count, whatever became of those between them and the stream.

        A fork's own forks have all of what it inherited.
        """
        found: list[tuple[int, int, str, str]] = []
        upto: dict[str, int] = {}
        rows, depth = self._forked([stream]), 1
        while rows:
            above = upto
            upto = {}
            for row in rows:
                fork_id = row["conversation_id"]
                upto[fork_id] = above[row["parent_id"]] if above else row["parent_at"]
                if self._counts(row):
                    found.append((-upto[fork_id], depth, row["created_at"], fork_id))
            most = nlargest(FORKS_MAX, upto, key=upto.__getitem__)
            rows, depth = self._forked(most), depth + 1
        return [Having(fork_id, -first) for first, _, _, fork_id in sorted(found)]

    def _forked(self, streams: Sequence[str]) -> list[dict[str, Any]]:
        """Read the forks of some streams, but those that are gone and have none themselves."""
        rows: list[dict[str, Any]] = []
        for start in range(0, len(streams), READ_AT_ONCE):
            some = streams[start : start + READ_AT_ONCE]
            rows += self._store.query(
                "SELECT conversation_id, parent_id, parent_at, created_at, deleted, hidden "  # noqa: S608 - only question marks
                f"FROM conversations WHERE parent_id IN ({question_marks(some)}) "
                f"AND (deleted = 0 OR {_FORKED}) "
                "ORDER BY parent_at DESC, created_at, conversation_id LIMIT ?",
                (*some, FORKS_MAX),
            )
        return rows
