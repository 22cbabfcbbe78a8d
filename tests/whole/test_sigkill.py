"""The server is killed at random moments, twenty times, while clients talk to it and listen."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.whole.server import Server, serving

KILLS = 20
CONVERSATIONS = 4
pytestmark = pytest.mark.slow


@dataclass
class Seen:
    """What one conversation's client was told: facts, Letta frames, accepted messages."""

    conversation_id: str
    facts: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    frames: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    accepted: list[str] = field(default_factory=list[str])


@asynccontextmanager
async def client_of(server: Server) -> AsyncGenerator[httpx2.AsyncClient]:
    limits = httpx2.Timeout(30, connect=5)
    async with httpx2.AsyncClient(base_url=server.base_url, timeout=limits) as client:
        yield client


async def follow(server: Server, seen: Seen) -> None:
    """Keep every fact that the server shows; go on after the last one after each crash."""
    path = f"/v1/conversations/{seen.conversation_id}/events"
    while True:
        last = max(seen.facts, default=0)
        headers = {"accept": "text/event-stream", "last-event-id": str(last)}
        try:
            async with (
                client_of(server) as client,
                client.stream("GET", path, headers=headers) as response,
            ):
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        fact = json.loads(line[6:])
                        assert fact["offset"] == max(seen.facts, default=0) + 1
                        seen.facts[fact["offset"]] = fact
        except httpx2.HTTPError:
            await asyncio.sleep(0.05)


async def talk(server: Server, seen: Seen) -> None:
    """Send message after message as a token stream; whatever arrives is kept."""
    path = f"/v1/conversations/{seen.conversation_id}/messages"
    for number in range(1_000_000):
        text = f"message {number} of {seen.conversation_id}"
        try:
            async with (
                client_of(server) as client,
                client.stream("POST", path, json={"input": text, "stream_tokens": True}) as reply,
            ):
                if reply.status_code == 200:
                    await listen(reply, seen, text)
        except httpx2.HTTPError:
            pass
        await asyncio.sleep(0.02)


async def listen(reply: httpx2.Response, seen: Seen, text: str) -> None:
    async for line in reply.aiter_lines():
        if line.startswith("data: {"):
            frame = json.loads(line[6:])
            if frame.get("seq_id"):
                seen.frames[frame["seq_id"]] = frame
            if frame["message_type"] == "ping" and text not in seen.accepted:
                seen.accepted.append(text)


async def begin(server: Server) -> list[Seen]:
    async with client_of(server) as client:
        body = {"name": "killed", "model": "demo/steady"}
        agent = (await client.post("/v1/agents/", json=body)).json()["id"]
        made = [
            (await client.post(f"/v1/conversations/?agent_id={agent}")).json()
            for _ in range(CONVERSATIONS)
        ]
    return [Seen(one["id"]) for one in made]


async def until_quiet(server: Server, seen: Seen) -> None:
    """Wait until no run of a conversation is left, as a client would: none may stay for ever."""
    async with client_of(server) as client, asyncio.timeout(60):
        query = {"conversation_id": seen.conversation_id, "active": "true"}
        while (await client.get("/v1/runs/", params=query)).json():
            await asyncio.sleep(0.1)


async def stored(server: Server, seen: Seen) -> list[dict[str, Any]]:
    async with client_of(server) as client:
        path = f"/v1/conversations/{seen.conversation_id}/events"
        facts: list[dict[str, Any]] = []
        while True:
            page = (await client.get(path, params={"after": len(facts), "limit": 1000})).json()
            facts += page["events"]
            if len(facts) == page["head"]:
                return facts


async def test_whatever_a_client_has_seen_survives_twenty_kills(tmp_path: Path) -> None:
    random.seed(20)
    with serving(tmp_path / "killed.db", EVERLOG_DEMO_WORD_DELAY_S="0.005") as server:
        everything = await begin(server)
        tasks = [
            asyncio.create_task(work(server, seen))
            for seen in everything
            for work in (follow, talk)
        ]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.05, 0.8))
            server.kill()
            server.start()
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert [task.exception() for task in tasks if not task.cancelled()] == []
        for seen in everything:
            await until_quiet(server, seen)
            await check(server, seen)


async def check(server: Server, seen: Seen) -> None:
    facts = await stored(server, seen)
    by_offset = {fact["offset"]: fact for fact in facts}
    assert list(by_offset) == list(range(1, len(facts) + 1))
    for offset, fact in seen.facts.items():
        assert by_offset[offset] == fact
    for offset, frame in seen.frames.items():
        assert tells(frame, by_offset[offset])
    said = [fact["data"]["content"] for fact in facts if fact["type"] == "message.appended"]
    assert [text for text in seen.accepted if text not in said] == []
    assert seen.facts
    assert seen.frames
    assert seen.accepted
    async with client_of(server) as client:
        verdict = (await client.get(f"/v1/conversations/{seen.conversation_id}/verify")).json()
    assert verdict["ok"], verdict


def tells(frame: dict[str, Any], fact: dict[str, Any]) -> bool:
    """Check that a frame says what the fact at its offset says."""
    kind, data = frame["message_type"], fact["data"]
    if kind == "ping":
        return fact["type"] == "run.queued" and data["run_id"] == frame["run_id"]
    if kind == "event_message":
        return fact["type"] == "step.superseded"
    text = frame.get("content", frame.get("reasoning"))
    return fact["type"] == "step.delta" and data["x"] == text
