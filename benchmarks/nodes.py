"""Several servers on one Postgres: what they bear together, and how fast one learns of another.

Real processes on a Postgres that waits for its disk; the model is in a process of its own for the
rates, in this one where its clock is needed. Everything shares this machine's cores. Ends with 1 if
a bound is missed.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Any, Final
from uuid import uuid4

import httpx2
import orjson
import uvloop

from app.storage.postgres import Terms, migrate
from benchmarks.load import asking_for, at_once, connections, new_agent, new_conversation
from benchmarks.processes import fake_model
from tests.databases import Cluster
from tests.vendor import Vendor
from tests.whole.client import client_of, facts_of, of, until
from tests.whole.nodes import Node, conversations, nodes
from tests.whole.server import Server

PROCESSES: Final = (1, 2, 4)
CLIENTS, CREATED, SENT = 32, 1_600, 480
STREAMS, DELTAS = 16, 200
RUNS, CANCELS, KILLED, CUTS = 20, 30, 20, 20
WARM: Final = 2


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure's name and the most that it may be."""

    name: str
    unit: str
    most: float


FIRST_DELTA: Final = Bound("first delta on another node after its commit, p95", "ms", 250)
CANCEL: Final = Bound("cancel on another node until the model's socket is closed, p95", "ms", 500)
TAKEOVER: Final = Bound(
    f"SIGKILL of a node with {KILLED} runs until all are over elsewhere", "s", 15
)
LATE: Final = Bound(f"a follower's latest row while LISTEN is cut {CUTS} times", "s", 2)
BACK: Final = Bound("from a restarted database's start to the first answer", "s", 10)


def p95(values: Sequence[float]) -> float:
    """Give the value that 95 in 100 do not pass."""
    return statistics.quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def p99(values: Sequence[float]) -> float:
    """Give the value that 99 in 100 do not pass."""
    return statistics.quantiles(values, n=100)[-1]


def new_url(cluster: Cluster) -> str:
    """Make a migrated database."""
    url = cluster.create(f"bench_{uuid4().hex}")
    migrate(url, Terms())
    return url


# --- rates --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rates:
    """What some processes bear together."""

    acks_s: float
    ack_p50_ms: float
    ack_p99_ms: float
    sends_s: float
    deltas_s: float

    def shown(self, processes: int) -> str:
        """Give a line of the table."""
        return (
            f"  {processes} process{'es' if processes > 1 else '  '}  {self.acks_s:8,.0f} acks/s, "
            f"p50 {self.ack_p50_ms:5.1f} ms, p99 {self.ack_p99_ms:5.1f} ms; "
            f"{self.sends_s:5,.0f} JSON sends/s; {self.deltas_s:7,.0f} deltas/s"
        )


