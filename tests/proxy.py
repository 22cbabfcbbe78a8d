"""A network between a server and its database that can be slow, lose answers, swallow or be cut."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

Mode = Literal["open", "refusing", "swallowing"]
CHUNK = 64 * 1024


class Proxy:
    """Passes bytes between a port on loopback and a unix socket.

    `refusing` cuts every connection and takes none; `swallowing` keeps them all and passes nothing
    on. `lose` is the share of answers that never arrive, their connection cut instead; `delay_s`
    says how late the next answer is.
    """

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._open = asyncio.Event()
        self._open.set()
        self._random = random.Random(7)
        self.mode: Mode = "open"
        self.lose = 0.0
        self.lost = 0
        self.delay_s: Callable[[], float] = lambda: 0.0

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return self._server.sockets[0].getsockname()[1]

    def url_of(self, name: str) -> str:
        """Give a database's URL through here."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def be(self, mode: Mode) -> None:
        """Change what happens from now on."""
        self.mode = mode
        if mode == "swallowing":
            self._open.clear()
        else:
            self._open.set()
        if mode == "refusing":
            self.cut()

    def cut(self) -> None:
        """Break every connection there is."""
        for pipe in self._pipes:
            pipe.cancel()

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        """End all of it."""
        assert self._server is not None
        self._server.close()
        self.cut()
        if self._pipes:
            await asyncio.wait([*self._pipes])
        for writer in self._writers:
            writer.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = asyncio.current_task()
        assert pipe is not None
        self._pipes.add(pipe)
        self._writers.append(writer)
        with suppress(OSError, asyncio.CancelledError):
            await self._pass(reader, writer)
        writer.close()
        self._pipes.discard(pipe)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refusing":
            return
        there, back = await asyncio.open_unix_connection(self._socket)
        self._writers.append(back)
        ways = [
            asyncio.create_task(self._one_way(reader, back, answers=False)),
            asyncio.create_task(self._one_way(there, writer, answers=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
            back.close()

    async def _one_way(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with suppress(OSError):
            while chunk := await source.read(CHUNK):
                await self._open.wait()
                if answers:
                    if self._random.random() < self.lose:
                        self.lost += 1
                        return
                    if delay_s := self.delay_s():
                        await asyncio.sleep(delay_s)
                sink.write(chunk)
                await sink.drain()


@asynccontextmanager
async def proxied(socket: str) -> AsyncGenerator[Proxy]:
    """Open a way to a database for as long as the context is open."""
    proxy = Proxy(socket)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
