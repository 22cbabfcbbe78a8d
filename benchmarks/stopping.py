"""How long a cancel takes until the model's socket is closed, and a restart until it is ready.

The model is in this process, so the moment when its connection closes is seen on the same clock as
the moment of the POST. Other conversations stream meanwhile. Ends with 1 if a bound is missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.figures import ready_s
from benchmarks.load import (
    Connection,
    at_once,
    connections,
    new_agent,
    new_conversation,
)
from tests.vendor import Vendor
from tests.whole.server import Server

CANCEL_P95_MS: Final = 300
READY_S: Final = 3
OTHERS: Final = 8
FINISHED, UNFINISHED, WORKERS = 1_000, 50, 16
PHASES: Final = {
    "silent from the start": "[[words:9]][[silence:0]]",
    "silent in mid-reply": "[[words:9]][[silence:4]]",
    "talking": "[[words:900]][[delay:20]]",
}


@dataclass
class Times:
    """Milliseconds from the POST: until the model's socket was closed, until the answer."""

    closed_ms: list[float] = field(default_factory=list[float])
    answered_ms: list[float] = field(default_factory=list[float])


class Going:
    """A stream that somebody reads while other things are timed."""

    def __init__(self, client: Connection, path: str, words: str) -> None:
        body = {"input": words, "stream_tokens": True}
        self._reading = asyncio.create_task(client.stream(path, body))

    async def over(self) -> None:
        """Wait for its end, which may be a broken connection."""
        with suppress(OSError, EOFError):
            await self._reading


@asynccontextmanager
async def load(server: Server, agent_id: str) -> AsyncGenerator[None]:
    """Have other conversations stream."""
    async with connections(server.base_url, OTHERS) as clients:
        begun = [f"/v1/conversations/{await new_conversation(one, agent_id)}" for one in clients]
        going = [
            Going(client, f"{path}/messages", "[[words:100000]][[delay:20]]")
            for client, path in zip(clients, begun, strict=True)
        ]
        yield
        async with connections(server.base_url, 1) as (client,):
            for path in begun:
                await client.raw("POST", f"{path}/cancel")
        for one in going:
            await one.over()


async def cancelled(server: Server, vendor: Vendor, agent_id: str, words: str, n: int) -> Times:
    """Cancel as many runs, each when its model has begun."""
    times = Times()
    for _ in range(n):
        async with connections(server.base_url, 2) as (talker, other):
            conversation = f"/v1/conversations/{await new_conversation(other, agent_id)}"
            calls, aborted = len(vendor.bodies), vendor.aborted
            going = Going(talker, f"{conversation}/messages", words)
            await vendor.until(lambda all, calls=calls: len(all.bodies) > calls)
            await asyncio.sleep(0.1)
            began = perf_counter()
            answer = asyncio.create_task(other.raw("POST", f"{conversation}/cancel"))
            await vendor.until(lambda all, aborted=aborted: all.aborted > aborted)
            times.closed_ms.append((perf_counter() - began) * 1e3)
            await answer
            times.answered_ms.append((perf_counter() - began) * 1e3)
            await going.over()
    return times


async def stopping(server: Server, vendor: Vendor, n: int) -> bool:
    """Time cancels in each phase; tell whether they were fast enough."""
    async with connections(server.base_url, 1) as (client,):
        agent_id = await new_agent(client)
    held = True
    async with load(server, agent_id):
        for phase, words in PHASES.items():
            times = await cancelled(server, vendor, agent_id, words, n)
            p95 = percentile(times.closed_ms, 95)
            held = held and p95 <= CANCEL_P95_MS
            print(
                f"cancel, {phase:22} socket closed: median {statistics.median(times.closed_ms):6.1f}"
                f"  p95 {p95:6.1f} ms (≤ {CANCEL_P95_MS});"
                f"  answered: p95 {percentile(times.answered_ms, 95):6.1f} ms"
            )
    return held


def percentile(values: list[float], percent: int) -> float:
    """Give the value that so many percent of the values are not above."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


async def restarting(server: Server) -> bool:
    """Kill a server with many finished and some unfinished conversations; time its return."""
    async with connections(server.base_url, WORKERS) as clients:
        agent_id = await new_agent(clients[0])

        async def converse(_: int, client: Connection) -> None:
            path = f"/v1/conversations/{await new_conversation(client, agent_id)}/messages"
            await client.json("POST", path, {"input": "[[words:1]]", "streaming": False})

        await at_once(clients, FINISHED, converse)
    async with connections(server.base_url, UNFINISHED) as clients:
        going: list[Going] = []
        for client in clients:
            path = f"/v1/conversations/{await new_conversation(client, agent_id)}/messages"
            going.append(Going(client, path, "[[words:60]][[delay:100]]"))
        await asyncio.sleep(2)
        server.kill()
        for one in going:
            await one.over()
    ready = await asyncio.to_thread(ready_s, server)
    began = perf_counter()
    async with connections(server.base_url, 1) as (client,):
        left = await client.json("GET", "/v1/runs/?active=true")
        taken_up = len(left)
        while left:
            await asyncio.sleep(0.1)
            left = await client.json("GET", "/v1/runs/?active=true")
        runs = await client.json("GET", "/v1/runs/?statuses=failed")
    print(
        f"restart with {FINISHED:,} finished and {taken_up} unfinished: ready after {ready:.2f} s "
        f"(≤ {READY_S}); all over after {perf_counter() - began:.1f} s more, {len(runs)} failed"
    )
    return ready <= READY_S and not runs and taken_up == UNFINISHED


async def run(n: int) -> bool:
    """Measure on a server of our own."""
    async with Vendor() as vendor:
        key = {"ANTHROPIC_API_KEY": "sk-made-up", "ANTHROPIC_BASE_URL": vendor.base_url}
        with tempfile.TemporaryDirectory(prefix="everlog-") as home:
            server = Server(Path(home) / "stopping.db", **key)
            try:
                await asyncio.to_thread(server.start)
                fast = await stopping(server, vendor, n)
                return await restarting(server) and fast
            finally:
                server.close()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancels", type=int, default=40, metavar="N", help="in each phase")
    sys.exit(0 if asyncio.run(run(parser.parse_args().cancels)) else 1)


if __name__ == "__main__":
    main()
