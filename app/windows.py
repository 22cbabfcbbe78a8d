"""Windows of conversations, folded once and caught up by version.

A window that is not cached is folded from what is in it: the marks tell what has left, and that is
not read. So a conversation's length does not matter, only how much of it the model sees; nor does how
much of it a fork inherited.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from app.log import Log
from app.mapper import Row, revive
from app.storage.lineages import Chain, parent_in
from app.storage.store import VERSION_MAX, Store
from domain.conversation import Lineage
from domain.event import Recorded
from projections.marks import MARKS, Marks, marks_of
from projections.window import FOLDED, Window, caught_up, window_from

# Windows hold whole texts, so fewer are kept than states.
WINDOWS_CACHED_MAX: Final = 512
STEP_BEGIN: Final = "step.started"
STEP_ENDS: Final = frozenset({"step.finished", "step.superseded"})
RUN_END: Final = "run.finished"


class Windows:
    """The newest window of each conversation that somebody looks at."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._cached: OrderedDict[str, Window] = OrderedDict()

    async def newest(self, stream: str) -> Window:
        """Give the window at the stream's newest fact; deltas are none."""
        cached = self._cached.get(stream)
        window = await self._log.in_reader(lambda: newest(self._log.store, stream, cached))
        newer = self._cached.get(stream)
        if newer is None or newer.at <= window.at:
            self._remember(stream, window)
        return window

    async def at(self, stream: str, offset: int) -> Window:
        """Give the window at any offset."""
        return await self._log.in_reader(lambda: folded(self._log.store, stream, offset))

    async def without(self, stream: str, compaction_id: str) -> Window:
        """Give the newest window as it would be if a compaction were undone."""

        def undone() -> Window:
            store = self._log.store
            head = _head(store, stream)
            return _under(
                store, stream, marks_at(store, stream, head).without(compaction_id, head), head
            )

        return await self._log.in_reader(undone)

    def _remember(self, stream: str, window: Window) -> None:
        self._cached[stream] = window
        self._cached.move_to_end(stream)
        if len(self._cached) > WINDOWS_CACHED_MAX:
            self._cached.popitem(last=False)


def newest(store: Store, stream: str, cached: Window | None = None) -> Window:
    """Catch a window up, or fold it. Blocks, so it runs in a reader's thread."""
    if cached is None or not cached.at:
        # Looked at before it began, a conversation has no prompt yet: that is in its first fact,
        # which is no mark.
        return folded(store, stream)
    rows = store.read(stream, after=cached.at, deltas=False)
    lineage = cached.marks.lineage
    window = caught_up(cached, _revived(rows, lineage, FOLDED | MARKS, cached.open_steps))
    if window.stale:
        return folded(store, stream)
    return replace(window, at=rows[-1].version) if rows else window


def folded(store: Store, stream: str, offset: int | None = None) -> Window:
    """Fold the window at an offset, or the newest. Blocks, so it runs in a reader's thread."""
    # The head is looked up first: what is appended between two reads is in neither.
    upto = _head(store, stream) if offset is None else offset
    return _under(store, stream, marks_at(store, stream, upto), upto)


def _head(store: Store, stream: str) -> int:
    found = store.head(stream)
    return 0 if found is None else found[0]


def marks_at(store: Store, stream: str, offset: int) -> Marks:
    """Read the marks up to an offset. Blocks."""
    return marks_of(_marked(store, stream, offset))


async def marked_facts(log: Log, stream: str) -> list[Recorded[Any]]:
    """Read all marks of a conversation, and the fact that it began with."""
    return await log.in_reader(lambda: _marked(log.store, stream, VERSION_MAX))


def _marked(store: Store, stream: str, offset: int) -> list[Recorded[Any]]:
    """Read the marks up to an offset, and the first fact; of a fork's ancestors as well."""
    first = store.read(stream, upto=min(1, offset))
    if parent_in(first) is None:
        return [*map(revive, (*first, *store.marked(stream, offset)))]
    chain = Chain.of(store, stream)
    return [*map(chain.fact, chain.marked(offset))]


def _under(store: Store, stream: str, marks: Marks, offset: int) -> Window:
    """Read what the marks leave in the window, and fold it."""
    lineage = marks.lineage
    gaps = list(marks.evicted.gaps(lineage.beginning, offset))
    rows = Chain(store, stream, lineage).pieces(gaps, FOLDED)
    return replace(window_from(marks, _revived(rows, lineage, FOLDED)), at=offset)


def _revived(
    rows: Sequence[Row], lineage: Lineage, topics: Collection[str], open_steps: Iterable[int] = ()
) -> Iterator[Recorded[Any]]:
    """Revive what a fold takes. Only to steps that are open does the end of their run matter."""
    under_way = set(open_steps)
    for row in rows:
        topic = row.topic
        if topic not in topics or (topic == RUN_END and not under_way):
            continue
        fact = revive(row)
        if topic == STEP_BEGIN:
            under_way.add(row.version)
        elif topic in STEP_ENDS:
            under_way.discard(fact.event.s)
        yield lineage.placed(fact)
