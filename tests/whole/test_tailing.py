"""Followers on one node, writers on others: whatever the network does, none of the facts is missed."""

import asyncio
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from app.log import Log
from app.storage.postgres import PostgresStore, Terms
from app.tail import Tail
from app.wakeups import Wakeups
from tests import examples
from tests.databases import TERMS, cluster
from tests.proxy import proxied
from tests.whole.nodes import new_database
from tests.whole.writer import AT_ONCE, FACTS_AN_APPEND

WRITERS, FACTS = 4, 24_000
SHARED = [f"conv-{n}9999999-1111-4111-8111-111111111111" for n in range(2)]
GUARD_S = 240.0
DELAY_S_MAX = 5.0
pytestmark = [
    pytest.mark.slow,
    # A connection that is cut while it is opened is closed by nobody.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@asynccontextmanager
async def reading(url: str) -> AsyncGenerator[Tail]:
    """A node that does nothing but follow."""
    async with Log(PostgresStore(url, TERMS)) as log:
        tail = Tail(log)
        wakeups = Wakeups(log, tail.look, tail.heard)
        await wakeups.start()
        yield tail
        await wakeups.stop()


async def followed(tail: Tail, stream: str, upto: int) -> list[int]:
    """Give the versions that a follower got, up to one of them."""
    seen: list[int] = []
    with tail.follow(stream, 0) as follower:
        while not seen or seen[-1] < upto:
            seen += [row.version for row in await follower.next()]
    return seen


async def test_four_writers_are_followed_without_a_gap() -> None:
    url = cluster().url_of(new_database(cluster()))
    own = [f"conv-{n}1111111-1111-4111-8111-111111111111" for n in range(WRITERS)]
    contended = FACTS // FACTS_AN_APPEND // AT_ONCE * FACTS_AN_APPEND * WRITERS // len(SHARED)
    heads = dict.fromkeys(own, FACTS) | dict.fromkeys(SHARED, contended)
    assert sum(heads.values()) > 100_000
    async with asyncio.timeout(GUARD_S), reading(url) as tail:
        following = {
            stream: asyncio.create_task(followed(tail, stream, head))
            for stream, head in heads.items()
        }
        writers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.whole.writer", url, str(FACTS), stream, *SHARED
            )
            for stream in own
        ]
        assert [await one.wait() for one in writers] == [0] * WRITERS
        for stream, head in heads.items():
            assert await following[stream] == list(range(1, head + 1))


async def test_commits_whose_answers_come_late_are_not_missed() -> None:
    name = new_database(cluster())
    streams = [f"conv-{n}2222222-1111-4111-8111-111111111111" for n in range(4)]
    rounds = 4
    waits = random.Random(3)
    slow = Terms(connect_timeout_s=60)
    async with (
        asyncio.timeout(GUARD_S),
        proxied(cluster().socket) as proxy,
        reading(cluster().url_of(name)) as tail,
    ):
        late = await asyncio.to_thread(PostgresStore, proxy.url_of(name), slow)
        following = [asyncio.create_task(followed(tail, stream, rounds)) for stream in streams]
        async with Log(late, patience_s=60) as log:
            proxy.delay_s = lambda: waits.uniform(0, DELAY_S_MAX)
            for expected in range(rounds):
                appends = [
                    log.append(stream, expected, [examples.delta()], "worker:test")
                    for stream in streams
                ]
                for append in appends:
                    assert [fact.version for fact in await append] == [expected + 1]
            proxy.delay_s = lambda: 0.0
        for one in following:
            assert await one == list(range(1, rounds + 1))