async def rates(cluster: Cluster, processes: int, model_url: str) -> Rates:
    """Measure so many servers on a database of their own."""
    url = new_url(cluster)
    environment = {"ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": model_url}
    servers = [
        Server(url, EVERLOG_NODE=f"node-{number}", **environment) for number in range(processes)
    ]
    async with AsyncExitStack() as stack:
        clients: list[Any] = []
        for server in servers:
            stack.callback(server.close)
            server.start()
            share = connections(server.base_url, CLIENTS // processes)
            clients += await stack.enter_async_context(share)
        agent = await new_agent(clients[0])
        paths = [
            f"/v1/conversations/{await new_conversation(clients[0], agent)}/messages"
            for _ in range(CLIENTS)
        ]
        body = asking_for(1, streaming=False)
        # Each process imports the vendor's SDK with its first call.
        await at_once(clients, CLIENTS * WARM, lambda n, one: one.json("POST", paths[n], body))
        acks = await at_once(clients, CREATED, lambda _, one: new_conversation(one, agent))
        sends = await at_once(clients, SENT, lambda n, one: one.json("POST", paths[n], body))
        spoken = asking_for(DELTAS, streaming=True, stream_tokens=True)
        talkers = clients[:: CLIENTS // STREAMS]
        talks = await at_once(talkers, STREAMS, lambda n, one: one.stream(paths[n], spoken))
    return Rates(
        acks.a_second,
        statistics.median(acks.each_s) * 1e3,
        p99(acks.each_s) * 1e3,
        sends.a_second,
        STREAMS * DELTAS / talks.all_s,
    )


# --- latencies ----------------------------------------------------------------------------------


@asynccontextmanager
async def three(cluster: Cluster) -> AsyncGenerator[tuple[list[Node], Vendor]]:
    """Run three servers, their model in this process."""
    url = new_url(cluster)
    async with Vendor() as vendor, nodes([url] * 3, vendor) as found:
        for node in found:
            (stream,) = await conversations(node.client, 1)
            await send(node.client, stream, "[[words:1]]")
        yield found, vendor


async def send(client: httpx2.AsyncClient, stream: str, words: str) -> None:
    """Send a message and read its stream, however it ends."""
    path = f"/v1/conversations/{stream}/messages"
    try:
        await client.post(path, json={"input": words, "stream_tokens": True})
    except httpx2.HTTPError:
        return


async def lateness_s(client: httpx2.AsyncClient, stream: str) -> list[tuple[str, float]]:
    """Follow a conversation's facts to the end of its run; give how late each came, by its stamp."""
    late: list[tuple[str, float]] = []
    path, headers = f"/v1/conversations/{stream}/events", {"accept": "text/event-stream"}
    after = (await client.get(path, params={"limit": 1})).json()["head"]
    query = {"follow": "true", "after": after}
    async with client.stream("GET", path, params=query, headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                fact = orjson.loads(line.removeprefix("data: "))
                at = datetime.fromisoformat(fact["at"]).timestamp()
                late.append((fact["type"], time.time() - at))
                if fact["type"] == "run.finished":
                    return late
    return late


async def first_delta_ms(cluster: Cluster) -> float:
    """Follow runs of one node on another."""
    async with three(cluster) as (found, _):
        streams = await conversations(found[0].client, RUNS)
        firsts: list[float] = []
        for stream in streams:
            following = asyncio.create_task(lateness_s(found[1].client, stream))
            await asyncio.sleep(0.05)
            await send(found[0].client, stream, "[[words:8]][[delay:30]]")
            firsts.append(next(s for kind, s in await following if kind == "step.delta") * 1e3)
    return p95(firsts)


async def cancel_ms(cluster: Cluster) -> float:
    """Cancel runs of one node on another, while their models are silent."""
    times: list[float] = []
    async with three(cluster) as (found, vendor):
        for stream in await conversations(found[0].client, CANCELS):
            talk = asyncio.create_task(send(found[0].client, stream, "[[words:9]][[silence:3]]"))
            await until(found[2].client, stream, lambda all: of(all, "step.delta"))
            aborted, began = vendor.aborted, perf_counter()
            cancel = found[2].client.post(f"/v1/conversations/{stream}/cancel")
            answering = asyncio.ensure_future(cancel)
            await vendor.until(lambda all, before=aborted: all.aborted > before)
            times.append((perf_counter() - began) * 1e3)
            await asyncio.gather(answering, talk)
    return p95(times)


async def takeover_s(cluster: Cluster) -> float:
    """Kill a node in the middle of its runs."""
    async with three(cluster) as (found, _):
        streams = await conversations(found[0].client, KILLED)
        words = "[[words:40]][[delay:50]]"
        talks = [asyncio.create_task(send(found[0].client, one, words)) for one in streams]
        for stream in streams:
            await until(found[1].client, stream, lambda all: of(all, "step.delta"))
        found[0].server.kill()
        began = perf_counter()
        for stream in streams:
            await until(found[1].client, stream, lambda all: of(all, "run.finished"))
        took_s = perf_counter() - began
        await asyncio.wait(talks)
    return took_s


async def latest_s(cluster: Cluster) -> float:
    """Follow a talk on another node whose listening connection is cut again and again."""
    async with three(cluster) as (found, _):
        (stream,) = await conversations(found[0].client, 1)
        following = asyncio.create_task(lateness_s(found[1].client, stream))
        await asyncio.sleep(0.05)
        talk = asyncio.create_task(send(found[0].client, stream, "[[words:600]][[delay:20]]"))
        for _ in range(CUTS):
            await asyncio.sleep(0.5)
            cluster.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE '%% ear'"
            )
        await talk
        return max(late for _, late in await following)


async def back_s(cluster: Cluster) -> float:
    """Restart the database under servers that are asked all the time."""
    async with three(cluster) as (found, _):
        (stream,) = await conversations(found[0].client, 1)
        await asyncio.to_thread(cluster.stop)
        for _ in range(30):
            answer = await found[0].client.post(f"/v1/conversations/{stream}/cancel")
            assert answer.status_code == 503
            await asyncio.sleep(0.1)
        await asyncio.to_thread(cluster.start)
        began = perf_counter()
        async with client_of(found[0].server) as client:
            while not await _answered(client, stream):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)
        took_s = perf_counter() - began
        assert await facts_of(found[1].client, stream)
    return took_s


async def _answered(client: httpx2.AsyncClient, stream: str) -> bool:
    body = {"input": "[[words:1]]", "streaming": False}
    answer = await client.post(f"/v1/conversations/{stream}/messages", json=body)
    return answer.status_code == 200


MEASURED: Final[dict[Bound, Callable[[Cluster], Awaitable[float]]]] = {
    FIRST_DELTA: first_delta_ms,
    CANCEL: cancel_ms,
    LATE: latest_s,
    TAKEOVER: takeover_s,
    BACK: back_s,
}


async def measure(processes: Sequence[int], repeat: int) -> bool:
    """Measure and print all of it; tell whether every bound is kept."""
    kept = True
    cluster = Cluster(durable=True)
    with fake_model() as model:
        for _ in range(repeat):
            for count in processes:
                print((await rates(cluster, count, model.base_url)).shown(count), flush=True)
    for bound, figure in MEASURED.items():
        value = await figure(cluster)
        kept = kept and value <= bound.most
        said = "" if value <= bound.most else "  MISSED"
        print(
            f"  {bound.name}: {value:.3g} {bound.unit} (at most {bound.most:g}){said}", flush=True
        )
    cluster.remove()
    return kept


def main() -> None:
    """Read what is asked for, and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=1, help="rounds of the rates")
    parser.add_argument("--processes", type=int, nargs="+", default=[*PROCESSES])
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(0 if runner.run(measure(given.processes, given.repeat)) else 1)


if __name__ == "__main__":
    main()
