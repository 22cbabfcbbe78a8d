"""A pooler in transaction mode, as far as clients can tell: a session lasts one transaction.

It speaks the protocol's messages (PostgreSQL documentation, chapter 54.7): a client gets a server
connection with its first message and keeps it until the server is ready, in no transaction, and has
answered every Sync or simple query.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
SESSION = struct.pack("!II", 4711, 815)  # what a client would cancel with: made up


class Backend:
    """A connection to the server, ready for anybody."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer


class Pooler:
    """Lends few server connections to many clients, a transaction at a time."""

    def __init__(self, socket: str, backends: int = 3) -> None:
        self._socket = socket
        self._backends = backends
        self._free: asyncio.LifoQueue[Backend] = asyncio.LifoQueue()
        self._all: list[Backend] = []
        self._greeting = b""
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self.transactions = 0

    def url_of(self, name: str) -> str:
        """Where clients connect; the pooler serves one database, whatever they call it."""
        assert self._server is not None
        return f"postgresql://postgres@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/{name}"

    async def start(self, database: str) -> None:
        """Connect to the database and begin to listen."""
        for _ in range(self._backends):
            backend = await self._connected(database)
            self._all.append(backend)
            self._free.put_nowait(backend)
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def stop(self) -> None:
        """End all of it."""
        assert self._server is not None
        self._server.close()
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait([*self._clients])
        for backend in self._all:
            backend.writer.close()

    async def _connected(self, database: str) -> Backend:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        words = b"user\0postgres\0database\0" + database.encode() + b"\0\0"
        writer.write(struct.pack("!II", len(words) + 8, 196608) + words)
        greeting = b""
        while True:
            kind, message = await read(reader)
            if kind == b"S":
                greeting += message
            elif kind == b"Z":
                self._greeting = greeting
                return Backend(reader, writer)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        self._clients.add(client)
        said: Said = asyncio.Queue()
        listening: asyncio.Task[None] | None = None
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if await self._greet(reader, writer):
                listening = asyncio.create_task(_listen(reader, said))
                while await self._transaction(said, writer):
                    pass
        if listening is not None:
            listening.cancel()
        writer.close()
        self._clients.discard(client)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while True:
            size, code = struct.unpack("!II", await reader.readexactly(8))
            await reader.readexactly(size - 8)
            if code == CANCEL_REQUEST:
                return False
            if code in (SSL_REQUEST, GSS_REQUEST):
                writer.write(b"N")
                continue
            ready = b"Z" + struct.pack("!I", 5) + b"I"
            session = b"K" + struct.pack("!I", 12) + SESSION
            writer.write(b"R" + struct.pack("!II", 8, 0) + self._greeting + session + ready)
            return True

    async def _transaction(self, said: "Said", writer: asyncio.StreamWriter) -> bool:
        """Lend a server connection from a client's first message to the end of what it began."""
        first = await said.get()
        if first is None or first[:1] == b"X":
            return False
        backend = await self._free.get()
        self.transactions += 1
        try:
            await self._lend(backend, first, said, writer)
        except BaseException:
            backend.writer.close()  # in mid-transaction it is nobody's
            raise
        self._free.put_nowait(backend)
        return True

    async def _lend(
        self, backend: Backend, first: bytes, said: "Said", writer: asyncio.StreamWriter
    ) -> None:
        owed = _syncs(first)
        backend.writer.write(first)
        answering = asyncio.create_task(read(backend.reader))
        asking = asyncio.create_task(said.get())
        try:
            while True:
                await asyncio.wait([asking, answering], return_when=asyncio.FIRST_COMPLETED)
                if asking.done():
                    message = asking.result()
                    if message is None:
                        raise OSError("the client has left")
                    owed += _syncs(message)
                    backend.writer.write(message)
                    asking = asyncio.create_task(said.get())
                if answering.done():
                    kind, message = answering.result()
                    writer.write(message)
                    owed -= kind == b"Z"
                    if kind == b"Z" and not owed and message[-1:] == b"I":
                        return
                    answering = asyncio.create_task(read(backend.reader))
        finally:
            asking.cancel()
            answering.cancel()


# What a client says, message by message; None when it has left.
Said: TypeAlias = "asyncio.Queue[bytes | None]"


async def _listen(reader: asyncio.StreamReader, said: "Said") -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            said.put_nowait((await read(reader))[1])
    said.put_nowait(None)


def _syncs(message: bytes) -> int:
    """Count what the server will answer with ReadyForQuery."""
    return message[:1] in (b"S", b"Q")


async def read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Read a message; give its kind and all of it."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


@asynccontextmanager
async def pooled(socket: str, database: str) -> AsyncGenerator[Pooler]:
    """Pool a database for as long as the context is open."""
    pooler = Pooler(socket)
    await pooler.start(database)
    try:
        yield pooler
    finally:
        await pooler.stop()
