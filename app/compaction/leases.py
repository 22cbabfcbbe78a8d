"""Who compacts a conversation for a person: one at a time, whichever node it is on.

What a run has compacted is held by the run's own lease.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from app.leases import RENEW_S, Leases
from app.log import StoreUnavailable


def work_of(stream: str) -> str:
    """Name the lease of whoever compacts a conversation for a person."""
    return f"compaction of {stream}"


class CompactionLeases:
    """The conversations that one node is compacting for somebody, and who else is."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._mine: set[str] = set()

    async def free(self, stream: str) -> bool:
        """Tell whether nobody is at a conversation, here or elsewhere."""
        return stream not in self._mine and await self._leases.free(work_of(stream))

    @asynccontextmanager
    async def held(self, stream: str) -> AsyncGenerator[bool]:
        """Let others know that somebody is at it, for as long as this process lives.

        Gives False if somebody else is at it.
        """
        if stream in self._mine:
            yield False
            return
        self._mine.add(stream)
        try:
            async with self._leased(work_of(stream)) as taken:
                yield taken
        finally:
            self._mine.discard(stream)

    @asynccontextmanager
    async def _leased(self, work: str) -> AsyncGenerator[bool]:
        if not await self._leases.take(work):
            yield False
            return
        renewing = asyncio.create_task(self._renew(work), name=work)
        try:
            yield True
        finally:
            renewing.cancel()
            with suppress(StoreUnavailable):
                await self._leases.drop(work)

    async def _renew(self, work: str) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(StoreUnavailable):
                await self._leases.renew([work])
