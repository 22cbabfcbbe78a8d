"""Blocks in time: what each version changed and which call led to it, back to one, a prompt's memory."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

import app.memory.versions
from app.log import utc_now
from app.memory.blocks import compile_system
from app.tools import Call
from domain.block import BlockChanged
from domain.conversation import Counts, RecompileSystem
from domain.run import StepStarted, ToolStarted
from tests import examples
from tests.app.scripts import calling, saying
from tests.app.serving import Scripted, Server, serving
from tests.examples import BLOCK_ID
from tests.projections.test_diff import patched


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


async def written(http: AsyncClient, *values: str, **settings: Any) -> str:
    """Make a block that has had these values; give its path."""
    made = await http.post("/v1/blocks/", json={"label": "human", "value": values[0], **settings})
    path = f"/v1/blocks/{made.json()['id']}"
    for value in values[1:]:
        assert (await http.patch(path, json={"value": value})).status_code == 200
    return path


async def history(http: AsyncClient, path: str, **query: Any) -> list[dict[str, Any]]:
    answer = await http.get(f"{path}/history", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["versions"]


async def numbers(http: AsyncClient, path: str, **query: Any) -> list[int]:
    return [one["version"] for one in await history(http, path, **query)]


# --- versions ---------------------------------------------------------------------------------


async def test_every_version_tells_what_it_changed(http: AsyncClient) -> None:
    path = await written(http, "a\nb", "a\nc", description="who")
    await http.patch(path, json={"description": "what", "limit": 5})
    made, valued, described = await history(http, path, order="asc")
    assert (made["kind"], made["by"], made["cause"], made["base_version"]) == (
        "created",
        "user",
        None,
        None,
    )
    assert made["changes"]["description"] == {"before": None, "after": "who"}
    assert (valued["kind"], valued["base_version"], valued["changes"]) == ("changed", 1, {})
    assert patched("a\nb", valued["diff"]) == "a\nc"
    assert described["changes"] == {
        "description": {"before": "who", "after": "what"},
        "limit": {"before": 100_000, "after": 5},
    }
    assert (described["diff"], described["chars"]) == ("", 3)


async def test_the_newest_versions_come_first_and_pages_have_no_seam(http: AsyncClient) -> None:
    path = await written(http, *"abcde")
    assert await numbers(http, path) == [5, 4, 3, 2, 1]
    assert await numbers(http, path, limit=2) == [5, 4]
    assert await numbers(http, path, limit=2, before=4) == [3, 2]
    assert await numbers(http, path, limit=2, before=2) == [1]
    assert await numbers(http, path, order="asc", limit=2, after=3) == [4, 5]
    assert await numbers(http, path, order="asc", after=1, before=4) == [2, 3]
    assert await numbers(http, path, after=5) == []
    assert await numbers(http, path, limit=0) == []
    assert await numbers(http, path, limit=0, order="asc") == []


async def test_a_page_of_large_values_ends_early(
    http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.memory.versions, "PAGE_CHARS_MAX", 100)
    monkeypatch.setattr(app.memory.versions, "READ_ROWS", 2)
    path = await written(http, *(letter * 60 for letter in "abcde"))
    assert await numbers(http, path) == [5]
    assert await numbers(http, path, before=5) == [4]
    value, done = "", 0
    while page := await history(http, path, order="asc", after=done):
        for one in page:
            value, done = patched(value, one["diff"]), one["version"]
    assert value == "e" * 60


async def test_history_has_bounds(http: AsyncClient) -> None:
    path = await written(http, "a")
    for query in ({"limit": 101}, {"after": -1}, {"before": 0}, {"order": "up"}, {"after": 2**63}):
        assert (await http.get(f"{path}/history", params=query)).status_code == 422, query
    past = await http.get(f"{path}/history", params={"after": 2})
    assert (past.status_code, past.json()["head"]) == (409, 1)
    assert (await http.get(f"/v1/blocks/{BLOCK_ID}/history")).status_code == 404


async def test_a_deleted_block_has_its_history_for_whoever_asks(http: AsyncClient) -> None:
    path = await written(http, "a")
    await http.delete(path)
    assert (await http.get(f"{path}/history")).status_code == 404
    assert [one["kind"] for one in await history(http, path, deleted=True)] == [
        "deleted",
        "created",
    ]
    last = await http.get(f"{path}/history/2", params={"deleted": True})
    assert (last.json()["deleted"], last.json()["value"]) == (True, "a")


async def test_a_version_is_the_block_as_it_was(http: AsyncClient) -> None:
    path = await written(http, "a", "b", tags=["t"])
    first = (await http.get(f"{path}/history/1")).json()
    now = (await http.get(path)).json()
    assert first == {
        **now,
        "value": "a",
        "updated_at": first["created_at"],
        "version": 1,
        "deleted": False,
    }
    assert now == {
        name: value
        for name, value in (await http.get(f"{path}/history/2")).json().items()
        if name in now
    }
    for wrong, status in ((3, 404), (0, 422), ("x", 422), (2**63, 422)):
        assert (await http.get(f"{path}/history/{wrong}")).status_code == status


async def test_a_change_by_a_model_names_its_call(tmp_path: Path) -> None:
    ask = calling("memory_insert", arguments='{"label": "human", "new_string": "tea"}')
    async with serving(tmp_path / "a.db", Scripted(ask, saying("Noted."))) as server:
        body = {"model": "script/x", "memory_blocks": [{"label": "human", "value": "Ada"}]}
        agent = (await server.http.post("/v1/agents/", json=body)).json()
        stream = await server.conversation(agent["id"])
        await server.post(stream, streaming=False)
        path = f"/v1/blocks/{agent['blocks'][0]['id']}"
        newest, _ = await history(server.http, path)
        facts = await server.facts(stream)
    (begun,) = [one for one in facts if isinstance(one.event, ToolStarted)]
    step = next(one.event for one in facts if isinstance(one.event, StepStarted))
    assert newest["by"] == "worker:node-1"
    assert newest["cause"] == {
        "conversation_id": stream,
        "offset": begun.version,
        "agent_id": agent["id"],
        "run_id": begun.event.run_id,
        "step_id": step.step_id,
        "tool_call_id": "call-0",
        "tool": "memory_insert",
    }


async def test_of_a_call_that_the_log_does_not_have_the_place_is_told(server: Server) -> None:
    path = await written(server.http, "a")
    agent_id = await server.agent(block_ids=(path.rsplit("/", 1)[1],))
    stream = await server.conversation(agent_id)
    insert = server.services.toolbox.get("memory_insert")
    assert insert is not None
    call = Call(stream, examples.RUN_ID, "call-0", 99)
    await insert.run({"label": "human", "new_string": "b"}, call)
    newest = (await history(server.http, path))[0]
    assert newest["cause"]["agent_id"] == agent_id
    assert (newest["cause"]["offset"], newest["cause"]["run_id"]) == (99, None)


# --- back to a version ------------------------------------------------------------------------


async def test_a_block_goes_back_to_a_version_by_a_new_one(
    server: Server, http: AsyncClient
) -> None:
    path = await written(http, "a", "b")
    await http.patch(path, json={"description": "new"})
    answer = await http.post(f"{path}/revert", json={"version": 1})
    assert (answer.json()["value"], answer.json()["description"]) == ("a", None)
    facts = await server.events(path.rsplit("/", 1)[1])
    assert facts[-1] == BlockChanged(base_version=3, value="a", description=None, reverted_to=1)
    newest = (await history(http, path))[0]
    assert (newest["kind"], newest["reverted_to"]) == ("reverted", 1)
    again = await http.post(f"{path}/revert", json={"version": 2})
    assert again.json()["value"] == "b"


async def test_going_back_to_what_is_already_so_records_nothing(http: AsyncClient) -> None:
    path = await written(http, "a", "b", "a")
    answer = await http.post(f"{path}/revert", json={"version": 1, "base_version": 3})
    assert (answer.status_code, answer.json()["value"]) == (200, "a")
    assert await numbers(http, path, limit=1) == [3]


async def test_a_block_that_has_moved_on_is_left_and_its_version_told(http: AsyncClient) -> None:
    path = await written(http, "a", "b")
    answer = await http.post(f"{path}/revert", json={"version": 1, "base_version": 1})
    assert answer.status_code == 409
    assert answer.json() == {
        "detail": "CONFLICT: The block is at version 2, not at 1.",
        "version": 2,
    }
    assert answer.headers["x-should-retry"] == "false"
    assert (await http.get(path)).json()["value"] == "b"


async def test_there_is_no_way_back_to_what_never_was(http: AsyncClient) -> None:
    path = await written(http, "a")
    past = await http.post(f"{path}/revert", json={"version": 2})
    assert (past.status_code, "it is at 1" in past.json()["detail"]) == (404, True)
    for body in ({}, {"version": 0}, {"version": "x"}, {"version": 1, "base_version": -1}):
        assert (await http.post(f"{path}/revert", json=body)).status_code == 422, body
    await http.delete(path)
    assert (await http.post(f"{path}/revert", json={"version": 1})).status_code == 404


# --- a prompt's memory ------------------------------------------------------------------------


async def test_a_prompt_keeps_the_versions_it_was_made_of(http: AsyncClient) -> None:
    body = {
        "model": "demo/echo",
        "memory_blocks": [{"label": "human", "value": "Ada"}, {"label": "gone", "value": "x"}],
    }
    agent = (await http.post("/v1/agents/", json=body)).json()
    ids = {one["label"]: one["id"] for one in agent["blocks"]}
    made = await http.post("/v1/conversations/", params={"agent_id": agent["id"]})
    path = f"/v1/conversations/{made.json()['id']}/memory"
    fresh = (await http.get(path)).json()
    assert (fresh["at"], fresh["system_at"], fresh["stale"], fresh["added"]) == (1, 1, False, [])
    assert {one["label"]: one["diff"] for one in fresh["blocks"]} == {"human": "", "gone": ""}
    await http.patch(f"/v1/blocks/{ids['human']}", json={"value": "Ida"})
    await http.delete(f"/v1/blocks/{ids['gone']}")
    extra = (await http.post("/v1/blocks/", json={"label": "new", "value": "y"})).json()["id"]
    await http.patch(f"/v1/agents/{agent['id']}/core-memory/blocks/attach/{extra}")
    seen = (await http.get(path, params={"at": 1})).json()
    blocks = {one["label"]: one for one in seen["blocks"]}
    human = blocks["human"]
    assert (human["then"]["value"], human["then"]["version"]) == ("Ada", 1)
    assert (human["now"]["value"], human["now"]["version"]) == ("Ida", 2)
    assert patched("Ada", human["diff"]) == "Ida"
    assert (blocks["gone"]["then"]["value"], blocks["gone"]["now"]) == ("x", None)
    assert ([one["label"] for one in seen["added"]], seen["stale"]) == (["new"], True)


async def test_a_prompt_compiled_again_has_another_memory_from_there_on(
    server: Server, http: AsyncClient
) -> None:
    body = {"model": "demo/echo", "memory_blocks": [{"label": "human", "value": "Ada"}]}
    agent = (await http.post("/v1/agents/", json=body)).json()
    made = await http.post("/v1/conversations/", params={"agent_id": agent["id"]})
    stream = made.json()["id"]
    path = f"/v1/conversations/{stream}/memory"
    await http.patch(f"/v1/agents/{agent['id']}/core-memory/blocks/human", json={"value": "Ida"})
    assert (await http.get(path)).json()["stale"] is True
    services = server.services
    system = await compile_system(services.execute, agent["id"], stream, utc_now(), Counts())
    await services.execute(stream, RecompileSystem(system, "user"), "user")
    now, then = [(await http.get(path, params={"at": at})).json() for at in (2, 1)]
    assert (now["system_at"], now["stale"], now["blocks"][0]["then"]["value"]) == (2, False, "Ida")
    assert (then["system_at"], then["stale"], then["blocks"][0]["then"]["value"]) == (
        1,
        True,
        "Ada",
    )


async def test_a_memory_is_asked_for_where_there_is_one(http: AsyncClient, server: Server) -> None:
    stream = await server.conversation()
    path = f"/v1/conversations/{stream}/memory"
    past = await http.get(path, params={"at": 2})
    assert (past.status_code, past.json()["head"]) == (409, 1)
    assert (await http.get(path, params={"at": 0})).status_code == 422
    assert (await http.get("/v1/conversations/default/memory")).status_code == 404
    await http.delete(f"/v1/conversations/{stream}")
    assert (await http.get(path)).status_code == 404
    assert (await http.get(path, params={"deleted": True})).status_code == 200
