"""Who works on what: leases by the database's clock.

A lease only says when another node may take over; what keeps two nodes from writing the same run is
the epoch in the log. So a lease may be lost, late or wrong without harm.
"""

from collections.abc import Collection
from typing import Final

from app.log import Log
from projections.patches import LEASE_MS

RENEW_S: Final = LEASE_MS / 1000 * 0.3


class Leases:
    """The leases of one node."""

    def __init__(self, log: Log, node: str) -> None:
        self._log = log
        self._node = node

    async def begin(self) -> None:
        """Void the leases of those who are surely dead: a file's last owner, our own namesake."""
        store = self._log.store
        whose = None if store.exclusive else self._node
        await self._log.in_writer(lambda: store.release(whose))

    async def free(self, work: str) -> bool:
        """Tell whether nobody else is at it."""
        store = self._log.store
        return await self._log.in_reader(lambda: store.is_free(work, self._node))

    async def take(self, work: str, for_ms: int = LEASE_MS) -> bool:
        """Take work, unless somebody else has it."""
        store = self._log.store
        return await self._log.in_writer(lambda: store.take(work, self._node, for_ms))

    async def renew(self, works: Collection[str]) -> set[str]:
        """Go on with work; give what is another's by now."""
        store, mine = self._log.store, [*works]
        return await self._log.in_writer(lambda: store.renew(mine, self._node, LEASE_MS))

    async def drop(self, work: str) -> None:
        """Forget work that is done."""
        store = self._log.store
        await self._log.in_writer(lambda: store.drop(work, self._node))

    async def release(self) -> None:
        """Let others take over at once."""
        store = self._log.store
        await self._log.in_writer(lambda: store.release(self._node))

    async def unattended(self, after: str, limit: int) -> list[str]:
        """Name conversations with runs that nobody is at, paged in order of id."""
        store = self._log.store
        return await self._log.in_reader(lambda: store.unattended(after, limit))
