"""Conversations to be compacted: an agent's model and a summariser's, each with scripts of its own."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2

from app.providers import ModelError
from domain.conversation import (
    WindowCompacted,
    WindowCompactionFailed,
    WindowCompactionStarted,
)
from domain.run import RunFinished, Usage
from projections.request import ModelRequest
from projections.transcript import entries_of, unfenced
from tests.app.scripts import Gate, saying, told
from tests.app.serving import Said, Script, Scripted, Server, serving

AGENT: Final = "script/agent"
SUMMARISER: Final = "script/summary"
SUMMARY: Final = "They talked about the harbour."
WORDS: Final = ("One.", "Two.", "Three.", "Four.")
LONG: Final = "A long sentence about the harbour and its boats. " * 6
# A window that LONG fills in a few turns.
LIMIT: Final = 1000
# How long a test may take that would wait for ever if it failed.
GUARD_S: Final = 60.0


class Cast(Scripted):
    """A provider of two models: the agent's, and the one that writes summaries."""

    def __init__(self, agent: Sequence[Script] = (), summaries: Sequence[Script] = ()) -> None:
        super().__init__()
        self.agent = Scripted(*(agent or (saying("Aye."),)))
        self.summariser = Scripted(*(summaries or (saying(SUMMARY),)))

    async def complete(self, request: ModelRequest) -> Said:
        model = self.agent if request.handle == AGENT else self.summariser
        async for said in model.complete(request):
            yield said


@asynccontextmanager
async def casting(
    tmp_path: Path, cast: Cast | None = None, **settings: Any
) -> AsyncGenerator[tuple[Server, Cast]]:
    """Serve with a cast; whatever hangs fails."""
    cast = cast or Cast()
    async with (
        asyncio.timeout(GUARD_S),
        serving(tmp_path / "everlog.db", cast, **settings) as server,
    ):
        yield server, cast


async def began(server: Server, *, limit: int | None = None, **settings: Any) -> str:
    """Begin a conversation with the cast's agent, whose compaction settings may be given."""
    tools = settings.pop("tools", ())
    approval = settings.pop("approval_tools", ())
    agent_id = await server.agent(
        AGENT,
        context_window_limit=limit,
        tools=tools,
        approval_tools=approval,
        compaction_settings={"model": SUMMARISER, **settings},
    )
    return await server.conversation(agent_id)


async def talked(server: Server, *words: str, **settings: Any) -> str:
    """Begin a conversation in which these words were said, and each was answered."""
    stream = await began(server, **settings)
    for one in words:
        await server.post(stream, one)
    return stream


async def remembering(server: Server) -> tuple[str, str]:
    """Make an agent that remembers something, and a conversation with it; give both."""
    agent = await server.http.post(
        "/v1/agents/",
        json={
            "model": AGENT,
            "memory_blocks": [{"label": "human", "value": "likes tea"}],
            "context_window_limit": LIMIT,
            "compaction_settings": {"model": SUMMARISER, "mode": "all"},
            "include_base_tools": False,
        },
    )
    agent_id = agent.json()["id"]
    made = await server.http.post("/v1/conversations/", params={"agent_id": agent_id})
    return agent_id, made.json()["id"]


async def change_its_mind(server: Server, agent_id: str) -> None:
    """Have it remember something else."""
    path = f"/v1/agents/{agent_id}/core-memory/blocks/human"
    answer = await server.http.patch(path, json={"value": "likes coffee"})
    assert answer.status_code == 200


def used(input_tokens: int, *words: str, output_tokens: int = 1) -> Script:
    """Say words, and report what the request came to."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    return saying(*(words or ("Aye.",)), usage=usage)


def summarising() -> Gate:
    """Give a summariser that waits to be let through."""
    return Gate("They ", "talked.")


def overflow() -> ModelError:
    """Give what a vendor says to a request that is too long."""
    return ModelError("context_window_overflow", "too long", status=400)


# --- what is asked of a server ----------------------------------------------------------------


async def compact(server: Server, stream: str, **settings: Any) -> httpx2.Response:
    """Compact by hand; without settings there is no body."""
    path = f"/v1/conversations/{stream}/compact"
    if not settings:
        return await server.http.post(path)
    return await server.http.post(path, json={"compaction_settings": settings})


async def compacted(server: Server, stream: str, **settings: Any) -> dict[str, Any]:
    """Compact by hand, which must succeed."""
    answer = await compact(server, stream, **settings)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def turn(
    server: Server, stream: str, compaction_id: str, way: str, **query: Any
) -> httpx2.Response:
    """Undo or redo."""
    path = f"/v1/conversations/{stream}/compactions/{compaction_id}/{way}"
    return await server.http.post(path, params=query)


async def window_of(server: Server, stream: str, **params: Any) -> dict[str, Any]:
    """Show a window; it is the one that a cold start would fold."""
    return await server.get(f"/v1/conversations/{stream}/window", **params)


async def seen(server: Server, stream: str) -> dict[str, Any]:
    """Show a window without where it was looked at."""
    window = await window_of(server, stream)
    return {name: value for name, value in window.items() if name != "at"}


async def words_in(server: Server, stream: str) -> list[tuple[str, str]]:
    """Give what a window holds: who, and the first words."""
    window = await window_of(server, stream)
    return [(one["role"], one["parts"][0].get("text", "")) for one in window["messages"]]


async def head_of(server: Server, stream: str) -> int:
    """Give the newest offset."""
    return (await server.get(f"/v1/conversations/{stream}/events", limit=1))["head"]


async def begun(server: Server, stream: str) -> list[WindowCompactionStarted]:
    """Give the compactions that were begun."""
    return [one for one in await server.events(stream) if isinstance(one, WindowCompactionStarted)]


async def done(server: Server, stream: str) -> list[WindowCompacted]:
    """Give the compactions that were recorded."""
    return [one for one in await server.events(stream) if isinstance(one, WindowCompacted)]


async def failed(server: Server, stream: str) -> list[WindowCompactionFailed]:
    """Give the compactions that came to nothing."""
    return [one for one in await server.events(stream) if isinstance(one, WindowCompactionFailed)]


async def endings(server: Server, stream: str) -> list[RunFinished]:
    """Give the ends of the runs."""
    return [one for one in await server.events(stream) if isinstance(one, RunFinished)]


# --- what a summariser was sent ---------------------------------------------------------------


def transcript_in(request: ModelRequest) -> str:
    """Give the transcript between the fences of a request's last turn."""
    transcript = unfenced(told(request)[-1][1])
    assert transcript is not None
    return transcript


def spoken_in(request: ModelRequest) -> list[tuple[str, str]]:
    """Give who said what in the transcript of a request."""
    return [(one.speaker, one.text) for one in entries_of(transcript_in(request))]
