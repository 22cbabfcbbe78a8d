"""From a model's deltas to facts: the first at once, then at most one append a pace.

What comes meanwhile is merged, so a reply costs rows by its duration and not by its tokens, and
under load facts get larger, not later.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeAlias

from app.providers import Delta
from domain.run import DeltaCall, DeltaKind, StepDelta

Keep: TypeAlias = Callable[[tuple[StepDelta, ...]], Awaitable[object]]
# More than this waiting is appended before its time: the pace bounds rows, this bounds memory.
BUFFER_CHARS_MAX: Final = 64 * 1024
YIELD_EVERY: Final = 8


class _Grown:
    """What one part has grown by since the last append."""

    def __init__(self, delta: Delta) -> None:
        self.index = delta.index
        self.kind: DeltaKind = delta.kind
        self.words = [delta.text]
        self.call = (
            DeltaCall(id=delta.call_id, name=delta.call_name or "") if delta.call_id else None
        )

    def takes(self, delta: Delta) -> bool:
        return delta.index == self.index and delta.kind == self.kind and delta.call_id is None

    def fact(self, s: int) -> StepDelta:
        words = "".join(self.words)
        if self.call is None:
            return StepDelta(s=s, i=self.index, kind=self.kind, x=words)
        return StepDelta(s=s, i=self.index, kind=self.kind, x=words, call=self.call)


class Pacer:
    """Collects the deltas of step `s` and has them kept. `run` it beside the model's stream."""

    def __init__(self, s: int, keep: Keep, pace_s: float) -> None:
        self._s = s
        self._keep = keep
        self._pace_s = pace_s
        self._grown: list[_Grown] = []
        self._chars = 0
        self._taken = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._hurry = asyncio.Event()
        self._room.set()
        self._ended = False

    @property
    def heard(self) -> bool:
        """Whether the model has said anything."""
        return self._taken > 0

    async def add(self, delta: Delta) -> None:
        """Take in a delta; waits only if appending cannot keep up."""
        if self._grown and self._grown[-1].takes(delta):
            self._grown[-1].words.append(delta.text)
        else:
            self._grown.append(_Grown(delta))
        self._chars += len(delta.text)
        self._some.set()
        self._taken += 1
        if self._taken % YIELD_EVERY == 1:
            # A model that has sent a lot at once never lets go of the loop by itself.
            await asyncio.sleep(0)
        if self._chars > BUFFER_CHARS_MAX:
            self._room.clear()
            self._hurry.set()
            await self._room.wait()

    async def run(self) -> None:
        """Have kept what comes, until `end`."""
        while not self._ended:
            await self._some.wait()
            if self._ended:
                return
            await self._keep(self.rest())
            await self._wait_out_the_pace()

    async def _wait_out_the_pace(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace_s):
                await self._hurry.wait()

    def end(self) -> None:
        """Stop `run` after the append that is under way; the rest is the caller's."""
        self._ended = True
        self._some.set()
        self._hurry.set()

    def rest(self) -> tuple[StepDelta, ...]:
        """Take what has not been kept yet."""
        facts = tuple(one.fact(self._s) for one in self._grown)
        self._grown, self._chars = [], 0
        self._some.clear()
        self._room.set()
        self._hurry.clear()
        return facts
