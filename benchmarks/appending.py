"""What the log costs here, above its store; and a load on it, to hold a prediction against."""

import asyncio
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter, process_time
from typing import Final
from uuid import uuid4

import uvloop

from app.log import Log
from app.storage.postgres import PostgresStore, Terms
from app.storage.store import Sealed
from benchmarks.measuring import (
    BY,
    SIZES,
    STREAMS,
    WARM_COMMITS,
    Commits,
    Database,
    Repeated,
    delta,
    summed,
)

TIMERS: Final = 20


class Counting(PostgresStore):
    """A store that notes how many rows each commit holds."""

    def __init__(self, url: str) -> None:
        super().__init__(url, Terms())
        self.rows: list[int] = []

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit."""
        self.rows.append(sum(len(one.rows) for one in batch))
        return super().store(batch)


class Room:
    """Streams in a log, each of which waits for its answer before it says more."""

    def __init__(self, log: Log, streams: int) -> None:
        self._log = log
        self._versions = {f"conv-{uuid4()}": 0 for _ in range(streams)}

    async def say(self, streams: int) -> None:
        """Have so many streams say something at once."""
        await asyncio.gather(*(self._said(one) for one in islice(self._versions, streams)))

    async def _said(self, stream: str) -> float:
        """Append a delta; give the seconds to its answer."""
        expected = self._versions[stream]
        self._versions[stream] += 1
        began = perf_counter()
        await self._log.append(stream, expected, (delta(),), BY)
        return perf_counter() - began

    async def speak(self, rate_s: float, for_s: float) -> list[float]:
        """Have every stream say something so often, like a clock; give the seconds of each."""
        began, draw = perf_counter(), random.Random(1).random
        taken_s: list[float] = []

        async def speak(stream: str, begins_s: float) -> None:
            for number in range(round(rate_s * for_s)):
                await asyncio.sleep(begins_s + number / rate_s - perf_counter())
                taken_s.append(await self._said(stream))

        await asyncio.gather(*(speak(one, began + draw() / rate_s) for one in self._versions))
        return taken_s


def logged(database: Database, for_s: float) -> Commits:
    """Time appends of so many streams at once, from the first append to the last answer."""

    async def measure() -> Commits:
        async with Log(Counting(database.url)) as log:
            room = Room(log, max(SIZES))
            for _ in range(WARM_COMMITS):
                await room.say(max(SIZES))
            return summed({streams: await _rounds(room, streams, for_s) for streams in SIZES})

    return uvloop.run(measure())


async def _rounds(room: Room, streams: int, for_s: float) -> Repeated:
    took_s: list[float] = []
    cpu, until = process_time(), perf_counter() + for_s
    while (began := perf_counter()) < until:
        await room.say(streams)
        took_s.append(perf_counter() - began)
    return Repeated(took_s, (process_time() - cpu) / len(took_s))


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a load came to: rows a second, rows a commit, answers' seconds, the share of a core."""

    rows_s: float
    batch: float
    ack_s: list[float]
    busy: float


def spoken(database: Database, streams: int, rate_s: float, for_s: float) -> Spoken:
    """Have so many streams each append a delta so often through a log of their own."""

    async def speak() -> Spoken:
        store = Counting(database.url)
        async with Log(store) as log:
            room = Room(log, streams)
            await room.say(streams)
            await room.speak(rate_s, 2 / rate_s)
            store.rows.clear()
            cpu, began = process_time(), perf_counter()
            ack_s = await room.speak(rate_s, for_s)
            took_s, cpu = perf_counter() - began, process_time() - cpu
            return Spoken(len(ack_s) / took_s, statistics.mean(store.rows), ack_s, cpu / took_s)

    return uvloop.run(speak())


def timer_s() -> float:
    """Give the CPU of a timer that goes off, and of the turn of the task that it wakes."""

    async def sleep() -> None:
        for _ in range(TIMERS):
            await asyncio.sleep(0.01)

    async def sleep_all() -> float:
        cpu = process_time()
        await asyncio.gather(*(sleep() for _ in range(STREAMS)))
        return (process_time() - cpu) / STREAMS / TIMERS

    return uvloop.run(sleep_all())
