"""The server is killed at random moments, fifty times, while clients talk to it, listen and resume."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.whole.client import Fact, client_of, facts_of, new_agent, new_conversation, of, verified
from tests.whole.server import Server, serving

KILLS = 50
CONVERSATIONS = 20
RESUMERS = 2
END = "data: [DONE]"
pytestmark = pytest.mark.slow


@dataclass
class Seen:
    """What one conversation's clients were told: facts, frames, runs, accepted messages."""

    conversation_id: str
    facts: dict[int, Fact] = field(default_factory=dict[int, Fact])
    frames: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    accepted: list[str] = field(default_factory=list[str])
    runs: list[str] = field(default_factory=list[str])
    # By resumer: the lines of each run, by their number, as they came.
    resumed: list[dict[str, dict[int, str]]] = field(
        default_factory=lambda: [{} for _ in range(RESUMERS)]
    )


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


async def resume(server: Server, seen: Seen, mine: dict[str, dict[int, str]]) -> None:
    """Read each run's stream to its end, from where it broke off if it did."""
    done = 0
    while True:
        if done == len(seen.runs):
            await asyncio.sleep(0.02)
            continue
        run_id = seen.runs[done]
        lines = mine.setdefault(run_id, {})
        try:
            done += await read_on(server, run_id, lines)
        except httpx2.HTTPError:
            await asyncio.sleep(0.05)


async def read_on(server: Server, run_id: str, lines: dict[int, str]) -> bool:
    body = {"starting_after": max(lines, default=0)}
    async with (
        client_of(server) as client,
        client.stream("POST", f"/v1/runs/{run_id}/stream", json=body) as response,
    ):
        async for line in response.aiter_lines():
            if line == END:
                return True
            number = number_of(line)
            if number is not None:
                assert number not in lines, "a frame came twice"
                lines[number] = line
    return False


def number_of(line: str) -> int | None:
    return json.loads(line[6:]).get("seq_id") if line.startswith("data: {") else None


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
        await asyncio.sleep(0.05)


async def listen(reply: httpx2.Response, seen: Seen, text: str) -> None:
    async for line in reply.aiter_lines():
        if line.startswith("data: {"):
            frame = json.loads(line[6:])
            if frame.get("seq_id"):
                seen.frames[frame["seq_id"]] = frame
            if frame["message_type"] == "ping" and text not in seen.accepted:
                seen.accepted.append(text)
                seen.runs.append(frame["run_id"])


async def begin(server: Server) -> list[Seen]:
    async with client_of(server) as client:
        agent = await new_agent(client, "demo/steady")
        return [Seen(await new_conversation(client, agent)) for _ in range(CONVERSATIONS)]


async def until_heard(everything: list[Seen]) -> None:
    """Wait until every conversation has told its client something: its life may have been short."""
    async with asyncio.timeout(90):
        while not all(seen.facts and seen.frames and seen.accepted for seen in everything):
            await asyncio.sleep(0.1)


async def until_quiet(server: Server, seen: Seen) -> None:
    """Wait until no run of a conversation is left, as a client would: none may stay for ever."""
    async with client_of(server) as client, asyncio.timeout(90):
        query = {"conversation_id": seen.conversation_id, "active": "true"}
        while (await client.get("/v1/runs/", params=query)).json():
            await asyncio.sleep(0.1)


async def until_resumed(seen: Seen) -> None:
    """Wait until every resumer has begun the last run; they end soon after it has."""
    async with asyncio.timeout(90):
        while any(set(mine) != set(seen.runs) for mine in seen.resumed):
            await asyncio.sleep(0.1)


def working(server: Server, seen: Seen) -> list[asyncio.Task[None]]:
    resumers = [resume(server, seen, mine) for mine in seen.resumed]
    return [asyncio.create_task(work) for work in (follow(server, seen), *resumers)]


async def test_whatever_a_client_has_seen_survives_fifty_kills(tmp_path: Path) -> None:
    random.seed(50)
    with serving(tmp_path / "killed.db", EVERLOG_DEMO_WORD_DELAY_S="0.005") as server:
        everything = await begin(server)
        talks = [asyncio.create_task(talk(server, seen)) for seen in everything]
        others = [task for seen in everything for task in working(server, seen)]
        for _ in range(KILLS):
            await asyncio.sleep(random.uniform(0.05, 0.8))
            server.kill()
            server.start()
        await until_heard(everything)
        await ended(talks)
        for seen in everything:
            await until_quiet(server, seen)
            await until_resumed(seen)
        await asyncio.sleep(1)
        await ended(others)
        for seen in everything:
            await check(server, seen)


async def ended(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert [task.exception() for task in tasks if not task.cancelled()] == []


async def check(server: Server, seen: Seen) -> None:
    async with client_of(server) as client:
        facts = await facts_of(client, seen.conversation_id)
        by_offset = {fact["offset"]: fact for fact in facts}
        assert list(by_offset) == list(range(1, len(facts) + 1))
        for offset, fact in seen.facts.items():
            assert by_offset[offset] == fact
        for offset, frame in seen.frames.items():
            assert tells(frame, by_offset[offset])
        said = [fact["data"]["content"] for fact in of(facts, "message.appended")]
        assert [text for text in seen.accepted if text not in said] == []
        for run_id in seen.runs:
            await check_run(client, run_id, seen, facts)
        await verified(client, seen.conversation_id)


async def check_run(client: httpx2.AsyncClient, run_id: str, seen: Seen, facts: list[Fact]) -> None:
    """A run ended once, and who resumed it has every frame of its replay, and no other but ghosts."""
    ends = [one for one in of(facts, "run.finished") if one["data"]["run_id"] == run_id]
    assert len(ends) == 1
    replay = (await client.post(f"/v1/runs/{run_id}/stream", json={})).text.splitlines()
    whole = {number: line for line in replay if (number := number_of(line)) is not None}
    lost = {one["data"]["s"] for one in of(facts, "step.superseded")}
    ghosts = {one["offset"] for one in of(facts, "step.delta") if one["data"]["s"] in lost}
    for mine in seen.resumed:
        kept = {number: line for number, line in mine[run_id].items() if number not in ghosts}
        assert kept == whole


def tells(frame: dict[str, Any], fact: Fact) -> bool:
    """Check that a frame says what the fact at its offset says."""
    kind, data = frame["message_type"], fact["data"]
    if kind == "ping":
        return fact["type"] == "run.queued" and data["run_id"] == frame["run_id"]
    if kind == "event_message":
        return fact["type"] == "step.superseded"
    text = frame.get("content", frame.get("reasoning"))
    return fact["type"] == "step.delta" and data["x"] == text
