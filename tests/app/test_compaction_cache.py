"""Whatever is done to a window, the cached one is the one that a cold start would fold."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from domain.conversation import PinMessage
from projections.prompts import PROMPTS
from projections.request import ModelRequest
from projections.shown_window import shown
from projections.window import window_of
from tests.app.compacting import LONG, Cast, casting, compact, done, overflow, talked, used
from tests.app.scripts import Gate, calling, failing, saying
from tests.app.serving import Said, Server

STEPS: Final = 40
MODES: Final = tuple(PROMPTS)


async def check(server: Server, stream: str) -> None:
    """Compare the cached window, its state too, with a fold of everything, and with a fresh one."""
    cached = await server.services.windows.newest(stream)
    cold = await server.services.windows.at(stream, cached.at)
    assert cached == cold
    whole = window_of(await server.facts(stream))
    assert (cached.items, cached.marks) == (whole.items, whole.marks)
    assert shown(cached).tokens == shown(whole).tokens


class Doing:
    """Does things to a conversation, at random, and keeps the compactions that it knows of."""

    def __init__(self, server: Server, stream: str, seed: int) -> None:
        self._server = server
        self._stream = stream
        self._random = random.Random(seed)
        self._known: list[str] = []
        self.done: set[str] = set()

    async def something(self) -> None:
        """Do one thing."""
        ways: list[Callable[[], Awaitable[bool]]] = [
            self._say,
            self._say,
            self._compact,
            self._compact,
            self._undo,
            self._redo,
            self._pin,
            self._roll_back,
        ]
        way = self._random.choice(ways)
        if await way():
            self.done.add(way.__name__.strip("_"))

    async def _say(self) -> bool:
        answer = await self._server.post(self._stream, f"Number {self._random.random()}.")
        return "end_turn" in answer.text

    async def _compact(self) -> bool:
        answer = await compact(self._server, self._stream, mode=self._random.choice(MODES))
        if answer.status_code == 200:
            self._known.append(answer.json()["compaction_id"])
        return answer.status_code == 200

    async def _undo(self) -> bool:
        return await self._turn("undo")

    async def _redo(self) -> bool:
        return await self._turn("redo")

    async def _turn(self, way: str) -> bool:
        if not self._known:
            return False
        compaction_id = self._random.choice(self._known)
        path = f"/v1/conversations/{self._stream}/compactions/{compaction_id}/{way}"
        answer = await self._server.http.post(path, params={"force": True})
        assert answer.status_code in (200, 409)
        return answer.status_code == 200

    async def _pin(self) -> bool:
        window = await self._server.get(f"/v1/conversations/{self._stream}/window")
        pinned: list[Any] = window["messages"]
        if not pinned:
            return False
        one = self._random.choice(pinned)
        pin = PinMessage(one["message_id"], pinned=not one["pinned"])
        await self._server.services.execute(self._stream, pin, "user")
        return True

    async def _roll_back(self) -> bool:
        """Have a tool's call wait for the client, and take its turn back."""
        tools: Any = [{"name": "weather", "parameters": {"type": "object", "properties": {}}}]
        await self._server.post(self._stream, "Weather?", client_tools=tools)
        await check(self._server, self._stream)
        answer = await self._server.post(self._stream, "Forget it.", on_busy="rollback")
        return "end_turn" in answer.text


@pytest.mark.parametrize("seed", range(4))
async def test_at_every_moment_of_a_random_life(tmp_path: Path, seed: int) -> None:
    async def reply(request: ModelRequest) -> Said:
        asks = request.tools and "Weather?" in request.turns[-1].parts[-1].model_dump_json()
        script = calling("weather", words="Let me see.") if asks else used(100, "Aye.")
        async for said in script(request):
            yield said

    async with casting(tmp_path, Cast(agent=[reply])) as (server, _):
        stream = await talked(server, "One.", "Two.", "Three.")
        doing = Doing(server, stream, seed)
        for _ in range(STEPS):
            await doing.something()
            await check(server, stream)
        head = await server.services.log.head(stream)
        assert head is not None
        for offset in range(1, head[0] + 1, 7):
            facts = [one for one in await server.facts(stream) if one.version <= offset]
            at = await server.services.windows.at(stream, offset)
            assert (at.items, at.marks) == (window_of(facts).items, window_of(facts).marks)
    assert doing.done == {"say", "compact", "undo", "redo", "pin", "roll_back"}


async def test_after_a_rollback_of_a_run_that_had_compacted(tmp_path: Path) -> None:
    gate = Gate("Half")
    scripts = [*[used(10, LONG)] * 3, *failing(overflow()), gate, saying("Yes?")]
    async with casting(tmp_path, Cast(agent=scripts)) as (server, _):
        stream = await talked(server, *[LONG] * 3)
        before = (await server.services.windows.newest(stream)).items
        talking = asyncio.create_task(server.post(stream, "Four."))
        await gate.begun.wait()
        await check(server, stream)
        assert await done(server, stream)
        await server.post(stream, "Stop.", on_busy="rollback")
        await talking
        await check(server, stream)
        after = (await server.services.windows.newest(stream)).items
    assert after[:-2] == before
