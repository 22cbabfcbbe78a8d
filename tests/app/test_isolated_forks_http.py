"""Forks of conversations that have blocks to themselves: they have copies of their own, as of then."""

import asyncio
from collections.abc import AsyncGenerator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pytest

from app.execute import Execute
from app.log import StoreUnavailable
from tests.app.serving import Server, serving
from tests.app.test_isolated_blocks_http import agent_of, isolating, memory, write

ROOT: Final = "/v1/conversations/"
# Its package gives its name to the function.
deciding: Final = import_module("domain.conversation.decide")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with asyncio.timeout(60), serving(tmp_path / "a.db") as running:
        yield running


async def fork(server: Server, stream: str, key: str | None = None, **query: Any) -> dict[str, Any]:
    headers = {} if key is None else {"Idempotency-Key": key}
    answer = await server.http.post(f"{ROOT}{stream}/fork", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def isolated(server: Server, *labels: str) -> tuple[dict[str, Any], str, list[str]]:
    """Begin a conversation with blocks to itself; give its agent, its id and the copies'."""
    agent = await agent_of(server)
    made = await isolating(server, agent["id"], *(labels or ("human",)))
    return agent, made["id"], made["isolated_block_ids"]


async def blocks_made(server: Server) -> set[str]:
    rows = await server.services.log.query("SELECT block_id FROM blocks WHERE deleted = 0")
    return {row["block_id"] for row in rows}


async def head_of(server: Server, stream: str) -> int:
    found = await server.services.log.head(stream)
    assert found is not None
    return found[0]


async def test_a_fork_has_copies_of_its_own_as_they_were_at_its_offset(server: Server) -> None:
    agent, stream, (copy,) = await isolated(server)
    plan = agent["blocks"][1]["id"]
    await server.post(stream, "One.")
    at = await head_of(server, stream)
    await write(server, copy, "Grace")
    await server.post(stream, "Two.")
    early, late = await fork(server, stream, at=at), await fork(server, stream)
    found = [await memory(server, agent["id"], one["id"]) for one in (early, late)]
    (first,), (second,) = early["isolated_block_ids"], late["isolated_block_ids"]
    assert found == [
        [(first, "Ada"), (plan, "Rest.")],
        [(second, "Grace"), (plan, "Rest.")],
    ]
    assert len({copy, first, second, agent["blocks"][0]["id"]}) == 4
    prompts = [(await server.get(f"{ROOT}{one['id']}/messages"))[-1] for one in (early, late)]
    assert ["Grace" in one["content"] for one in prompts] == [False, True]
    shown = {one["id"] for one in await server.get("/v1/blocks/")}
    assert shown == {one["id"] for one in agent["blocks"]}


async def test_what_either_writes_is_nothing_to_the_other_and_a_copy_goes_with_its_fork(
    server: Server,
) -> None:
    agent, stream, (copy,) = await isolated(server)
    made = await fork(server, stream)
    (other,) = made["isolated_block_ids"]
    await write(server, copy, "Grace")
    await write(server, other, "Edith")
    assert (await memory(server, agent["id"], stream))[0] == (copy, "Grace")
    assert (await memory(server, agent["id"], made["id"]))[0] == (other, "Edith")
    await server.http.delete(f"{ROOT}{stream}")
    assert (await memory(server, agent["id"], made["id"]))[0] == (other, "Edith")
    await server.http.delete(f"{ROOT}{made['id']}")
    assert (await server.http.get(f"/v1/blocks/{other}")).status_code == 404
    assert await blocks_made(server) == {one["id"] for one in agent["blocks"]}


async def test_a_fork_after_the_last_offset_has_what_was_written_since(server: Server) -> None:
    agent, stream, (copy,) = await isolated(server)
    await write(server, copy, "Grace")
    made = await fork(server, stream)
    assert (await memory(server, agent["id"], made["id"]))[0][1] == "Grace"


async def test_a_copy_that_was_gone_is_gone_in_the_fork_and_one_that_was_not_is_there(
    server: Server,
) -> None:
    agent, stream, (copy,) = await isolated(server)
    plan = agent["blocks"][1]["id"]
    at = await head_of(server, stream)
    await server.post(stream, "One.")
    await server.http.delete(f"/v1/blocks/{copy}")
    await server.post(stream, "Two.")
    without, with_it = await fork(server, stream), await fork(server, stream, at=at)
    assert await memory(server, agent["id"], without["id"]) == [(plan, "Rest.")]
    assert (await memory(server, agent["id"], with_it["id"]))[0][1] == "Ada"
    await server.http.delete(f"{ROOT}{without['id']}")
    assert (await memory(server, agent["id"], with_it["id"]))[0][1] == "Ada"


async def test_a_fork_of_a_fork_at_what_it_inherited_has_the_memory_of_then(
    server: Server,
) -> None:
    agent, stream, (copy,) = await isolated(server)
    await server.post(stream, "One.")
    (reply, *_) = await server.get(f"{ROOT}{stream}/messages")
    await server.post(stream, "Two.")
    await write(server, copy, "Grace")
    first = await fork(server, stream)
    await write(server, first["isolated_block_ids"][0], "Edith")
    second = await fork(server, first["id"])
    back = await fork(server, first["id"], message_id=reply["id"])
    assert (await memory(server, agent["id"], second["id"]))[0][1] == "Edith"
    assert (await memory(server, agent["id"], back["id"]))[0][1] == "Ada"
    assert back["isolated_block_ids"] != second["isolated_block_ids"]


async def test_a_fork_asked_for_again_is_the_same_and_copies_nothing_more(server: Server) -> None:
    _, stream, (copy,) = await isolated(server)
    made = await asyncio.gather(*(fork(server, stream, "once") for _ in range(4)))
    assert len({one["id"] for one in made}) == 1
    before = await blocks_made(server)
    await server.post(stream, "One.")
    await write(server, copy, "Grace")
    again = await fork(server, stream, "once")
    assert again["isolated_block_ids"] == made[0]["isolated_block_ids"]
    assert await blocks_made(server) == before


async def test_a_fork_cut_short_after_its_copies_begins_with_those_of_its_offset(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, stream, (copy,) = await isolated(server)

    async def away(*_: Any) -> Any:
        raise StoreUnavailable("for once")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Execute, "fork", away)
        answer = await server.http.post(f"{ROOT}{stream}/fork", headers={"Idempotency-Key": "once"})
        assert answer.status_code == 503
    made = await fork(server, stream, "once")
    known = await blocks_made(server)
    assert len(known) == 4  # two of the agent's, and a copy of one for each conversation
    # Once more, and this time the conversation has gone on before it is asked for again.
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Execute, "fork", away)
        await server.http.post(f"{ROOT}{stream}/fork", headers={"Idempotency-Key": "twice"})
    await server.post(stream, "One.")
    await write(server, copy, "Grace")
    later = await fork(server, stream, "twice")
    assert (await memory(server, agent["id"], made["id"]))[0][1] == "Ada"
    assert (await memory(server, agent["id"], later["id"]))[0][1] == "Grace"


async def test_a_fork_that_is_refused_leaves_no_copies(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, stream, _ = await isolated(server)
    before = await blocks_made(server)
    monkeypatch.setattr(deciding, "ANCESTORS_MAX", 0)
    answer = await server.http.post(f"{ROOT}{stream}/fork")
    assert answer.status_code == 409
    assert await blocks_made(server) == before
