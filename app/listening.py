"""Listens to a model's reply to its end, but not for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from app.providers import Delta, ModelError, Reply
from app.providers.catalogue import Resolved
from projections.turns import ModelRequest

# More than any model says in one reply.
REPLY_CHARS_MAX: Final = 8 * 1024 * 1024


async def unheeded(_: Delta) -> None:
    """Do nothing with a delta: the end of the reply has everything."""


@dataclass(frozen=True, slots=True)
class Listener:
    """How long to wait for a silent model, and for an endless one, in seconds."""

    silence_s: float
    reply_s: float

    async def reply_of(
        self,
        resolved: Resolved,
        request: ModelRequest,
        add: Callable[[Delta], Awaitable[None]] = unheeded,
    ) -> Reply:
        """Hear a reply out; `add` takes its deltas as they come. Raises ModelError."""
        whole = asyncio.timeout(self.reply_s)
        try:
            async with whole:
                return await self._heard(resolved, request, add)
        except TimeoutError:
            limit_s = self.reply_s if whole.expired() else self.silence_s
            what = "took longer than" if whole.expired() else "said nothing for"
            raise ModelError("llm_timeout", f"The model {what} {limit_s:g} s.") from None

    async def _heard(
        self, resolved: Resolved, request: ModelRequest, add: Callable[[Delta], Awaitable[None]]
    ) -> Reply:
        chars = 0
        # Closed at once when we stop listening for whatever reason: the socket goes with it.
        async with aclosing(resolved.provider.complete(request)) as reply:
            while True:
                async with asyncio.timeout(self.silence_s):
                    heard = await anext(reply, None)
                if not isinstance(heard, Delta):
                    break
                chars += len(heard.text)
                if chars > REPLY_CHARS_MAX:
                    raise ModelError(
                        "llm_error", f"The reply grew past {REPLY_CHARS_MAX} characters."
                    )
                await add(heard)
        if heard is None:
            raise ModelError("stream_incomplete", "The model's reply broke off.")
        if not heard.parts:
            raise ModelError("llm_empty_response", "The model sent an empty reply.")
        return heard
