from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import AsyncClient
from letta_client.types import AgentState
from letta_client.types.agents import Block as CoreBlock

from tests.app.serving import Server, serving
from tests.examples import AGENT_ID, BLOCK_ID

ROOT: Final = "/v1/agents/"
# The demo is no vendor that the SDK knows.
LLM_CONFIG: Final = {"model": "echo", "model_endpoint_type": "openai", "context_window": 1}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


async def create(http: AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post(ROOT, json={"model": "demo/echo", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def create_block(http: AsyncClient, label: str, **body: Any) -> str:
    answer = await http.post("/v1/blocks/", json={"label": label, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def labels(http: AsyncClient, agent_id: str, **query: Any) -> list[str]:
    answer = await http.get(f"{ROOT}{agent_id}/core-memory/blocks", params=query)
    assert answer.status_code == 200, answer.text
    return [one["label"] for one in answer.json()]


async def test_core_blocks_are_listed_in_pages_both_ways(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": one} for one in "abcde"])
    ids = {one["label"]: one["id"] for one in made["blocks"]}
    agent_id = made["id"]
    assert await labels(http, agent_id) == list("edcba")
    assert await labels(http, agent_id, order="asc", limit=2) == list("ab")
    assert await labels(http, agent_id, order="asc", after=ids["b"], limit=2) == list("cd")
    assert await labels(http, agent_id, order="asc", before=ids["e"], limit=2) == list("cd")
    assert await labels(http, agent_id, after=ids["a"]) == []
    assert await labels(http, agent_id, before=ids["e"]) == []
    assert await labels(http, agent_id, before=ids["a"], limit=0) == []
    path = f"{ROOT}{agent_id}/core-memory/blocks"
    assert (await http.get(path, params={"after": BLOCK_ID})).status_code == 404


async def test_a_core_block_is_found_and_changed_by_its_label(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": "human", "value": "old", "limit": 7}])
    path = f"{ROOT}{made['id']}/core-memory/blocks/human"
    changed = await http.patch(path, json={"value": "new", "limit": None, "read_only": True})
    found = (await http.get(path)).json()
    assert found == changed.json()
    assert CoreBlock.model_validate(found).value == "new"
    assert (found["limit"], found["read_only"]) == (7, True)
    assert (await http.get(f"/v1/blocks/{found['id']}")).json() == found


async def test_a_core_block_is_relabelled_but_not_to_a_label_in_use(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": "human"}, {"label": "persona"}])
    path = f"{ROOT}{made['id']}/core-memory/blocks"
    taken = await http.patch(f"{path}/human", json={"label": "persona"})
    assert taken.status_code == 409
    assert taken.json()["detail"].startswith("CONFLICT: ")
    assert taken.headers["x-should-retry"] == "false"
    assert (await http.patch(f"{path}/human", json={"label": "human"})).status_code == 200
    assert (await http.patch(f"{path}/human", json={"label": "user"})).json()["label"] == "user"
    assert (await http.get(f"{path}/human")).status_code == 404


async def test_a_label_may_have_slashes(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": "system/human", "value": "Ada"}])
    path = f"{ROOT}{made['id']}/core-memory/blocks/system%2Fhuman"
    assert (await http.get(path)).json()["value"] == "Ada"
    assert (await http.patch(path, json={"value": "Grace"})).json()["value"] == "Grace"
    assert (await http.get(f"{path}%2Fmore")).status_code == 404


async def test_a_block_is_attached_and_detached(http: AsyncClient) -> None:
    agent_id = (await create(http, memory_blocks=[{"label": "human"}]))["id"]
    block_id = await create_block(http, "extra")
    path = f"{ROOT}{agent_id}/core-memory/blocks"
    attached = await http.patch(f"{path}/attach/{block_id}")
    state = AgentState.model_validate({**attached.json(), "llm_config": LLM_CONFIG})
    assert [one.label for one in state.blocks] == ["human", "extra"]
    detached = (await http.patch(f"{path}/detach/{block_id}")).json()
    assert [one["label"] for one in detached["blocks"]] == ["human"]
    assert (await http.patch(f"{path}/detach/{block_id}")).status_code == 404
    assert (await http.get(f"/v1/blocks/{block_id}")).status_code == 200


async def test_what_cannot_be_attached_is_turned_down(http: AsyncClient) -> None:
    agent_id = (await create(http, memory_blocks=[{"label": "human"}]))["id"]
    path = f"{ROOT}{agent_id}/core-memory/blocks/attach"
    assert (await http.patch(f"{path}/{BLOCK_ID}")).status_code == 404
    assert (await http.patch(f"{path}/block-1")).status_code == 422
    assert (await http.patch(f"{path}/{await create_block(http, 'human')}")).status_code == 409
    block_id = await create_block(http, "free")
    absent = await http.patch(f"{ROOT}{AGENT_ID}/core-memory/blocks/attach/{block_id}")
    assert absent.status_code == 404


async def test_an_agent_has_room_for_so_many_blocks(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": str(n)} for n in range(64)])
    block_id = await create_block(http, "one more")
    answer = await http.patch(f"{ROOT}{made['id']}/core-memory/blocks/attach/{block_id}")
    assert answer.status_code == 422
    assert "at most 64" in answer.json()["detail"]


async def test_a_deleted_block_is_gone_from_its_agents(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": "a"}, {"label": "b"}])
    await http.delete(f"/v1/blocks/{made['blocks'][0]['id']}")
    found = (await http.get(f"{ROOT}{made['id']}")).json()
    assert [one["label"] for one in found["blocks"]] == ["b"]
    assert await labels(http, made["id"]) == ["b"]
    path = f"{ROOT}{made['id']}/core-memory/blocks/a"
    assert (await http.patch(path, json={"value": "x"})).status_code == 404


async def test_a_new_conversation_notes_which_versions_of_blocks_it_was_compiled_from(
    server: Server, http: AsyncClient
) -> None:
    made = await create(http, system="S", memory_blocks=[{"label": "human", "value": "old"}])
    path = f"{ROOT}{made['id']}/core-memory/blocks/human"
    earlier = (await http.post("/v1/conversations/", params={"agent_id": made["id"]})).json()
    await http.patch(path, json={"value": "new"})
    later = (await http.post("/v1/conversations/", params={"agent_id": made["id"]})).json()
    before, after = [(await server.events(one["id"]))[0].system for one in (earlier, later)]
    block_id = made["blocks"][0]["id"]
    assert (before.blocks, after.blocks) == ({"human": (block_id, 1)}, {"human": (block_id, 2)})
    assert "old" in before.text
    assert "new" in after.text


async def test_blocks_that_came_to_share_a_label_are_both_in_the_prompt(
    server: Server, http: AsyncClient
) -> None:
    blocks = [{"label": "a", "value": "first"}, {"label": "b", "value": "second"}]
    made = await create(http, memory_blocks=blocks)
    one, two = [block["id"] for block in made["blocks"]]
    await http.patch(f"/v1/blocks/{two}", json={"label": "a"})
    begun = (await http.post("/v1/conversations/", params={"agent_id": made["id"]})).json()
    system = (await server.events(begun["id"]))[0].system
    assert system.blocks == {"a": (one, 1), f"a ({two})": (two, 2)}
    assert "first" in system.text
    assert "second" in system.text


async def test_an_update_may_replace_the_blocks(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": "human"}])
    ids = [await create_block(http, label) for label in ("a", "b")]
    path = f"{ROOT}{made['id']}"
    changed = (await http.patch(path, json={"block_ids": [*ids, ids[0]]})).json()
    assert [one["id"] for one in changed["blocks"]] == ids
    assert (await http.patch(path, json={"block_ids": []})).json()["blocks"] == []


async def test_what_an_agents_prompt_is_made_of_is_told_its_own_conversation_at_once(
    http: AsyncClient,
) -> None:
    agent_id = (await create(http, system="Be kind."))["id"]
    block_id = await create_block(http, "plan", value="Plant an oak.")
    other = (await http.post("/v1/conversations/", params={"agent_id": agent_id})).json()["id"]
    said = await http.post(f"{ROOT}{agent_id}/messages", json={"input": "Hello!"})
    assert said.status_code == 200, said.text
    path = f"{ROOT}{agent_id}"
    blocks = f"{path}/core-memory/blocks"
    changes: list[tuple[str, Any, list[bool]]] = [
        (path, {"system": "Be brief."}, [True, False]),
        (f"{blocks}/attach/{block_id}", None, [True, True]),
        (f"{blocks}/detach/{block_id}", None, [True, False]),
        (path, {"block_ids": [block_id]}, [True, True]),
    ]
    for where, body, told in changes:
        assert (await http.patch(where, json=body)).status_code == 200
        prompt = await _prompt(http, agent_id)
        assert [one in prompt for one in ("Be brief.", "Plant an oak.")] == told
    assert (await _prompt(http, other)).startswith("Be kind.")


async def _prompt(http: AsyncClient, conversation_id: str) -> str:
    listed = await http.get(f"/v1/conversations/{conversation_id}/messages?order=asc&limit=1")
    return listed.json()[0]["content"]
