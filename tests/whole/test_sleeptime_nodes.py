"""Several servers on one Postgres consolidate a conversation's memory one at a time, whoever asks."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import cycle, islice

import httpx2
import pytest

from tests.databases import cluster
from tests.vendor import Vendor
from tests.whole.client import facts_of, new_conversation, of, until
from tests.whole.nodes import Node, new_database, nodes
from tests.whole.sleeping import (
    REPLY,
    blocks_of,
    changes_of,
    check_kept,
    check_marks,
    memories,
    script,
    sleeper,
    told,
)

NODES, ROUNDS, ASKED, TALKS = 2, 8, 4, 6
FINISHED = "memory.consolidation_finished"
QUEUED = "memory.consolidation_queued"
pytestmark = pytest.mark.slow


@pytest.fixture
async def two() -> AsyncGenerator[list[Node]]:
    url = cluster().url_of(new_database(cluster()))
    async with Vendor(script) as vendor, nodes([url] * NODES, vendor) as found:
        yield found


async def consolidate(
    client: httpx2.AsyncClient, agent_id: str, stream: str, key: str | None = None
) -> httpx2.Response:
    body = {"conversation_id": stream}
    headers = {} if key is None else {"idempotency-key": key}
    return await client.post(f"/v1/agents/{agent_id}/consolidate", json=body, headers=headers)


async def finish(client: httpx2.AsyncClient, agent_id: str, stream: str) -> None:
    """Have memory consolidated until nothing is left to be."""
    while True:
        await until(
            client, stream, lambda facts: len(of(facts, QUEUED)) == len(of(facts, FINISHED))
        )
        answer = await consolidate(client, agent_id, stream)
        if answer.status_code == 400:
            assert "Nothing was said" in answer.text
            return


async def test_one_conversation_is_consolidated_by_one_at_a_time(two: list[Node]) -> None:
    first, second = (one.client for one in two)
    agent_id = await sleeper(first)
    stream = await new_conversation(first, agent_id)
    said = ["The first.", "The second.", "The third."]
    await told(first, stream, said[0])
    assert (await consolidate(second, agent_id, stream)).status_code == 200
    await finish(first, agent_id, stream)
    await told(second, stream, *said[1:])
    for number in range(ROUNDS):
        said += [f"Thing {number}.", f"And {number}."]
        asking = [
            consolidate(client, agent_id, stream)
            for client in islice(cycle([first, second]), ASKED)
        ]
        # A turn on each node, one of which asks for a consolidation by itself.
        talking = [told(first, stream, said[-2]), told(second, stream, said[-1])]
        answers = (await asyncio.gather(*talking, *asking))[len(talking) :]
        for answer in answers:
            assert isinstance(answer, httpx2.Response)
            assert answer.status_code in (200, 400, 409), answer.text
            if answer.status_code == 409:
                assert answer.json()["run_id"].startswith("run-")
    await finish(second, agent_id, stream)
    await check_kept(first, agent_id, stream, said)
    facts = await facts_of(second, stream)
    triggers = {one["data"]["trigger"] for one in of(facts, QUEUED)}
    assert triggers == {"user", "turns"}


async def test_one_key_sent_to_both_nodes_at_once_is_one_consolidation(two: list[Node]) -> None:
    first, second = (one.client for one in two)
    agent_id = await sleeper(first)
    stream = await new_conversation(first, agent_id)
    await told(first, stream, "I like tea.")
    clients = [first, second] * 5
    asked = await asyncio.gather(*(consolidate(one, agent_id, stream, "once") for one in clients))
    assert {one.status_code for one in asked} == {200}
    assert len({one.json()["consolidation_id"] for one in asked}) == 1
    await finish(first, agent_id, stream)
    await check_kept(second, agent_id, stream, ["I like tea."], changes=1)


async def test_conversations_of_one_agent_take_turns_at_its_one_block(two: list[Node]) -> None:
    first, second = (one.client for one in two)
    agent_id = await sleeper(first)
    streams = [await new_conversation(first, agent_id) for _ in range(TALKS)]
    said = [f"Thing {number}." for number in range(TALKS)]
    for stream, words in zip(streams, said, strict=True):
        await told(first, stream, words)
    clients = cycle([first, second])
    answers = await asyncio.gather(
        *(consolidate(client, agent_id, one) for client, one in zip(clients, streams, strict=False))
    )
    assert {one.status_code for one in answers} == {200}
    for stream in streams:
        await finish(first, agent_id, stream)
        facts = await facts_of(first, stream)
        check_marks(of(facts, QUEUED), of(facts, FINISHED))
        assert [one["data"]["outcome"] for one in of(facts, FINISHED)] == ["applied"]
    (block,) = await blocks_of(second, agent_id)
    assert sorted(block["value"].splitlines()) == sorted(said)
    assert len(await changes_of(second, block["id"])) == TALKS
    assert sorted(await memories(second, agent_id)) == sorted(
        line for one in said for line in (f"user: {one}", f"assistant: {REPLY}")
    )
