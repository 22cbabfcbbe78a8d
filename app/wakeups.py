"""Wake-ups across processes: what has grown here is told after its commit, what grew elsewhere is heard.

Hearing is a convenience: behind it everybody who waits looks once a second, and that is the truth.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from eventsourcing.persistence import PersistenceError

from app.log import Log, StoreUnavailable
from app.mapper import Row
from app.storage.store import Bell, Deaf, Heard

# What grows within this time is told together.
RING_S: Final = 0.02
LOOK_S: Final = 1.0
RECONNECT_S: Final = 0.5
# A pooler is not likely to go away.
DEAF_S: Final = 60.0
STREAMS_HELD_MAX: Final = 100_000
logger = logging.getLogger(__name__)


class Wakeups:
    """Rings for what this process appends, listens to the others, and looks once a second."""

    def __init__(self, log: Log, look: Callable[[], Awaitable[None]], *ears: Heard) -> None:
        self._log = log
        self._look = look
        self._ears = ears
        self._down = False
        self._grown: set[str] = set()
        self._growing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin, where other processes may write."""
        if self._log.store.exclusive:
            return
        self._tasks.append(asyncio.create_task(self._look_often(), name="wakeups look"))
        bell = self._log.store.bell
        if bell is not None:
            self._log.listen(self._grew)
            self._tasks.append(asyncio.create_task(self._ring(bell), name="wakeups ring"))
            self._tasks.append(asyncio.create_task(self._listen(bell), name="wakeups listen"))

    async def stop(self) -> None:
        """Fall silent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _grew(self, stream: str, _: list[Row]) -> None:
        if len(self._grown) < STREAMS_HELD_MAX:
            self._grown.add(stream)
        self._growing.set()

    async def _ring(self, bell: Bell) -> None:
        while True:
            await self._growing.wait()
            await asyncio.sleep(RING_S)
            streams, self._grown = [*self._grown], set()
            self._growing.clear()
            try:
                await self._log.in_writer(lambda streams=streams: bell.ring(streams))
            except StoreUnavailable:
                continue  # the others look by themselves

    async def _listen(self, bell: Bell) -> None:
        """Listen, for ever; what was said while nobody listened is looked for."""
        while True:
            try:
                await bell.listen(self._heard, self._begun)
            except Deaf as error:
                logger.warning("%s: everybody looks once a second instead.", error)
                await asyncio.sleep(DEAF_S)
            except PersistenceError as error:
                self._say("not listening to other processes", error)
            except Exception:
                logger.exception("listening failed")
            await asyncio.sleep(RECONNECT_S)

    def _heard(self, streams: Sequence[str]) -> None:
        for ear in self._ears:
            ear(streams)

    def _begun(self) -> None:
        self._tasks = [one for one in self._tasks if not one.done()]
        self._tasks.append(asyncio.create_task(self._look_once(), name="wakeups begun"))

    async def _look_often(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self._look_once()

    async def _look_once(self) -> None:
        try:
            await self._look()
        except StoreUnavailable as error:
            self._say("the database does not answer", error)
        except Exception:
            logger.exception("a look failed")
        else:
            self._down = False

    def _say(self, what: str, error: Exception) -> None:
        """Say what is wrong once, not each second."""
        if not self._down:
            logger.warning("%s (%s); trying again until it is otherwise", what, error)
        self._down = True
