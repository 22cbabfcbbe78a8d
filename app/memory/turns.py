"""Whose turn it is: the consolidations of one agent are done one after the other.

They change the same block, and each is to start from what the one before it has made of it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from app.execute import Execute
from app.leases import Leases
from app.log import Log
from domain.sleeptime import conversation_of

LEASE_MS: Final = 30_000
# So many at the head of the line are looked at; whoever is further back is not next.
LOOKED_AT_MAX: Final = 8

_LINE: Final = (
    "SELECT consolidations.consolidation_id FROM consolidations "
    "JOIN conversations ON conversations.conversation_id = consolidations.conversation_id "
    "WHERE conversations.agent_id = ? AND consolidations.due = 1 "
    "ORDER BY consolidations.created_at, consolidations.consolidation_id LIMIT ?"
)


class Turns:
    """The line of each agent's consolidations, as one node sees it."""

    def __init__(self, log: Log, execute: Execute, leases: Leases) -> None:
        self._log = log
        self._execute = execute
        self._leases = leases
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def alone(self, agent_id: str) -> AsyncGenerator[bool]:
        """Have nobody else see to an agent's consolidations; give whether that is so.

        A lease is left to lapse if what is done meanwhile fails. Raises StoreUnavailable.
        """
        work = f"consolidations of {agent_id}"
        async with self._locks.setdefault(agent_id, asyncio.Lock()):
            taken = await self._leases.take(work, LEASE_MS)
            yield taken
            if taken:
                await self._leases.drop(work)

    async def is_next(self, agent_id: str, consolidation_id: str) -> bool:
        """Tell whether a consolidation that is under way may begin, as none of its agent has."""
        rows = await self._log.query(_LINE, (agent_id, LOOKED_AT_MAX))
        line = [row["consolidation_id"] for row in rows]
        if not line or line[0] != consolidation_id:
            return False
        # One that was asked for later has begun if the clocks of two nodes differ.
        others = [await self._execute.conversation(conversation_of(one)) for one in line[1:]]
        return all(one.agent_id is None for one in others)
