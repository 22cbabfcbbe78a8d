"""Agents that consolidate their memory, a model that keeps all of it, and what must hold in the end."""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

import httpx2

from projections.consolidation import FINISH, RETHINK, STORE
from projections.memories import deserialize
from tests.vendor import Block, Json, Script
from tests.whole.client import Fact, facts_of, of, until, verified
from tests.whole.nodes import MODEL
from tests.whole.test_two_nodes import check_fence

FREQUENCY: Final = 2
REPLY: Final = "Aye."
# What a person says to have the model wait while it stores, or while it rethinks.
HOLD_STORE, HOLD_RETHINK = "[store slowly]", "[rethink slowly]"
_MEMORY: Final = re.compile(r"=== memory (\w+) begins ===\n(.*)\n=== memory \1 ends ===", re.DOTALL)
_LINE: Final = re.compile(r"^\[(\d+)\] (\w+): (.*)$", re.MULTILINE)


def script(body: Json) -> Script:
    """Chat, or keep memory: every line is stored, and what the user said goes into the block."""
    if STORE not in {tool["name"] for tool in body.get("tools", [])}:
        return Script((Block("text", (REPLY,)),))
    parts = [part for message in body["messages"] for part in message["content"]]
    task = "\n".join(part["text"] for part in parts if part["type"] == "text")
    stage = sum(message["role"] == "assistant" for message in body["messages"])
    return (_storing, _drafting, _rethinking)[stage](task)


def _storing(task: str) -> Script:
    numbers = [int(found[1]) for found in _LINE.finditer(task)]
    chunks = [{"start_index": n, "end_index": n, "context": f"Line {n}."} for n in numbers]
    hold = 1 if HOLD_STORE in task else None
    return Script((_call("toolu_a", STORE, {"chunks": chunks}),), hold_after=hold)


def _drafting(_: str) -> Script:
    return Script((_call("toolu_b", RETHINK, {"new_memory": "A draft."}),))


def _rethinking(task: str) -> Script:
    held = _MEMORY.search(task)
    known = held[2].splitlines() if held is not None else []
    said = [found[3] for found in _LINE.finditer(task) if found[2] == "user"]
    memory = _call("toolu_c", RETHINK, {"new_memory": "\n".join([*known, *said])})
    hold = 1 if HOLD_RETHINK in task else None
    return Script((memory, _call("toolu_d", FINISH, {})), hold_after=hold)


def _call(call_id: str, name: str, arguments: Json) -> Block:
    text = json.dumps(arguments)
    return Block("tool_use", (text[:9], text[9:]), call_id=call_id, name=name)


async def sleeper(client: httpx2.AsyncClient, **terms: Any) -> str:
    """Make an agent that consolidates its memory, and has no block yet."""
    body = {
        "model": MODEL,
        "enable_sleeptime": True,
        "sleeptime_agent_frequency": FREQUENCY,
        "sleeptime_settings": terms,
    }
    answer = await client.post("/v1/agents/", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def told(client: httpx2.AsyncClient, stream: str, *words: str) -> list[Json]:
    """Say something, one message after the other; give the answers."""
    answers: list[Json] = []
    for one in words:
        body = {"input": one, "streaming": False}
        answer = await client.post(f"/v1/conversations/{stream}/messages", json=body)
        assert answer.status_code == 200, answer.text
        answers.append(answer.json())
    return answers


async def consolidated(client: httpx2.AsyncClient, stream: str, count: int) -> list[Fact]:
    """Wait until so many consolidations of a conversation are over; give its facts."""
    ended = "memory.consolidation_finished"
    return await until(client, stream, lambda facts: len(of(facts, ended)) >= count)


async def check_kept(
    client: httpx2.AsyncClient,
    agent_id: str,
    stream: str,
    said: Sequence[str],
    *,
    changes: int | None = None,
) -> None:
    """Check that all that was `said` is in memory once, and that the block was changed so often.

    Each consolidation was asked for once and ended once, by one run, and those took turns. Without
    `changes` the block was changed by each that says so, accepted proposals aside.
    """
    facts = await facts_of(client, stream)
    await verified(client, stream)
    asked, ended = (
        of(facts, "memory.consolidation_queued"),
        of(facts, "memory.consolidation_finished"),
    )
    ids = [one["data"]["consolidation_id"] for one in asked]
    assert [one["data"]["consolidation_id"] for one in ended] == ids
    assert len(set(ids)) == len(ids)
    places = [fact["offset"] for pair in zip(asked, ended, strict=True) for fact in pair]
    assert places == sorted(places), "two were under way at once"
    check_marks(asked, ended)
    for one in asked:
        await check_run(client, one)
    expected = [line for one in said for line in (f"user: {one}", f"assistant: {REPLY}")]
    assert sorted(await memories(client, agent_id)) == sorted(expected)
    (block,) = await blocks_of(client, agent_id)
    causes = [one["cause"] for one in await changes_of(client, block["id"])]
    applied = [one for one in ended if one["data"]["outcome"] == "applied"]
    assert len(causes) == (len(applied) if changes is None else changes)
    inner = {one["data"]["conversation_id"]: one["data"]["run_id"] for one in asked}
    for cause in causes:
        assert inner[cause["conversation_id"]] == cause["run_id"]
        assert cause["tool"] == RETHINK
    await check_quiet(client, agent_id)


def check_marks(asked: list[Fact], ended: list[Fact]) -> None:
    """Check that each took up where the last one ended that did something."""
    mark = 0
    for one, end in zip(asked, ended, strict=True):
        assert one["data"]["after"] == mark
        mark = end["data"].get("upto") or mark


async def check_run(client: httpx2.AsyncClient, asked: Fact) -> None:
    """Check that a consolidation was one run that ended once, claimed by one after the other."""
    inner = await facts_of(client, asked["data"]["conversation_id"])
    await verified(client, asked["data"]["conversation_id"])
    check_fence(inner)
    runs = [one["data"]["run_id"] for one in of(inner, "run.queued", "run.finished")]
    assert runs == [asked["data"]["run_id"]] * 2


async def check_quiet(client: httpx2.AsyncClient, agent_id: str) -> None:
    """Check that nothing of an agent is under way."""
    runs = await client.get("/v1/runs/", params={"agent_id": agent_id, "active": "true"})
    running = await client.get(
        f"/v1/agents/{agent_id}/consolidations", params={"status": "running"}
    )
    assert (runs.json(), running.json()) == ([], [])


async def memories(client: httpx2.AsyncClient, agent_id: str) -> list[str]:
    """Give the lines that an agent has stored, in the order of its archive."""
    path = f"/v1/agents/{agent_id}/archival-memory"
    found = (await client.get(path, params={"limit": 1000})).json()
    return [line for one in found for line in deserialize(one["text"]).messages]


async def blocks_of(client: httpx2.AsyncClient, agent_id: str) -> list[Json]:
    """Give an agent's blocks."""
    return (await client.get(f"/v1/agents/{agent_id}/core-memory/blocks")).json()


async def changes_of(client: httpx2.AsyncClient, block_id: str) -> list[Json]:
    """Give a block's versions that were changes."""
    history = (await client.get(f"/v1/blocks/{block_id}/history")).json()
    return [one for one in history["versions"] if one["kind"] == "changed"]
