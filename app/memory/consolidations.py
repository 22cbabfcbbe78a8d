"""Sees to it that every consolidation that was asked for comes to its end, here or elsewhere.

What is under way stands in the read tables, so a restart forgets nothing; a lease keeps two nodes
from doing the same at the same time, and where it fails what they do is the same.
"""

import asyncio
import logging
from typing import Final

from app.execute import TooMuchContention
from app.log import Log, StoreUnavailable
from app.mapper import Row
from app.memory.consolidating import Consolidating
from app.watching import watch
from domain.conversation import ConsolidationFinished
from domain.sleeptime import conversation_of

POLL_S: Final = 1.0
PAGE: Final = 100
AT_ONCE_MAX: Final = 16
# A fault of ours, met so often with one consolidation, ends it: it would be met for ever.
FAULTS_MAX: Final = 5

_DUE: Final = (
    "SELECT conversation_id, consolidation_id FROM consolidations "
    "WHERE due = 1 AND consolidation_id > ? ORDER BY consolidation_id LIMIT ?"
)
logger = logging.getLogger(__name__)


class Consolidations:
    """Has the consolidations of one log carried out, in the name of one node."""

    def __init__(self, log: Log, consolidating: Consolidating) -> None:
        self._log = log
        self._consolidating = consolidating
        self._due = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE_MAX)
        # The conversations in which those are done that are under way.
        self._streams: set[str] = set()
        self._faults: dict[str, int] = {}
        self._watch: asyncio.Task[None] | None = None
        log.listen(self._noticed)

    async def start(self) -> None:
        """Begin with what was under way when the last server stopped."""
        self._due.set()
        self._watch = asyncio.create_task(
            watch(self._due, self._begin, period_s=POLL_S, name="consolidations"),
            name="consolidations",
        )

    async def stop(self) -> None:
        """Stop; what is under way stays so."""
        tasks = [*self._under_way.values(), *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _noticed(self, stream: str, rows: list[Row]) -> None:
        topics = {row.topic for row in rows}
        # When one is over it is the next one's turn.
        if topics & {"memory.consolidation_queued", "memory.consolidation_finished"}:
            self._due.set()
        if "run.finished" in topics and stream in self._streams:
            self._due.set()

    async def _begin(self) -> None:
        """Attend to what is due and not being attended to."""
        known: set[str] = set()
        while rows := await self._log.query(_DUE, (max(known, default=""), PAGE)):
            known |= {row["consolidation_id"] for row in rows}
            for row in rows:
                self._attend(row["conversation_id"], row["consolidation_id"])
        # Of the others, nothing has to be remembered.
        self._streams = {conversation_of(one) for one in known}
        self._faults = {key: count for key, count in self._faults.items() if key in known}

    def _attend(self, source: str, key: str) -> None:
        if key not in self._under_way:
            task = asyncio.create_task(self._advance(source, key), name=f"consolidation {key}")
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key))

    async def _advance(self, source: str, key: str) -> None:
        try:
            async with self._slots:
                if not await self._consolidating.waits(source, key):
                    await self._consolidating.advance(source)
        except (StoreUnavailable, TooMuchContention) as error:
            logger.info("%s waits: %s", key, error)
        except Exception as error:
            logger.exception("%s failed", key)
            await self._fault(source, key, error)

    async def _fault(self, source: str, key: str, error: Exception) -> None:
        """Give a consolidation up that we cannot make progress with."""
        self._faults[key] = self._faults.get(key, 0) + 1
        if self._faults[key] < FAULTS_MAX:
            return
        ended = ConsolidationFinished(
            consolidation_id=key, outcome="failed", detail=type(error).__name__
        )
        try:
            await self._consolidating.finish(source, ended)
        except (StoreUnavailable, TooMuchContention) as away:
            logger.warning("%s cannot even fail: %s", key, away)
