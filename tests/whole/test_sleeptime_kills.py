"""Memory is consolidated although the process is killed, before whatever it was about to write."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.databases import cluster
from tests.vendor import Vendor
from tests.whole.client import client_of, facts_of, new_conversation, of, until
from tests.whole.nodes import new_database, nodes
from tests.whole.server import Server, serving
from tests.whole.sleeping import (
    HOLD_RETHINK,
    HOLD_STORE,
    blocks_of,
    check_kept,
    consolidated,
    script,
    sleeper,
    told,
)

# Every write of a consolidation of two turns, the chunks of its deltas aside.
PLACES = (
    *("StartConversation:1", "CreateBlock:1", "AttachBlock:1", "QueueRun:1", "ClaimRun:1"),
    *("StartStep:1", "FinishStep:1", "StartTool:1", "InsertPassage:1", "InsertPassage:3"),
    *("FinishTool:1", "StartStep:2", "FinishStep:2", "StartTool:2", "FinishTool:2"),
    *("StartStep:3", "FinishStep:3", "StartTool:3", "FinishTool:3", "StartTool:4"),
    *("FinishTool:4", "FinishRun:1", "ChangeBlock:1", "RecompileSystem:1"),
    "FinishConsolidation:1",
)
TURNS = ("I like tea.", "And cats <3.")
LATER = ("I moved to Ulm.", "The cat came along.")
GUARD_S = 90.0
pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Talk:
    """An agent, its conversation, and what was said; where its consolidation stands still."""

    agent_id: str
    stream: str
    said: tuple[str, ...]
    place: str


@contextmanager
def halting(
    database: Path | str, vendor: Vendor, folder: Path, places: Sequence[str] = PLACES
) -> Generator[Server]:
    """Run a process that stands still in each consolidation, at one place after the other."""
    env = {"HALTS": ",".join(places), "HALTS_TOLD": str(folder / "told"), **model(vendor)}
    with serving(database, module="tests.whole.halting", EVERLOG_NODE="doomed", **env) as server:
        yield server


def model(vendor: Vendor) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": vendor.base_url}


async def standing_still(server: Server, folder: Path) -> list[Talk]:
    """Have a consolidation stand still at each place, and two more in the middle of a reply."""
    talks: list[Talk] = []
    async with client_of(server) as client:
        for place in (*PLACES, HOLD_STORE, HOLD_RETHINK):
            talks.append(await talk(client, place))
        await until_halted(folder / "told", {one.stream for one in talks[: len(PLACES)]})
        for held, steps in zip(talks[-2:], (1, 3), strict=True):
            await until_begun(client, held.stream, steps)
    return talks


async def talk(client: httpx2.AsyncClient, place: str, **terms: Any) -> Talk:
    """Have a talk after which memory is consolidated."""
    agent_id = await sleeper(client, **terms)
    stream = await new_conversation(client, agent_id)
    said = (TURNS[0], f"{TURNS[1]} {place}")
    await told(client, stream, *said)
    return Talk(agent_id, stream, said, place)


async def until_halted(file: Path, streams: set[str]) -> None:
    async with asyncio.timeout(GUARD_S):
        while await asyncio.to_thread(halted_in, file) != streams:
            await asyncio.sleep(0.05)


def halted_in(file: Path) -> set[str]:
    return set(file.read_text().split()) if file.exists() else set()


async def until_begun(client: httpx2.AsyncClient, stream: str, steps: int) -> None:
    """Wait until the model has said something in so many steps of a consolidation."""
    (asked,) = of(await facts_of(client, stream), "memory.consolidation_queued")

    def begun(facts: list[Any]) -> bool:
        last = of(facts, "step.started", "step.delta")[-1:]
        return len(of(facts, "step.started")) == steps and last[0]["type"] == "step.delta"

    # Named it is before it has begun.
    async with asyncio.timeout(GUARD_S):
        while (await client.get(f"/v1/runs/{asked['data']['run_id']}")).status_code == 404:
            await asyncio.sleep(0.05)
    await until(client, asked["data"]["conversation_id"], begun)


async def check(client: httpx2.AsyncClient, talk: Talk) -> None:
    """Check a consolidation that was killed, and that the next one takes up where it ended."""
    await consolidated(client, talk.stream, 1)
    await check_kept(client, talk.agent_id, talk.stream, talk.said, changes=1)
    await told(client, talk.stream, *LATER)
    await consolidated(client, talk.stream, 2)
    await check_kept(client, talk.agent_id, talk.stream, [*talk.said, *LATER], changes=2)
    (block,) = await blocks_of(client, talk.agent_id)
    assert block["value"].splitlines() == [*talk.said, *LATER]
    recompiled = of(await facts_of(client, talk.stream), "window.recompiled")
    assert len(recompiled) == 2
    assert "\n".join(LATER) in recompiled[-1]["data"]["system"]["text"]


async def check_each(client: httpx2.AsyncClient, talks: list[Talk]) -> None:
    """Check all, and say of those that are not as they should be where they were killed."""
    found = await asyncio.gather(*(check(client, one) for one in talks), return_exceptions=True)
    flaws = [(one.place, flaw) for one, flaw in zip(talks, found, strict=True) if flaw is not None]
    assert flaws == []


async def test_one_that_was_killed_before_any_of_its_writes_is_carried_out_once(
    tmp_path: Path,
) -> None:
    async with Vendor(script) as vendor:
        path = tmp_path / "killed.db"
        with halting(path, vendor, tmp_path) as server:
            talks = await standing_still(server, tmp_path)
            server.kill()
        vendor.go_on()
        with serving(path, EVERLOG_NODE="doomed", **model(vendor)) as server:
            async with client_of(server) as client:
                await check_each(client, talks)


@pytest.mark.sqlite
async def test_one_whose_node_was_killed_is_carried_out_once_by_the_others(tmp_path: Path) -> None:
    url = cluster().url_of(new_database(cluster()))
    async with Vendor(script) as vendor:
        with halting(url, vendor, tmp_path) as server:
            talks = await standing_still(server, tmp_path)
            async with nodes([url, url], vendor) as others:
                server.kill()
                vendor.go_on()
                for number, one in enumerate(others):
                    await check_each(one.client, talks[number :: len(others)])


# --- proposals --------------------------------------------------------------------------------


async def asked(client: httpx2.AsyncClient, talk: Talk, act: str) -> httpx2.Response:
    """Accept or reject what an agent's only consolidation proposes."""
    (one,) = (await client.get(f"/v1/agents/{talk.agent_id}/consolidations")).json()
    path = f"/v1/agents/{talk.agent_id}/consolidations/{one['consolidation_id']}/{act}"
    return await client.post(path)


