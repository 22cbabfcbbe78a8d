"""How long it takes to know a window, and to plan a compaction of it, in a very long conversation.

It has 10,000 messages and 20 compactions (benchmarks/conversing.py). A cold window is folded from the
database, a cached one is caught up; folding everything there is, is the yardstick beside them. Ends
with 1 if a median is above its bound, which is for this machine with nothing else to do.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple, get_args

from app.execute import Execute
from app.log import Log
from app.mapper import revive
from app.storage.databases import store_at
from app.storage.lineages import parent_at
from app.storage.postgres import migrate
from app.storage.store import Store, Terms
from app.windows import folded, newest
from benchmarks.conversing import CONTEXT_WINDOW, Talk, begun
from benchmarks.predicting import percentile
from domain.compaction import PERCENTAGE_DEFAULT, CompactionMode
from domain.conversation import ConversationSettings, StartConversation
from projections.compaction import Plan, plan_of
from projections.cuts import Bonds
from projections.window import Window, window_of
from tests.databases import Cluster
from tests.examples import AGENT_ID, SYSTEM

MESSAGES: Final = 10_000
FORK: Final = "conv-ffffffff-ffff-4fff-8fff-ffffffffffff"
COMPACTIONS: Final = 20
MODES: Final[tuple[CompactionMode, ...]] = get_args(CompactionMode)
NEW_FACTS: Final = 5
RANDOM_OFFSETS: Final = 100
TIMES: Final = 100
YARDSTICK_TIMES: Final = 5
COLD_MS, CACHED_MS, PLAN_MS = 30.0, 1.0, 20.0
WIDTHS: Final = (40, 8, 10, 10, 10, 10)


class Timed(NamedTuple):
    """What was done, to how many items, the milliseconds of each time, and what they may be."""

    name: str
    items: int
    took_ms: list[float]
    bound_ms: float | None = None

    @property
    def median_ms(self) -> float:
        """The median."""
        return percentile(self.took_ms, 50)

    @property
    def missed(self) -> bool:
        """Whether the median is above the bound."""
        return self.bound_ms is not None and self.median_ms > self.bound_ms


# --- the conversation -------------------------------------------------------------------------


async def said(url: str) -> Talk:
    """Have the conversation said in a database; it ends just before it would be compacted again."""
    async with Log(store_at(url, Terms())) as log:
        talk = await begun(log, "long")
        stretch = MESSAGES // (COMPACTIONS + 1)
        for _ in range(COMPACTIONS):
            await talk.go_on(stretch)
            await talk.compact()
        await talk.go_on(MESSAGES - talk.messages)
        parent = parent_at(log.store, talk.stream, talk.version)
        command = StartConversation(AGENT_ID, SYSTEM, ConversationSettings(), parent)
        await Execute(log).fork(FORK, command, parent, "user")
    return talk


# --- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Measuring:
    """A conversation in a database, its newest window, and the same folded from everything."""

    store: Store
    talk: Talk
    window: Window
    whole: Timed

    def all(self) -> Iterator[Timed]:
        """Measure everything."""
        yield self.whole
        yield self._cold("cold, just after a compaction", [self.talk.compacted[-1]])
        yield self._cold("cold, just before the next one", [self.talk.version])
        yield self._cold("cold, at a random offset", self._offsets())
        yield self._fork()
        yield self._cached("cached, nothing new", 0)
        yield self._cached(f"cached, {NEW_FACTS} new facts", NEW_FACTS)
        for mode in MODES:
            yield self._planned(mode)

    def _fork(self) -> Timed:
        found = folded(self.store, FORK)
        assert len(found.items) == len(self.window.items)
        took_ms = timed(lambda: folded(self.store, FORK))
        return Timed("cold, of a fork of it", len(found.items), took_ms, COLD_MS)

    def _offsets(self) -> list[int]:
        return random.Random(1).sample(range(1, self.talk.version), RANDOM_OFFSETS)

    def _cold(self, name: str, offsets: Sequence[int]) -> Timed:
        turns = cycle(offsets)
        items = max(len(self._folded(offset).items) for offset in offsets)
        return Timed(name, items, timed(lambda: self._folded(next(turns))), COLD_MS)

    def _folded(self, offset: int) -> Window:
        return folded(self.store, self.talk.stream, offset)

    def _cached(self, name: str, new: int) -> Timed:
        stream = self.talk.stream
        rows = self.store.read(stream, limit=new + 1, deltas=False, newest_first=True)
        before = self._folded(rows[-1].version)
        catch_up = partial(newest, self.store, stream, before)
        assert catch_up() == self.window
        return Timed(name, len(before.items), timed(catch_up), CACHED_MS)

    def _planned(self, mode: CompactionMode) -> Timed:
        plan = partial(
            plan_of,
            self.window,
            Bonds(),
            mode,
            share=PERCENTAGE_DEFAULT,
            context_window=CONTEXT_WINDOW,
        )
        assert isinstance(plan(), Plan)
        return Timed(f"plan, {mode}", len(self.window.items), timed(plan), PLAN_MS)


def measuring(store: Store, talk: Talk) -> Measuring:
    """Get ready. A window that is not what all facts say is not worth timing."""
    window = folded(store, talk.stream)

    def everything() -> Window:
        return window_of(map(revive, store.read(talk.stream, deltas=False)))

    assert everything() == window
    took_ms = timed(everything, YARDSTICK_TIMES)
    return Measuring(store, talk, window, Timed("all facts folded", len(window.items), took_ms))


def timed(act: Callable[[], object], times: int = TIMES) -> list[float]:
    """Do it so many times, after once for the caches; give the milliseconds of each."""
    act()
    took_ms: list[float] = []
    for _ in range(times):
        began = perf_counter()
        act()
        took_ms.append((perf_counter() - began) * 1000)
    return took_ms


# --- telling ----------------------------------------------------------------------------------


def run(url: str, engine: str) -> int:
    """Have it said, measure, and tell; give the number of bounds missed."""
    talk = asyncio.run(said(url))
    print(
        f"\n{engine}: {talk.messages:,} messages in {talk.version:,} facts, "
        f"{len(talk.compacted)} compactions",
        flush=True,
    )
    print_row(("ms", "items", "best", "p50", "p99", "bound"))
    missed = 0
    with closing(store_at(url, Terms())) as store:
        for one in measuring(store, talk).all():
            missed += one.missed
            print_row(row_of(one))
    return missed


def row_of(one: Timed) -> tuple[str, ...]:
    """Give a line of the table."""
    bound = "-" if one.bound_ms is None else f"{one.bound_ms:g}{' !' if one.missed else ''}"
    figures = (f"{percentile(one.took_ms, p):.2f}" for p in (0, 50, 99))
    return (one.name, f"{one.items:,}", *figures, bound)


def print_row(cells: Sequence[str]) -> None:
    """Print cells in columns, numbers to the right."""
    (name, name_width), *others = zip(cells, WIDTHS, strict=True)
    line = name.ljust(name_width) + "".join(cell.rjust(width) for cell, width in others)
    print(line, flush=True)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", action="store_true", help="also on a Postgres of our own")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="everlog-") as home:
        missed = run(f"sqlite:///{Path(home)}/long.db", "SQLite")
    if asked.postgres:
        cluster = Cluster(durable=True)
        try:
            url = cluster.create("long")
            migrate(url, Terms())
            missed += run(url, "Postgres")
        finally:
            cluster.remove()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
