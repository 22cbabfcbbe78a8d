from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import AsyncClient
from letta_client.types import BlockResponse

from domain.block import BLOCK_LIMIT_DEFAULT, BlockChanged, BlockCreated, BlockDeleted
from tests.app.serving import Server, serving
from tests.examples import BLOCK_ID

ROOT: Final = "/v1/blocks/"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


async def create(http: AsyncClient, label: str = "human", **body: Any) -> dict[str, Any]:
    answer = await http.post(ROOT, json={"label": label, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def labels(http: AsyncClient, **query: Any) -> list[str]:
    answer = await http.get(ROOT, params=query)
    assert answer.status_code == 200, answer.text
    return [one["label"] for one in answer.json()]


async def test_a_created_block_is_what_the_sdk_expects_one_to_be(http: AsyncClient) -> None:
    made = await create(
        http,
        "human",
        value="Ada",
        limit=50,
        description="who it is",
        read_only=True,
        metadata={"source": None},
        tags=["a"],
        hidden=False,
    )
    block = BlockResponse.model_validate(made)
    assert set(BlockResponse.model_fields) <= set(made)
    assert (block.label, block.value, block.limit) == ("human", "Ada", 50)
    assert (block.description, block.read_only, block.tags) == ("who it is", True, ["a"])
    assert (block.metadata, block.hidden, block.is_template) == ({"source": None}, False, False)


async def test_a_block_needs_nothing_but_a_label(http: AsyncClient) -> None:
    made = await create(http, "human")
    assert (made["value"], made["limit"], made["tags"]) == ("", BLOCK_LIMIT_DEFAULT, [])
    assert made["created_at"] == made["updated_at"]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"value": "no label"}, "label"),
        ({"label": ""}, "label"),
        ({"label": "x" * 257}, "256"),
        ({"label": "a", "value": "x" * (1024 * 1024 + 1)}, "value"),
        ({"label": "a", "value": 1}, "value"),
        ({"label": "a", "limit": 0}, "limit"),
        ({"label": "a", "limit": 2**70}, "limit"),
        ({"label": "a", "description": "x" * (16 * 1024 + 1)}, "description"),
        ({"label": "a", "tags": [str(n) for n in range(257)]}, "tags"),
        ({"label": "a", "metadata": ["not", "an", "object"]}, "metadata"),
        ([], "dict"),
    ],
)
async def test_what_cannot_be_a_block_is_turned_down_by_name(
    http: AsyncClient, body: Any, word: str
) -> None:
    answer = await http.post(ROOT, json=body)
    assert answer.status_code == 422
    assert word in answer.json()["detail"]
    assert await labels(http) == []


async def test_a_value_of_the_largest_size_is_kept_whole(http: AsyncClient) -> None:
    value = "é" * (1024 * 1024)
    made = await create(http, value=value)
    assert (await http.get(f"{ROOT}{made['id']}")).json()["value"] == value


async def test_a_block_is_found_by_its_id(http: AsyncClient) -> None:
    made = await create(http)
    assert (await http.get(f"{ROOT}{made['id']}")).json() == made


async def test_a_block_that_is_not_there_is_a_404_everywhere(http: AsyncClient) -> None:
    for method, body in (("GET", None), ("PATCH", {"value": "x"}), ("DELETE", None)):
        answer = await http.request(method, f"{ROOT}{BLOCK_ID}", json=body)
        assert answer.status_code == 404, method
        assert answer.json() == {"detail": f"Block not found with id={BLOCK_ID}"}


async def test_a_malformed_id_is_turned_down_before_any_lookup(http: AsyncClient) -> None:
    for wrong in ("block-1", BLOCK_ID.upper(), f"{BLOCK_ID}0", "agent-" + BLOCK_ID[6:]):
        assert (await http.get(f"{ROOT}{wrong}")).status_code == 422, wrong


# --- update and delete --------------------------------------------------------------------------


async def test_an_update_changes_what_it_names_and_nothing_by_null(http: AsyncClient) -> None:
    made = await create(http, value="old", description="kept", tags=["a"])
    body: dict[str, Any] = {
        "value": "",
        "tags": [],
        "description": None,
        "label": None,
        "metadata": {"n": None},
    }
    changed = (await http.patch(f"{ROOT}{made['id']}", json=body)).json()
    assert (changed["value"], changed["tags"], changed["metadata"]) == ("", [], {"n": None})
    assert (changed["label"], changed["description"]) == ("human", "kept")
    assert changed["created_at"] == made["created_at"]
    assert changed["updated_at"] > made["updated_at"]


