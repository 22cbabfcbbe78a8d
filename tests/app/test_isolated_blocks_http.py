"""Blocks that one conversation has to itself: copies, which go with it."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest

from app.memory.blocks import blocks_of
from domain.agent import DetachBlock
from domain.block import ChangeBlock
from domain.conversation import DeleteConversation
from tests.app.serving import Server, serving

ROOT: Final = "/v1/conversations/"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with asyncio.timeout(60), serving(tmp_path / "a.db") as running:
        yield running


async def agent_of(server: Server) -> dict[str, Any]:
    """Make an agent with two blocks."""
    blocks = [{"label": "human", "value": "Ada"}, {"label": "plan", "value": "Rest."}]
    body = {"model": "demo/echo", "memory_blocks": blocks}
    return (await server.http.post("/v1/agents/", json=body)).json()


async def isolating(server: Server, agent_id: str, *labels: str, key: str = "k") -> dict[str, Any]:
    answer = await server.http.post(
        ROOT,
        params={"agent_id": agent_id},
        json={"isolated_block_labels": labels},
        headers={"Idempotency-Key": key},
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


async def memory(server: Server, agent_id: str, conversation_id: str) -> list[tuple[str, str]]:
    execute = server.services.execute
    state = await execute.conversation(conversation_id)
    found = await blocks_of(execute, await execute.agent(agent_id), state)
    return [(one.block_id, one.settings.value) for one in found]


async def write(server: Server, block_id: str, value: str) -> None:
    await server.services.execute(block_id, ChangeBlock({"value": value}), "user")


async def test_a_copy_stands_for_the_agents_block_in_its_conversation_alone(
    server: Server,
) -> None:
    agent = await agent_of(server)
    human, plan = (one["id"] for one in agent["blocks"])
    made = await isolating(server, agent["id"], "human")
    (copy,) = made["isolated_block_ids"]
    assert await memory(server, agent["id"], made["id"]) == [(copy, "Ada"), (plan, "Rest.")]
    await write(server, copy, "Grace")
    await write(server, human, "Edith")
    path = f"{ROOT}{made['id']}"
    prompt = (await server.http.post(f"{path}/recompile")).json()
    assert "Grace" in prompt
    assert "Edith" not in prompt
    other = await isolating(server, agent["id"], key="other")
    assert (await memory(server, agent["id"], other["id"]))[0] == (human, "Edith")
    assert (await server.get(path))["isolated_block_ids"] == [copy]
    listed = await server.get(ROOT, agent_id=agent["id"])
    assert {one["id"]: one["isolated_block_ids"] for one in listed} == {
        made["id"]: [copy],
        other["id"]: [],
    }


async def test_copies_are_no_blocks_to_those_that_list_them(server: Server) -> None:
    agent = await agent_of(server)
    made = await isolating(server, agent["id"], "human", "plan")
    shown = {one["id"] for one in await server.get("/v1/blocks/")}
    assert shown == {one["id"] for one in agent["blocks"]}
    copies = [await server.get(f"/v1/blocks/{one}") for one in made["isolated_block_ids"]]
    assert [one["value"] for one in copies] == ["Ada", "Rest."]


async def test_copies_are_deleted_with_their_conversation(server: Server) -> None:
    agent = await agent_of(server)
    one = await isolating(server, agent["id"], "human", key="one")
    two = await isolating(server, agent["id"], "human", key="two")
    (copy,), (other,) = one["isolated_block_ids"], two["isolated_block_ids"]
    await server.http.delete(f"{ROOT}{one['id']}")
    assert (await server.http.get(f"/v1/blocks/{copy}")).status_code == 404
    assert (await server.http.get(f"/v1/blocks/{other}")).status_code == 200
    await server.http.delete(f"/v1/agents/{agent['id']}")
    assert (await server.http.get(f"/v1/blocks/{other}")).status_code == 404
    assert len(await server.get("/v1/blocks/")) == 2


async def test_a_deletion_cut_short_before_the_copies_is_taken_up(server: Server) -> None:
    agent = await agent_of(server)
    made = await isolating(server, agent["id"], "human")
    await server.services.execute(made["id"], DeleteConversation(), "user")
    copy = f"/v1/blocks/{made['isolated_block_ids'][0]}"
    assert (await server.http.get(copy)).status_code == 200
    assert (await server.http.delete(f"{ROOT}{made['id']}")).status_code == 404
    assert (await server.http.get(copy)).status_code == 404


async def test_a_request_sent_again_copies_nothing_more(server: Server) -> None:
    agent = await agent_of(server)
    made = await asyncio.gather(*(isolating(server, agent["id"], "human") for _ in range(4)))
    assert len({one["id"] for one in made}) == 1
    assert len({tuple(one["isolated_block_ids"]) for one in made}) == 1
    again = await isolating(server, agent["id"], "plan")
    assert again["isolated_block_ids"] == made[0]["isolated_block_ids"]


async def test_an_unknown_label_is_named_with_those_that_there_are(server: Server) -> None:
    agent = await agent_of(server)
    answer = await server.http.post(
        ROOT, params={"agent_id": agent["id"]}, json={"isolated_block_labels": ["humans"]}
    )
    assert answer.status_code == 400
    assert "'humans'" in answer.json()["detail"]
    assert "human, plan" in answer.json()["detail"]
    assert await server.get(ROOT) == []


async def test_a_copy_outlives_the_block_that_it_was_made_from(server: Server) -> None:
    agent = await agent_of(server)
    human, plan = (one["id"] for one in agent["blocks"])
    made = await isolating(server, agent["id"], "human")
    await server.services.execute(agent["id"], DetachBlock(human), "user")
    await server.http.delete(f"/v1/blocks/{human}")
    found = await memory(server, agent["id"], made["id"])
    assert found == [(plan, "Rest."), (made["isolated_block_ids"][0], "Ada")]
