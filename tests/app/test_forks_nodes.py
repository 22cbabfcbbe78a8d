"""Forks where several nodes serve one database: parent and fork may be on any of them."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.run import StepDelta
from tests.app.compacting import compacted, words_in
from tests.app.scripts import Gate, calling, saying
from tests.app.serving import Scripted, serving

WEATHER = {"name": "weather", "parameters": {"type": "object"}}


@pytest.fixture(autouse=True)
def many_nodes(engine: str) -> None:
    """Leave out the engine whose databases belong to one process each."""
    if engine == "sqlite":
        pytest.skip("a file is served by one node")


async def test_a_fork_is_made_on_one_node_while_its_parent_is_at_work_on_another(
    tmp_path: Path,
) -> None:
    gate, path = Gate("Half ", after="and half."), tmp_path / "everlog.db"
    async with (
        asyncio.timeout(60),
        serving(path, Scripted(gate), node="node-1") as one,
        serving(path, Scripted(saying("Aye.")), node="node-2", runs_at_once_max=0) as other,
    ):
        stream = await one.conversation(model="script/x")
        going = asyncio.create_task(one.post(stream, "Tell me."))
        await one.until_there_is(stream, StepDelta)
        made = await other.http.post(f"/v1/conversations/{stream}/fork")
        fork_id = made.json()["id"]
        gate.opened.set()
        await going
        assert await words_in(one, fork_id) == [("user", "Tell me.")]
        assert await words_in(other, fork_id) == [("user", "Tell me.")]
        await one.post(fork_id, "And me?")
        assert await words_in(other, fork_id) == await words_in(one, fork_id)
        await compacted(other, fork_id, mode="all")
        assert await words_in(one, fork_id) == await words_in(other, fork_id)
        assert len(await words_in(one, stream)) == 2


async def test_calls_that_wait_are_answered_in_a_fork_on_a_node_that_has_not_seen_it(
    tmp_path: Path,
) -> None:
    path, model = tmp_path / "everlog.db", Scripted(calling("weather"), saying("Sunny."))
    async with (
        asyncio.timeout(60),
        serving(path, model, node="node-1") as one,
        serving(path, model, node="node-2", runs_at_once_max=0) as other,
    ):
        stream = await one.conversation(model="script/x")
        key = {"idempotency-key": "once"}
        await one.post(stream, "Weather?", client_tools=[WEATHER])
        made = await other.http.post(f"/v1/conversations/{stream}/fork", headers=key)
        again = await one.http.post(f"/v1/conversations/{stream}/fork", headers=key)
        fork_id = made.json()["id"]
        assert again.json()["id"] == fork_id
        returned: dict[str, Any] = {"type": "tool", "tool_call_id": "call-0", "tool_return": "Sun"}
        message = {"type": "tool_return", "tool_returns": [{**returned, "status": "success"}]}
        answer = await one.http.post(
            f"/v1/conversations/{fork_id}/messages",
            json={"messages": [message], "client_tools": [WEATHER], "streaming": False},
        )
        assert answer.status_code == 200, answer.text
        states = [await node.services.execute.conversation(fork_id) for node in (one, other)]
        assert states[0] == states[1]
        assert states[0].asked is None
        assert (await one.services.execute.conversation(stream)).asked is not None