async def test_an_update_records_only_what_differs(server: Server, http: AsyncClient) -> None:
    made = await create(http, value="old")
    path = f"{ROOT}{made['id']}"
    await http.patch(path, json={"value": "old", "limit": BLOCK_LIMIT_DEFAULT})
    await http.patch(path, json={"value": "new", "label": "human"})
    facts = await server.events(made["id"])
    assert facts[1:] == [BlockChanged(base_version=1, value="new")]


async def test_of_two_editors_of_the_same_version_the_second_is_told_the_new_one(
    http: AsyncClient,
) -> None:
    made = await create(http, value="old")
    path = f"{ROOT}{made['id']}"
    first = await http.patch(path, json={"value": "first", "base_version": 1})
    assert first.json()["value"] == "first"
    second = await http.patch(path, json={"value": "second", "base_version": 1})
    assert (second.status_code, second.json()["version"]) == (409, 2)
    again = await http.patch(path, json={"value": "second", "base_version": 2})
    assert again.json()["value"] == "second"


async def test_a_value_may_exceed_the_limit_that_the_model_is_shown(http: AsyncClient) -> None:
    made = await create(http, value="1234567890", limit=5)
    assert made["value"] == "1234567890"


async def test_a_deleted_block_is_gone_but_its_history_stays(
    server: Server, http: AsyncClient
) -> None:
    made = await create(http)
    path = f"{ROOT}{made['id']}"
    assert (await http.delete(path)).status_code == 200
    for method, body in (("GET", None), ("PATCH", {"value": "x"}), ("DELETE", None)):
        assert (await http.request(method, path, json=body)).status_code == 404
    assert await labels(http) == []
    created, ended = await server.events(made["id"])
    assert isinstance(created, BlockCreated)
    assert ended == BlockDeleted()


async def test_a_block_survives_a_restart(tmp_path: Path) -> None:
    database = tmp_path / "other.db"
    async with serving(database) as server:
        made = await create(server.http, value="Ada")
    async with serving(database) as server:
        assert await server.get(f"{ROOT}{made['id']}") == made
        assert await server.get(ROOT) == [made]


# --- list ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_pages_follow_the_order_both_ways_and_end(
    http: AsyncClient, order: str, cursor: str
) -> None:
    made = [(await create(http, str(n)))["id"] for n in range(5)]
    wanted = made if order == "asc" else made[::-1]
    seen: list[str] = []
    query: dict[str, Any] = {"order": order, "limit": 2}
    if cursor == "before":
        query["before"], seen = wanted[-1], wanted[-1:]
    while page := (await http.get(ROOT, params=query)).json():
        ids = [one["id"] for one in page]
        seen = [*ids, *seen] if cursor == "before" else [*seen, *ids]
        query[cursor] = ids[0] if cursor == "before" else ids[-1]
    assert seen == wanted


async def test_blocks_made_at_the_same_moment_still_have_one_order(http: AsyncClient) -> None:
    fresh = [{"label": str(n)} for n in range(6)]
    await http.post("/v1/agents/", json={"model": "demo/echo", "memory_blocks": fresh})
    whole = await labels(http, order="asc")
    assert sorted(whole) == [str(n) for n in range(6)]
    assert await labels(http, order="desc") == whole[::-1]
    ids = [one["id"] for one in (await http.get(ROOT, params={"order": "asc"})).json()]
    for place, cursor in enumerate(ids):
        assert await labels(http, order="asc", after=cursor) == whole[place + 1 :]


async def test_a_page_has_bounds(http: AsyncClient) -> None:
    await create(http)
    assert await labels(http, limit=0) == []
    assert await labels(http, limit=1000) == ["human"]
    for query in ({"limit": -1}, {"limit": 1001}, {"order": "up"}, {"after": "x" * 129}):
        assert (await http.get(ROOT, params=query)).status_code == 422
    for cursor in ("after", "before"):
        answer = await http.get(ROOT, params={cursor: BLOCK_ID})
        assert answer.status_code == 404
        assert answer.json() == {"detail": f"Block not found with id={BLOCK_ID}"}


