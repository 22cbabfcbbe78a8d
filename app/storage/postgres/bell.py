"""Telling other processes what has grown: NOTIFY after the commit, LISTEN on one connection.

A payload is a sender's mark and stream ids, so that nobody wakes itself. Whether it works at all is
tried, not assumed: a pooler may swallow it, and some databases do not know it.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, LiteralString, TypeAlias
from uuid import uuid4

import psycopg
from eventsourcing.persistence import OperationalError
from psycopg import AsyncConnection

from app.storage.postgres.connections import Connections, said
from app.storage.store import Deaf, Heard

Listening: TypeAlias = AsyncConnection[tuple[Any, ...]]

# Nothing else in the same database may use this name.
LISTEN: Final[LiteralString] = "LISTEN everlog"
NOTIFY: Final[LiteralString] = "SELECT pg_notify('everlog', %s)"
# Of the 8,000 bytes that Postgres allows.
PAYLOAD_BYTES_MAX: Final = 7_900
# How a listening connection ends its name.
EAR: Final = "ear"
PROBE_S: Final = 2.0
# A connection that the network has dropped without a word is found out this often.
HEARTBEAT_S: Final = 5.0
ANSWER_S: Final = 5.0


class PostgresBell:
    """The one channel of a database."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._mark = uuid4().hex[:12]

    def ring(self, streams: Sequence[str]) -> None:
        """Tell the others. Raises PersistenceError."""
        with self._connections.connection() as connection:
            for payload in payloads(self._mark, streams):
                connection.execute(NOTIFY, (payload,))

    async def listen(self, heard: Heard, begun: Callable[[], None]) -> None:
        """Listen until the connection is lost: it ends by raising OperationalError, or Deaf."""
        try:
            async with asyncio.timeout(ANSWER_S):
                connection = await self._connected()
        except (psycopg.Error, TimeoutError) as error:
            raise OperationalError(said(error)) from error
        try:
            await self._listen(connection, heard, begun)
        except (psycopg.Error, TimeoutError) as error:
            raise OperationalError(said(error)) from error
        finally:
            with suppress(psycopg.Error):
                await connection.close()

    async def _connected(self) -> Listening:
        conninfo, name = self._connections.conninfo, f"{self._connections.name} {EAR}"
        return await AsyncConnection[tuple[Any, ...]].connect(
            conninfo, autocommit=True, prepare_threshold=None, application_name=name
        )

    async def _listen(self, connection: Listening, heard: Heard, begun: Callable[[], None]) -> None:
        async with asyncio.timeout(ANSWER_S):
            await connection.execute(LISTEN)
            await self._echo()
        if not await self._hears(connection, heard):
            raise Deaf(
                "The database's notifications do not arrive, as behind a pooler in transaction mode"
            )
        begun()
        while True:
            async for one in connection.notifies(timeout=HEARTBEAT_S):
                self._tell(one, heard)
            async with asyncio.timeout(ANSWER_S):
                await connection.execute("SELECT 1")

    async def _echo(self) -> None:
        """Say something on another connection, for our own ear."""
        async with await self._connected() as other:
            await other.execute(NOTIFY, (f"{self._mark} ",))

    async def _hears(self, connection: Listening, heard: Heard) -> bool:
        """Find out whether what was said on another connection arrives on this one."""
        async for one in connection.notifies(timeout=PROBE_S):
            if not self._tell(one, heard):
                return True
        return False

    def _tell(self, one: psycopg.Notify, heard: Heard) -> bool:
        """Pass on what others said; tell whether it was another's."""
        mark, _, streams = one.payload.partition(" ")
        if mark == self._mark:
            return False
        heard(streams.split(","))
        return True


def payloads(mark: str, streams: Sequence[str]) -> Iterator[str]:
    """Join ids into as few payloads as their size allows."""
    words: list[str] = []
    size = len(mark) + 1
    for stream in streams:
        if words and size + len(stream) + 1 > PAYLOAD_BYTES_MAX:
            yield f"{mark} {','.join(words)}"
            words, size = [], len(mark) + 1
        words.append(stream)
        size += len(stream) + 1
    if words:
        yield f"{mark} {','.join(words)}"
