"""The server's figures on this machine, beside the least (or most) that they should be.

Everything goes over HTTP to a real process on a file of its own; the model is a fake one, in a
process of its own, so what is timed is the server. Ends with 1 if a floor is missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Final

import uvloop

from benchmarks.load import (
    Connection,
    UnexpectedAnswer,
    asking_for,
    at_once,
    connections,
    new_agent,
    new_conversation,
)
from benchmarks.processes import Process, fake_model, rss_mb
from tests.whole.server import Server

CREATORS, CREATED = 8, 400
SENT_ALONE = 60
SENDERS, SENT = 32, 320
STREAMS, DELTAS, STREAM_ROUNDS = 16, 200, 3
REPLAYED_DELTAS, REPLAYS = 2_000, 7
# Said about as slowly as models do: said at once, they would be stored as a handful of facts.
REPLAYED_DELAY_MS: Final = 5
SAMPLE_S: Final = 0.02
SETTLE_S: Final = 0.3
HEALTH_TIMEOUT_S: Final = 5.0
REPEAT_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Floor:
    """A figure's name, its unit, and the least it should be; or the most."""

    name: str
    unit: str
    bound: float
    at_most: bool = False

    def held(self, value: float) -> bool:
        """Tell whether a value will do."""
        return value <= self.bound if self.at_most else value >= self.bound


READY: Final = Floor("from start to ready", "s", 2, at_most=True)
RSS_IDLE: Final = Floor("memory before the first model call", "MB", 120, at_most=True)
CREATE: Final = Floor(f"create conversation, {CREATORS} at once", "/s", 400)
SEND_P50: Final = Floor("JSON send, 1 at once: median", "ms", 15, at_most=True)
SEND_RATE: Final = Floor(f"JSON send, {SENDERS} at once", "/s", 80)
STREAM: Final = Floor(f"stream of {DELTAS} deltas, {STREAMS} at once", "deltas/s", 1_500)
REPLAY: Final = Floor(f"replay of {REPLAYED_DELTAS:,} deltas", "deltas/s", 50_000)
RSS_LOADED: Final = Floor(f"memory with {STREAMS} streams", "MB", 180, at_most=True)
FLOORS: Final = (READY, RSS_IDLE, CREATE, SEND_P50, SEND_RATE, STREAM, REPLAY, RSS_LOADED)


class Subject:
    """The server that is measured, and an agent on it."""

    def __init__(self, process: Process, agent_id: str) -> None:
        self.process = process
        self.agent_id = agent_id

    @property
    def base_url(self) -> str:
        """Where it listens."""
        return self.process.base_url

    async def conversations(self, count: int) -> list[str]:
        """Begin conversations; give the paths of their messages."""
        async with connections(self.base_url, 1) as (client,):
            ids = [await new_conversation(client, self.agent_id) for _ in range(count)]
        return [f"/v1/conversations/{one}/messages" for one in ids]


def ready_s(server: Server) -> float:
    """Start the server; time it until it answers."""
    began = perf_counter()
    server.start()
    address = server.base_url.removeprefix("http://")
    with closing(HTTPConnection(address, timeout=HEALTH_TIMEOUT_S)) as client:
        client.request("GET", "/v1/health/")
        assert client.getresponse().status == 200
    return perf_counter() - began


async def begin(process: Process) -> Subject:
    """Create an agent."""
    async with connections(process.base_url, 1) as (client,):
        return Subject(process, await new_agent(client))


async def created_a_second(subject: Subject) -> float:
    """Create conversations, as fast as so many clients can."""
    async with connections(subject.base_url, CREATORS) as clients:
        timed = await at_once(
            clients, CREATED, lambda _, client: new_conversation(client, subject.agent_id)
        )
    return timed.a_second


async def send_ms(subject: Subject) -> float:
    """Send messages, one after the other, to a model that answers with a word."""
    paths = await subject.conversations(1)
    async with connections(subject.base_url, 1) as clients:
        body = asking_for(1, streaming=False)
        await clients[0].json("POST", paths[0], body)  # imports the vendor's SDK
        timed = await at_once(
            clients, SENT_ALONE, lambda _, client: client.json("POST", paths[0], body)
        )
    return statistics.median(timed.each_s) * 1e3


async def sent_a_second(subject: Subject) -> float:
    """Send messages in many conversations at once."""
    paths = await subject.conversations(SENDERS)
    async with connections(subject.base_url, SENDERS) as clients:
        body = asking_for(1, streaming=False)
        timed = await at_once(
            clients, SENT, lambda worker, client: client.json("POST", paths[worker], body)
        )
    return timed.a_second