async def test_blocks_are_found_by_label_and_by_parts_of_what_they_hold(http: AsyncClient) -> None:
    await create(http, "human", value="Ada", description="who it is")
    await create(http, "Human two", value="100% of a_b")
    assert await labels(http, label="human") == ["human"]
    assert await labels(http, label_search="HUMAN") == ["Human two", "human"]
    assert await labels(http, value_search="ada") == ["human"]
    assert await labels(http, value_search="0% OF A_") == ["Human two"]
    assert await labels(http, value_search="_a") == []
    assert await labels(http, description_search="WHO") == ["human"]
    assert await labels(http, label="human", value_search="100") == []


async def test_blocks_are_found_by_any_or_all_of_their_tags(http: AsyncClient) -> None:
    await create(http, "both", tags=["x", "y"])
    await create(http, "one", tags=["x"])
    await create(http, "none")
    assert await labels(http, tags=["x", "y"]) == ["one", "both"]
    assert await labels(http, tags=["x", "y"], match_all_tags=True) == ["both"]
    assert await labels(http, tags=["z"]) == []


async def test_no_block_has_a_template_and_so_none_has_a_name(http: AsyncClient) -> None:
    await create(http)
    assert await labels(http, name="human") == []


async def test_hidden_blocks_are_listed_only_when_asked_for(http: AsyncClient) -> None:
    await create(http, "hidden", hidden=True)
    await create(http, "shown", hidden=False)
    assert await labels(http) == ["shown"]
    assert await labels(http, show_hidden_blocks=True) == ["shown", "hidden"]


async def held(http: AsyncClient, *held_blocks: str, **more: Any) -> str:
    """Make an agent that has these blocks in its memory."""
    body = {"model": "demo/echo", "block_ids": held_blocks, **more}
    answer = await http.post("/v1/agents/", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def test_blocks_are_found_by_how_many_agents_have_them(http: AsyncClient) -> None:
    made = {one: (await create(http, one))["id"] for one in ("none", "one", "two")}
    agent_id = await held(http, made["two"], made["one"])
    await held(http, made["two"])
    gone = await held(http, made["none"])
    await http.delete(f"/v1/agents/{gone}")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"connected_to_agents_count_eq": 0}, ["none"]),
        ({"connected_to_agents_count_eq": [1, 2]}, ["two", "one"]),
        ({"connected_to_agents_count_gt": 0}, ["two", "one"]),
        ({"connected_to_agents_count_gt": 1}, ["two"]),
        ({"connected_to_agents_count_lt": 0}, []),
        ({"connected_to_agents_count_lt": 1}, ["none"]),
        ({"connected_to_agents_count_lt": 2}, ["one", "none"]),
        ({"connected_to_agents_count_gt": 0, "connected_to_agents_count_lt": 2}, ["one"]),
    ]
    for query, found in cases:
        assert await labels(http, **query) == found, query
    await http.patch(f"/v1/agents/{agent_id}/core-memory/blocks/detach/{made['one']}")
    assert await labels(http, connected_to_agents_count_eq=0) == ["one", "none"]
    wrong = await http.get(ROOT, params={"connected_to_agents_count_gt": -1})
    assert wrong.status_code == 422


async def test_what_no_block_has_finds_none(http: AsyncClient) -> None:
    await create(http)
    queries: list[dict[str, Any]] = [
        {"templates_only": True},
        {"project_id": "p"},
        {"identity_id": "identity-1"},
        {"identifier_keys": ["k"]},
    ]
    for query in queries:
        assert await labels(http, **query) == [], query
    assert await labels(http, templates_only=False) == ["human"]


async def test_the_agents_that_have_a_block_are_listed_in_pages(http: AsyncClient) -> None:
    shared, other = [(await create(http, one))["id"] for one in ("shared", "other")]
    first, second = await held(http, shared, other), await held(http, shared)
    await held(http, other)
    hidden = await held(http, shared, hidden=True)
    path = f"{ROOT}{shared}/agents"

    async def ids(**query: Any) -> list[str]:
        return [one["id"] for one in (await http.get(path, params=query)).json()]

    assert await ids() == [hidden, second, first]
    assert await ids(order="asc", limit=1) == [first]
    assert await ids(order="asc", after=first) == [second, hidden]
    assert await ids(before=first, limit=1) == [second]
    await http.patch(f"/v1/agents/{second}/core-memory/blocks/detach/{shared}")
    assert await ids() == [hidden, first]
    (full, *_) = (await http.get(path, params={"include": "agent.blocks", "order": "asc"})).json()
    assert [one["label"] for one in full["blocks"]] == ["shared", "other"]
    assert (await http.get(f"{ROOT}{BLOCK_ID}/agents")).status_code == 404
