"""Followers: every row in order from any offset, with no seam between replay and live."""

import asyncio
from typing import Any

import pytest

import app.tail
from app.log import Log
from app.mapper import Row
from app.tail import Closed, Follower, Tail
from domain.block import BlockChanged

STREAM = "block-11111111-1111-4111-8111-111111111111"
OTHER = "block-22222222-2222-4222-8222-222222222222"


async def write(log: Log, first: int, last: int, *, stream: str = STREAM) -> None:
    for version in range(first, last + 1):
        fact = BlockChanged(base_version=version - 1, value=str(version))
        await log.append(stream, version - 1, [fact], "user")


async def read_until(follower: Follower, version: int) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(30):
        while follower.cursor < version:
            seen += [row.version for row in await follower.next()]
    return seen


@pytest.mark.parametrize("ring", [1, 3, 512])
async def test_every_row_comes_once_and_in_order_from_any_offset(
    log: Log, monkeypatch: pytest.MonkeyPatch, ring: int
) -> None:
    monkeypatch.setattr(app.tail, "RING_ROWS_MAX", ring)
    monkeypatch.setattr(app.tail, "PAGE_ROWS", 7)
    tail = Tail(log)
    await write(log, 1, 20)

    async def follow(after: int) -> list[int]:
        with tail.follow(STREAM, after) as follower:
            return await read_until(follower, 80)

    readers = [asyncio.create_task(follow(after)) for after in (0, 5, 19, 20)]
    await write(log, 21, 80)
    assert [await one for one in readers] == [list(range(n + 1, 81)) for n in (0, 5, 19, 20)]


async def test_a_slow_follower_misses_nothing(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.tail, "RING_ROWS_MAX", 4)
    tail = Tail(log)
    with tail.follow(STREAM, 0) as follower:
        await write(log, 1, 3)
        assert [row.version for row in await follower.next()] == [1, 2, 3]
        await write(log, 4, 40)
        assert await read_until(follower, 40) == list(range(4, 41))


async def test_who_has_read_to_the_end_waits_without_reading_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = Tail(log)
    await write(log, 1, 3)
    reads: list[int] = []
    read = log.read

    async def counted(stream: str, **bounds: Any) -> list[Row]:
        reads.append(bounds["after"])
        return await read(stream, **bounds)

    monkeypatch.setattr(log, "read", counted)
    with tail.follow(STREAM, 0) as follower:
        assert await read_until(follower, 3) == [1, 2, 3]
        assert await follower.next(timeout_s=0.01) == []
        await write(log, 4, 5)
        assert await read_until(follower, 5) == [4, 5]
    assert reads == [0]


async def test_a_large_row_does_not_stay_in_the_ring(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.tail, "RING_BYTES_MAX", 10)
    tail = Tail(log)
    with tail.follow(STREAM, 0) as follower:
        await write(log, 1, 5)
        assert await read_until(follower, 5) == [1, 2, 3, 4, 5]


async def test_silence_is_told_and_other_streams_wake_nobody(log: Log) -> None:
    tail = Tail(log)
    with tail.follow(STREAM, 0) as follower:
        await write(log, 1, 3, stream=OTHER)
        assert await follower.next(timeout_s=0.01) == []


async def test_a_closed_tail_gives_what_is_there_and_then_ends(log: Log) -> None:
    tail = Tail(log)
    await write(log, 1, 2)
    with tail.follow(STREAM, 0) as follower:
        waiting: list[Row] = await follower.next()
        pending = asyncio.create_task(follower.next())
        await asyncio.sleep(0.01)
        tail.close()
        with pytest.raises(Closed):
            await pending
    with tail.follow(STREAM, 0) as follower:
        assert await follower.next() == waiting
        with pytest.raises(Closed):
            await follower.next()


async def test_streams_that_nobody_follows_cost_nothing(log: Log) -> None:
    tail = Tail(log)
    with tail.follow(STREAM, 0), tail.follow(STREAM, 0):
        await write(log, 1, 2)
    assert tail.followed == 0
