"""What tests of whole servers say to them, and read from them."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx2

from tests.whole.server import Server

Fact: TypeAlias = dict[str, Any]
GUARD_S = 90.0
# Made once: reading the machine's certificates takes 20 ms of CPU, and nothing here speaks TLS.
TLS = ssl.create_default_context()


@asynccontextmanager
async def client_of(server: Server) -> AsyncGenerator[httpx2.AsyncClient]:
    """Speak to a server."""
    limits = httpx2.Timeout(GUARD_S, connect=5)
    pool = httpx2.Limits(max_connections=200)
    async with httpx2.AsyncClient(
        base_url=server.base_url, timeout=limits, limits=pool, verify=TLS
    ) as client:
        yield client


async def new_agent(client: httpx2.AsyncClient, model: str, **settings: Any) -> str:
    """Make an agent; give its id."""
    answer = await client.post("/v1/agents/", json={"name": "a", "model": model, **settings})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def new_conversation(client: httpx2.AsyncClient, agent_id: str) -> str:
    """Make a conversation; give its id."""
    answer = await client.post(f"/v1/conversations/?agent_id={agent_id}")
    return answer.json()["id"]


async def facts_of(client: httpx2.AsyncClient, conversation_id: str) -> list[Fact]:
    """Give all facts of a conversation."""
    path = f"/v1/conversations/{conversation_id}/events"
    facts: list[Fact] = []
    while True:
        page = (await client.get(path, params={"after": len(facts), "limit": 1000})).json()
        facts += page["events"]
        if len(facts) >= page["head"]:
            return facts


async def until(
    client: httpx2.AsyncClient, conversation_id: str, true: Callable[[list[Fact]], object]
) -> list[Fact]:
    """Wait until something is true of a conversation's facts."""
    async with asyncio.timeout(GUARD_S):
        while not true(facts := await facts_of(client, conversation_id)):
            await asyncio.sleep(0.05)
    return facts


async def verified(client: httpx2.AsyncClient, conversation_id: str) -> None:
    """Check a conversation's chain."""
    verdict = (await client.get(f"/v1/conversations/{conversation_id}/verify")).json()
    assert verdict["ok"], verdict


def of(facts: list[Fact], *types: str) -> list[Fact]:
    """Give the facts of some types."""
    return [fact for fact in facts if fact["type"] in types]
