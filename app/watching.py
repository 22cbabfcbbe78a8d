"""Seeing to what is due: as soon as something is noticed, and once in a while in any case."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.log import StoreUnavailable

logger = logging.getLogger(__name__)


async def watch(
    due: asyncio.Event, begin: Callable[[], Awaitable[None]], *, period_s: float, name: str
) -> None:
    """Call `begin` whenever `due` is set, and every `period_s` seconds; until it is cancelled."""
    while True:
        try:
            async with asyncio.timeout(period_s):
                await due.wait()
        except TimeoutError:
            pass
        due.clear()
        try:
            await begin()
        except StoreUnavailable as error:
            logger.info("%s wait: %s", name, error)
        except Exception:
            # The watch may never stop: nothing would be seen to, and nobody would know.
            logger.exception("%s wait", name)