async def check_accepted(client: httpx2.AsyncClient, talk: Talk) -> None:
    """Accept a proposal from two sides at once, and check that it was carried out once."""
    await consolidated(client, talk.stream, 1)
    answers = await asyncio.gather(*(asked(client, talk, "accept") for _ in range(2)))
    assert {one.status_code for one in answers} <= {200, 409}
    (shown,) = (await client.get(f"/v1/agents/{talk.agent_id}/consolidations")).json()
    assert (shown["status"], shown["version"]) == ("accepted", 2)
    await check_kept(client, talk.agent_id, talk.stream, talk.said, changes=1)


async def test_a_proposal_is_made_and_accepted_once_whenever_the_process_is_killed(
    tmp_path: Path,
) -> None:
    places = ("FinishRun:1", "FinishConsolidation:1", "ChangeBlock:1", "SettleProposal:1")
    async with Vendor(script) as vendor:
        path = tmp_path / "killed.db"
        with halting(path, vendor, tmp_path, places) as server:
            async with client_of(server) as client:
                talks = [await talk(client, one, require_acceptance=True) for one in places]
                for one in talks[2:]:
                    await consolidated(client, one.stream, 1)
                accepting = [asyncio.create_task(asked(client, one, "accept")) for one in talks[2:]]
                await until_halted(tmp_path / "told", {one.stream for one in talks})
                server.kill()
                await asyncio.wait(accepting)
        assert all(isinstance(one.exception(), httpx2.HTTPError) for one in accepting)
        with serving(path, EVERLOG_NODE="doomed", **model(vendor)) as server:
            async with client_of(server) as client:
                rejected = await asked(client, talks[3], "reject")
                assert rejected.status_code == 409, "it is in the block already"
                for one in talks:
                    await check_accepted(client, one)
