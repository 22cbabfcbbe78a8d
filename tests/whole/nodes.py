"""Several real servers on one Postgres of their own, and a load that knows what was acknowledged."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import httpx2

from app.storage.postgres import migrate
from tests.databases import TERMS, Cluster
from tests.vendor import Vendor
from tests.whole.client import client_of, facts_of, new_agent, new_conversation, of, verified
from tests.whole.server import Server

MODEL = "anthropic/claude-haiku-4-5"
RETRY_S = 0.1
GUARD_S = 120.0


@dataclass(slots=True)
class Node:
    """A server and somebody who speaks to it."""

    server: Server
    client: httpx2.AsyncClient


def new_database(cluster: Cluster) -> str:
    """Make a migrated database; give its name."""
    name = f"nodes_{uuid4().hex}"
    migrate(cluster.create(name), TERMS)
    return name


@asynccontextmanager
async def nodes(urls: Sequence[str], vendor: Vendor, **env: str) -> AsyncGenerator[list[Node]]:
    """Start a server for each URL of the same database."""
    model = {"ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": vendor.base_url}
    async with AsyncExitStack() as stack:
        found: list[Node] = []
        for number, url in enumerate(urls):
            name = {"EVERLOG_NODE": f"node-{number}"}
            server = Server(url, **name, **model, **env)
            stack.callback(server.close)
            # In a thread: what it connects to may be served by this loop.
            await asyncio.to_thread(server.start)
            found.append(Node(server, await stack.enter_async_context(client_of(server))))
        yield found


async def conversations(client: httpx2.AsyncClient, count: int) -> list[str]:
    """Begin conversations with a model that does as it is told."""
    agent = await new_agent(client, MODEL)
    return [await new_conversation(client, agent) for _ in range(count)]


@dataclass(slots=True)
class Load:
    """Messages posted again and again, each under a key of its own, until they are acknowledged."""

    nodes: Sequence[Node]
    streams: Sequence[str]
    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    statuses: list[int] = field(default_factory=list[int])
    stopping: bool = False
    found: list[str] | None = None

    @asynccontextmanager
    async def under_way(self, workers: int) -> AsyncGenerator[None]:
        """Have workers send; in the end they finish what they are at. If it fails, say how far it got."""
        try:
            async with asyncio.TaskGroup() as group:
                for worker in range(workers):
                    group.create_task(self.run(worker))
                yield
                self.stopping = True
        except BaseExceptionGroup as error:
            said = [await self._last_of(stream) for stream in self.streams]
            raise AssertionError(self._told(error, said)) from error

    async def run(self, worker: int) -> None:
        """Send one message after the other to one conversation, through one node after the other."""
        stream, number = self.streams[worker % len(self.streams)], 0
        while not self.stopping:
            key = f"{worker}-{number}"
            await self._sent(stream, key, worker + number)
            number += 1

    async def _sent(self, stream: str, key: str, node: int) -> None:
        body = {"input": f"Message {key}. [[words:3]]", "streaming": False}
        async with asyncio.timeout(GUARD_S):
            while key not in self.acknowledged:
                client = self.nodes[node % len(self.nodes)].client
                if await self._posted(client, stream, key, body):
                    self.acknowledged[key] = stream
                else:
                    node += 1
                    await asyncio.sleep(RETRY_S)

    async def _posted(
        self, client: httpx2.AsyncClient, stream: str, key: str, body: Mapping[str, object]
    ) -> bool:
        path = f"/v1/conversations/{stream}/messages"
        answer = await client.post(path, json=body, headers={"idempotency-key": key})
        self.statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            return False
        assert answer.status_code == 200, answer.text
        return True

    async def _last_of(self, stream: str) -> str:
        """Name the last facts of a conversation, as the last node has them."""
        try:
            facts = await facts_of(self.nodes[-1].client, stream)
        except httpx2.HTTPError as error:
            return f"{stream}: {error!r}"
        last = [f"{one['offset']} {one['type']} {one['at']} {one['by']}" for one in facts[-8:]]
        return "; ".join([stream, *last])

    def _told(self, error: BaseExceptionGroup, said: list[str]) -> str:
        counts = f"{len(self.acknowledged)} acknowledged, statuses {Counter(self.statuses)}"
        return "\n".join([f"the load failed: {error.exceptions!r}", counts, *said])

    async def flaws(self, client: httpx2.AsyncClient) -> list[str]:
        """Name what was acknowledged and is not there, is there twice, or did not end once."""
        found: list[str] = []
        for stream in self.streams:
            facts = await facts_of(client, stream)
            await verified(client, stream)
            keys = [key for fact in of(facts, "run.queued") for key in fact["data"]["keys"]]
            mine = {f"key:{key}" for key, where in self.acknowledged.items() if where == stream}
            found += [f"{key} is lost" for key in mine.difference(keys)]
            queued = [fact["data"]["run_id"] for fact in of(facts, "run.queued")]
            ended = [fact["data"]["run_id"] for fact in of(facts, "run.finished")]
            for one, count in (Counter(keys) + Counter(queued) + Counter(ended)).items():
                # A run is queued once and ends once; a key stands for one run.
                if count != (1 if one in keys else 2):
                    found.append(f"{one} is there {count} times")
            if [fact["offset"] for fact in facts] != list(range(1, len(facts) + 1)):
                found.append(f"{stream} has a gap")
        return found
