"""Whatever order news comes in, a follower sees every row once, and waits only at the end.

Two nodes share one store and follow one stream. That a commit is done is told to a node's followers
later than others may read it, and what another node appends is heard of now or not before the next
look at the database.
"""

import asyncio
import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.tail
from app.log import Listener, Log, VersionConflict
from app.mapper import Row
from app.tail import Follower, Tail
from domain.block import BlockChanged
from tests.app.faults import Shared
from tests.databases import opened

STREAM = "block-11111111-1111-4111-8111-111111111111"
Doing: TypeAlias = Literal["append", "tell", "hear", "look", "follow", "read", "leave"]
DOINGS: st.SearchStrategy[Doing] = st.sampled_from(
    (
        "append",
        "append",
        "append",
        "tell",
        "tell",
        "hear",
        "look",
        "follow",
        "read",
        "read",
        "leave",
    )
)


class LateLog(Log):
    """A log whose listeners are told of commits when somebody says so, in their order."""

    def __init__(self, store: Shared) -> None:
        super().__init__(store)
        self._late: list[tuple[Listener, str, list[Row]]] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    def listen(self, listener: Listener) -> None:
        super().listen(lambda stream, rows: self._late.append((listener, stream, rows)))

    def tell(self) -> None:
        """Tell of the commit that has waited longest."""
        if self._late:
            listener, stream, rows = self._late.pop(0)
            listener(stream, rows)

    def tell_all(self) -> None:
        """Tell of all that wait."""
        while self._late:
            self.tell()


@dataclass(slots=True)
class Reader:
    """A follower from a row on, and what it has seen."""

    after: int
    following: AbstractContextManager[Follower]
    follower: Follower = field(init=False)
    seen: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        self.follower = self.following.__enter__()

    async def read(self) -> None:
        """Read what is there, without waiting for more."""
        while rows := await self.follower.next(0):
            self.seen += [row.version for row in rows]

    def leave(self) -> None:
        """Follow no more."""
        self.following.__exit__(None, None, None)


class Node:
    """A process with followers."""

    def __init__(self, log: LateLog) -> None:
        self.log = log
        self.tail = Tail(log)
        self.readers: list[Reader] = []

    async def end(self) -> int:
        """Tell where the stream ends."""
        head = await self.log.head(STREAM)
        return 0 if head is None else head[0]

    async def do(self, doing: Doing, number: int) -> None:
        """Do something; the number says to whom, or how much."""
        match doing:
            case "append":
                await self._append(1 + number % 2)
            case "tell":
                self.log.tell()
            case "hear":
                self.tail.heard([STREAM])
            case "look":
                await self.tail.look()
            case "follow":
                after = number % (await self.end() + 1)
                self.readers.append(Reader(after, self.tail.follow(STREAM, after)))
            case "read":
                for reader in self.readers[number % 3 :]:
                    await reader.read()
            case "leave":
                if self.readers:
                    self.readers.pop(number % len(self.readers)).leave()

    async def _append(self, count: int) -> None:
        """Append facts; the first try may learn only that the other node was there before."""
        end = await self.end()
        facts = [BlockChanged(base_version=end, value=str(end))] * count
        try:
            await self.log.append(STREAM, end, facts, "user")
        except VersionConflict:
            await self.log.append(STREAM, end, facts, "user")

    async def settle(self) -> None:
        """Tell all that is to be told, look once, and read to the end."""
        self.log.tell_all()
        await self.tail.look()
        for reader in self.readers:
            await reader.read()
            reader.leave()


async def play(
    path: Path, doings: list[tuple[int, Doing, int]]
) -> list[tuple[list[int], list[int]]]:
    """Have everything happen; give what each follower has seen in the end, and what there was."""
    seen: list[tuple[list[int], list[int]]] = []
    shared = Shared(opened(path), nodes=2)
    try:
        async with LateLog(shared) as one, LateLog(shared) as other:
            nodes = (Node(one), Node(other))
            for n, doing, number in doings:
                await nodes[n].do(doing, number)
            for node in nodes:
                await node.settle()
                end = await node.end()
                seen += [(one.seen, [*range(one.after + 1, end + 1)]) for one in node.readers]
    finally:
        shared.end()
    return seen


@pytest.mark.sqlite
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 1), DOINGS, st.integers(0, 20)), max_size=40),
    st.sampled_from((2, 512)),
)
def test_a_follower_sees_every_row_once_whatever_it_hears_when(
    doings: list[tuple[int, Doing, int]], ring: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.tail, "RING_ROWS_MAX", ring)
        patch.setattr(app.tail, "PAGE_ROWS", 3)
        seen = asyncio.run(play(Path(folder) / "a.db", doings))
    assert [versions for versions, _ in seen] == [there for _, there in seen]


@pytest.mark.sqlite
async def test_a_commit_that_is_told_late_hides_nothing_that_came_after_it(tmp_path: Path) -> None:
    shared = Shared(opened(tmp_path / "a.db"), nodes=2)
    async with LateLog(shared) as one, LateLog(shared) as other:
        here, there = Node(one), Node(other)
        for doing in ("append", "follow", "follow", "read", "append", "tell", "read"):
            await here.do(doing, 0)
        await here.do("append", 0)
        await there.do("append", 0)
        await here.do("hear", 0)
        first, second = here.readers
        await first.read()
        here.log.tell_all()
        await second.read()
        assert first.seen == second.seen == [1, 2, 3, 4]
        for reader in here.readers:
            reader.leave()
    shared.end()