async def streamed_a_second(subject: Subject) -> tuple[float, float]:
    """Stream long replies at once; give the deltas a second, and the most memory meanwhile."""
    async with _memory_of(subject.process.pid) as seen_mb:
        rates = [await _streamed_once(subject) for _ in range(STREAM_ROUNDS)]
    return statistics.median(rates), max(seen_mb)


async def _streamed_once(subject: Subject) -> float:
    paths = await subject.conversations(STREAMS)
    body = asking_for(DELTAS, streaming=True, stream_tokens=True)
    async with connections(subject.base_url, STREAMS) as clients:
        began = perf_counter()
        streamed = await asyncio.gather(
            *(client.stream(path, body) for client, path in zip(clients, paths, strict=True))
        )
        took_s = perf_counter() - began
    return _all_came(sum(one.deltas for one in streamed), STREAMS * DELTAS) / took_s


def _all_came(deltas: int, wanted: int) -> int:
    if deltas != wanted:
        raise UnexpectedAnswer(f"{deltas} deltas of {wanted} came")
    return deltas


@asynccontextmanager
async def _memory_of(pid: int) -> AsyncGenerator[list[float]]:
    """Look at a process's memory again and again."""
    seen_mb = [rss_mb(pid)]

    async def look() -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            seen_mb.append(rss_mb(pid))

    looking = asyncio.create_task(look())
    try:
        yield seen_mb
    finally:
        looking.cancel()
        await asyncio.wait([looking])


async def replayed_a_second(subject: Subject) -> float:
    """Read a finished run again from its beginning."""
    (path,) = await subject.conversations(1)
    conversation = path.removesuffix("/messages")
    async with connections(subject.base_url, 1) as (client,):
        how = {"streaming": True, "stream_tokens": True, "background": True}
        await client.stream(path, asking_for(REPLAYED_DELTAS, REPLAYED_DELAY_MS, **how))
        query = f"/v1/runs/?conversation_id={conversation.rpartition('/')[2]}"
        body = {"run_id": (await client.json("GET", query))[0]["id"], "starting_after": 0}
        timed = await at_once([client], REPLAYS, lambda _, one: _replayed(one, conversation, body))
    return REPLAYED_DELTAS / statistics.median(timed.each_s)


async def _replayed(client: Connection, conversation: str, body: dict[str, Any]) -> None:
    replay = await client.stream(f"{conversation}/stream", body)
    _all_came(replay.deltas, REPLAYED_DELTAS)


async def measure(process: Process) -> dict[Floor, float]:
    """Take every figure but the first once."""
    subject = await begin(process)
    found = {CREATE: await created_a_second(subject)}
    found[RSS_IDLE] = rss_mb(process.pid)
    found[SEND_P50] = await send_ms(subject)
    found[SEND_RATE] = await sent_a_second(subject)
    found[STREAM], found[RSS_LOADED] = await streamed_a_second(subject)
    found[REPLAY] = await replayed_a_second(subject)
    return found


def once(model: Process) -> dict[Floor, float]:
    """Measure a server that is started for it and ended after it."""
    key = {"ANTHROPIC_API_KEY": "sk-made-up", "ANTHROPIC_BASE_URL": model.base_url}
    with tempfile.TemporaryDirectory(prefix="everlog-") as home:
        server = Server(Path(home) / "figures.db", **key)
        try:
            ready = ready_s(server)
            sleep(SETTLE_S)
            return {READY: ready, **uvloop.run(measure(Process(server.pid, server.base_url)))}
        finally:
            server.close()


def show(rounds: Sequence[dict[Floor, float]]) -> bool:
    """Print the medians beside their floors; tell whether all held."""
    print(f"{'':40}{'median':>10} {'':9}{'floor':>13}")
    missed = 0
    for floor in FLOORS:
        value = statistics.median(found[floor] for found in rounds)
        bound = f"{'≤' if floor.at_most else '≥'} {floor.bound:,}"
        missed += not floor.held(value)
        verdict = "" if floor.held(value) else "  MISSED"
        print(f"{floor.name:40}{_rounded(value):>10} {floor.unit:9}{bound:>13}{verdict}")
    return not missed


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, choices=range(1, REPEAT_MAX), metavar="N")
    repeat = parser.parse_args().repeat
    with fake_model() as model:
        rounds = [once(model) for _ in range(repeat)]
    sys.exit(0 if show(rounds) else 1)


if __name__ == "__main__":
    main()
