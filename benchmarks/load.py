"""A load generator that costs little beside what it measures: HTTP/1.1 by hand, one process."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Self
from urllib.parse import urlsplit

# What both fake models say: a word a delta, so that merged frames still count every delta.
WORD: Final = re.compile(rb"word\d+ ")
MODEL: Final = "anthropic/claude-haiku-4-5"
TIMEOUT_S: Final = 60.0


class UnexpectedAnswer(Exception):
    """A status other than 200: nothing that could be timed."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """The body of an answer, and how many deltas are in it."""

    deltas: int
    body: bytes


class Connection:
    """One connection, kept open; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, base_url: str) -> Self:
        """Connect."""
        address = urlsplit(base_url)
        return cls(*await asyncio.open_connection(address.hostname, address.port))

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and give its answer."""
        return json.loads(await self.raw(method, path, body))

    async def stream(self, path: str, body: Any) -> Streamed:
        """Send a request and read its stream to the end."""
        raw = await self.raw("POST", path, body)
        return Streamed(len(WORD.findall(raw)), raw)

    async def raw(self, method: str, path: str, body: Any = None) -> bytes:
        """Send a request and give its answer's bytes. Raises UnexpectedAnswer."""
        async with asyncio.timeout(TIMEOUT_S):
            self._send(method, path, b"" if body is None else json.dumps(body).encode())
            status, headers = await self._head()
            answer = await self._body(headers)
        if status != 200:
            raise UnexpectedAnswer(f"{method} {path}: {status} {answer[:300]!r}")
        return answer

    def _send(self, method: str, path: str, body: bytes) -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.strip().split("\r\n")
        pairs = (field.partition(":") for field in fields)
        return int(line.split(" ")[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self._reader.readexactly(int(headers["content-length"]))
        pieces: list[bytes] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            pieces.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(pieces)


@asynccontextmanager
async def connections(base_url: str, count: int) -> AsyncGenerator[list[Connection]]:
    """Hold so many connections open."""
    async with AsyncExitStack() as stack:
        opened = [await Connection.to(base_url) for _ in range(count)]
        for one in opened:
            stack.callback(one.close)
        yield opened


@dataclass(frozen=True, slots=True)
class Timed:
    """How long each request took, and all of them together."""

    each_s: list[float]
    all_s: float

    @property
    def a_second(self) -> float:
        """Give the rate."""
        return len(self.each_s) / self.all_s


async def at_once(
    workers: Sequence[Connection], count: int, work: Callable[[int, Connection], Awaitable[Any]]
) -> Timed:
    """Have `work` done `count` times, each worker taking the next as soon as it is free."""
    each_s: list[float] = []
    numbers = iter(range(count))

    async def serve(worker: int) -> None:
        for _ in numbers:
            began = perf_counter()
            await work(worker, workers[worker])
            each_s.append(perf_counter() - began)

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for worker in range(len(workers)):
            group.create_task(serve(worker))
    return Timed(each_s, perf_counter() - began)


async def new_agent(client: Connection) -> str:
    """Create an agent on the fake model."""
    body = {"name": "bench", "model": MODEL, "include_base_tools": False}
    return (await client.json("POST", "/v1/agents/", body))["id"]


async def new_conversation(client: Connection, agent_id: str) -> str:
    """Create a conversation."""
    return (await client.json("POST", f"/v1/conversations/?agent_id={agent_id}", {}))["id"]


def asking_for(words: int, delay_ms: int = 0, **how: Any) -> dict[str, Any]:
    """Make the body of a message that has either fake model say so many words, so fast."""
    return {"input": f"go [[words:{words}]] [[chunks:{words}]] [[delay:{delay_ms}]]", **how}
