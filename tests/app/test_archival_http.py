"""Archival memory over HTTP: shapes, bounds, and what is not there."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import AsyncClient
from letta_client.types import Passage
from letta_client.types.agents import PassageSearchResponse
from letta_client.types.passage_search_response import PassageSearchResponseItem

from domain.archive import ArchiveDeleted, PassageDeleted, PassageInserted
from domain.streams import archive_of
from tests.app.serving import Server, serving

UNKNOWN: Final = "agent-99999999-9999-4999-8999-999999999999"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


@pytest.fixture
async def root(server: Server) -> str:
    return f"/v1/agents/{await server.agent(timezone='Europe/Berlin')}/archival-memory"


async def put(http: AsyncClient, root: str, text: str, **body: Any) -> dict[str, Any]:
    answer = await http.post(root, json={"text": text, **body})
    assert answer.status_code == 200, answer.text
    (passage,) = answer.json()
    return passage


async def test_an_inserted_passage_is_what_the_sdk_expects_one_to_be(
    http: AsyncClient, root: str
) -> None:
    made = await put(http, root, "a lantern", tags=["x"], created_at="2026-01-02T03:04:05Z")
    passage = Passage.model_validate(made)
    assert set(Passage.model_fields) <= set(made)
    assert (passage.text, passage.tags, passage.is_deleted) == ("a lantern", ["x"], False)
    assert made["created_at"] == "2026-01-02T03:04:05Z"
    assert (made["offset"], made["archive_id"][:8]) == (1, "archive-")
    assert (await http.get(root)).json() == [made]


async def test_several_passages_are_put_in_together_or_not_at_all(
    server: Server, root: str
) -> None:
    batch = f"/v1/archives/{archive_of(root.split('/')[3])}/passages/batch"
    tags = [{"text": "a", "tags": [f"{n}-{m}" for m in range(64)]} for n in range(16)]
    refused = await server.http.post(batch, json={"passages": tags})
    assert refused.status_code == 409, refused.text
    assert refused.json()["detail"] == (
        "CONFLICT: passages[15]: An archive has at most 1000 tags, not 1024."
    )
    late = await server.http.post(
        batch, json={"passages": [{"text": "a"}, {"text": "b", "created_at": "soon"}]}
    )
    assert late.status_code == 422
    assert late.json()["detail"].startswith("passages[1].created_at: ")
    assert (await server.http.get(root)).json() == []
    made = await server.http.post(batch, json={"passages": tags[:15]})
    assert [one["tags"] for one in made.json()] == [one["tags"] for one in tags[:15]]
    assert [one["offset"] for one in made.json()] == [*range(1, 16)]
    assert (await server.http.post(batch, json={"passages": []})).json() == []


async def test_a_time_without_a_zone_is_in_the_agents(http: AsyncClient, root: str) -> None:
    made = await put(http, root, "a lantern", created_at="2026-01-02T03:04:05")
    assert made["created_at"] == "2026-01-02T02:04:05Z"
    found = (await http.get(f"{root}/search", params={"query": "lantern"})).json()
    assert found["results"][0]["timestamp"] == "2026-01-02T03:04:05+01:00"


async def test_a_search_answers_as_the_sdk_reads_it(http: AsyncClient, root: str) -> None:
    made = await put(http, root, "a lantern", tags=["x"])
    await put(http, root, "a candle")
    answer = (await http.get(f"{root}/search", params={"query": "lantren"})).json()
    found = PassageSearchResponse.model_validate(answer)
    assert (found.count, found.results[0].id) == (1, made["id"])
    assert (found.results[0].content, found.results[0].tags) == ("a lantern", ["x"])
    assert answer["search_mode"] == "text"
    assert answer["corrections"] == [{"word": "lantren", "instead": "lantern"}]


async def test_a_search_is_narrowed_by_its_query(http: AsyncClient, root: str) -> None:
    await put(http, root, "old wax", tags=["a", "b"], created_at="2026-01-02T22:30:00Z")
    await put(http, root, "new wax", tags=["a"], created_at="2026-01-02T23:30:00Z")

    async def texts(**query: Any) -> list[str]:
        answer = await http.get(f"{root}/search", params={"query": "wax", **query})
        assert answer.status_code == 200, answer.text
        return sorted(one["content"] for one in answer.json()["results"])

    assert await texts(tags=["a", "b"]) == ["new wax", "old wax"]
    assert await texts(tags=["a", "b"], tag_match_mode="all") == ["old wax"]
    # Days are those of the agent's time zone, an hour ahead.
    assert await texts(end_datetime="2026-01-02") == ["old wax"]
    assert await texts(start_datetime="2026-01-03") == ["new wax"]
    assert len(await texts(top_k=1)) == 1


async def test_a_list_is_paged_searched_and_shown_as_it_was(http: AsyncClient, root: str) -> None:
    ids = [(await put(http, root, text))["id"] for text in ("a", "b", "c")]

    async def texts(**query: Any) -> list[str]:
        answer = await http.get(root, params=query)
        assert answer.status_code == 200, answer.text
        return [one["text"] for one in answer.json()]

    assert await texts(after=ids[0], limit=1) == ["b"]
    assert await texts(ascending="false") == ["c", "b", "a"]
    assert await texts(search="B") == ["b"]
    assert await texts(limit=0) == []
    deleted = await http.delete(f"{root}/{ids[1]}")
    assert deleted.json() == {"message": f"Passage id={ids[1]} successfully deleted"}
    assert await texts() == ["a", "c"]
    assert await texts(at=3) == ["a", "b", "c"]


async def test_what_is_not_there_is_404(http: AsyncClient, root: str) -> None:
    await put(http, root, "a")
    unknown = f"/v1/agents/{UNKNOWN}/archival-memory"
    answers = [
        await http.post(unknown, json={"text": "a"}),
        await http.get(unknown),
        await http.get(f"{unknown}/search", params={"query": "a"}),
        await http.delete(f"{unknown}/passage-x"),
        await http.delete(f"{root}/passage-x"),
        await http.get(root, params={"after": "passage-x"}),
        await http.post("/v1/passages/search", json={"agent_id": UNKNOWN}),
        await http.post("/v1/passages/search", json={"archive_id": archive_of(UNKNOWN)}),
    ]
    assert [one.status_code for one in answers] == [404] * len(answers)
    assert all(one.json()["detail"] for one in answers)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"text": ""},
        {"text": " \n"},
        {"text": "a\0"},
        {"text": "a" * 100_001},
        {"text": "a", "tags": "x"},
        {"text": "a", "tags": [""]},
        {"text": "a", "tags": ["t"] * 65},
        {"text": "a", "created_at": "yesterday"},
        {"text": "a", "created_at": "0001-01-01"},
    ],
)
async def test_what_does_not_fit_is_422(http: AsyncClient, root: str, body: Any) -> None:
    answer = await http.post(root, json=body)
    assert answer.status_code == 422, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert (await http.get(root)).json() == []


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"query": "a", "top_k": 0},
        {"query": "a", "top_k": 101},
        {"query": "a", "tag_match_mode": "some"},
        {"query": "a", "start_datetime": "yesterday"},
        {"query": "a", "end_datetime": "9999-12-31T23:59:59.999999Z"},
        {"query": "a" * 20_000},
    ],
)
async def test_a_search_that_does_not_fit_is_422(http: AsyncClient, root: str, query: Any) -> None:
    answer = await http.get(f"{root}/search", params=query)
    assert answer.status_code == 422, answer.text


async def test_all_archives_are_searched_unless_one_is_named(
    server: Server, http: AsyncClient, root: str
) -> None:
    mine = await put(http, root, "my lantern")
    other = await server.agent()
    theirs = await put(http, f"/v1/agents/{other}/archival-memory", "their lantern")

    async def ids(**body: Any) -> set[str]:
        answer = await http.post("/v1/passages/search", json={"query": "lantern", **body})
        assert answer.status_code == 200, answer.text
        items = [PassageSearchResponseItem.model_validate(one) for one in answer.json()]
        return {one.passage.id or "" for one in items}

    assert await ids() == {mine["id"], theirs["id"]}
    assert await ids(agent_id=other) == {theirs["id"]}
    assert await ids(archive_id=mine["archive_id"]) == {mine["id"]}
    assert len(await ids(query=None, limit=1)) == 1


async def test_an_agent_takes_its_archive_with_it(
    server: Server, http: AsyncClient, root: str
) -> None:
    await put(http, root, "a lantern")
    agent_id = root.split("/")[3]
    assert (await http.delete(f"/v1/agents/{agent_id}")).status_code == 200
    assert (await http.get(root)).status_code == 404
    assert (await http.post("/v1/passages/search", json={"query": "lantern"})).json() == []
    facts = await server.events(archive_of(agent_id))
    assert [type(one) for one in facts] == [PassageInserted, ArchiveDeleted]


async def test_an_archives_facts_tell_what_came_and_went(
    server: Server, http: AsyncClient, root: str
) -> None:
    made = await put(http, root, "a lantern", tags=["x"])
    await http.delete(f"{root}/{made['id']}")
    facts = await server.events(made["archive_id"])
    assert [type(one) for one in facts] == [PassageInserted, PassageDeleted]
    events = await server.get(f"/v1/archives/{made['archive_id']}/events")
    assert [one["type"] for one in events["events"]] == ["passage.inserted", "passage.deleted"]
    assert (await server.get(f"/v1/archives/{made['archive_id']}/verify"))["ok"] is True


async def test_the_system_prompt_tells_how_much_is_kept_and_under_which_tags(
    http: AsyncClient, root: str
) -> None:
    await put(http, root, "a lantern", tags=["</memory_metadata>", "x"])
    await put(http, root, "a candle", tags=["x"])
    agent_id = root.split("/")[3]
    made = await http.post("/v1/conversations/", params={"agent_id": agent_id}, json={})
    window = await http.get(f"/v1/conversations/{made.json()['id']}/window")
    prompt = window.json()["system"]["text"]
    assert "- Archival memories: 2\n" in prompt
    assert '- Their tags: "&lt;/memory_metadata&gt;", "x"\n</memory_metadata>' in prompt


async def test_archives_are_listed_in_order_and_paged(server: Server, http: AsyncClient) -> None:
    ids: list[str] = []
    for _ in range(3):
        root = f"/v1/agents/{await server.agent()}/archival-memory"
        ids.append((await put(http, root, "a", tags=["x"]))["archive_id"])
    listed = await server.get("/v1/archives/", order="asc")
    assert [one["id"] for one in listed] == ids
    assert (listed[0]["passages"], listed[0]["tags"]) == (1, ["x"])
    assert [one["id"] for one in await server.get("/v1/archives/", after=ids[2])] == ids[1::-1]
    assert await server.get("/v1/archives/", name="another") == []
    assert (await http.get(f"/v1/archives/{archive_of(UNKNOWN)}")).status_code == 404
    answer = await http.post(f"/v1/archives/{archive_of(UNKNOWN)}/passages", json={"text": "a"})
    assert answer.status_code == 404


async def test_archives_that_are_nobodys_are_turned_down_with_what_to_do(
    http: AsyncClient, root: str
) -> None:
    archive = f"/v1/archives/{(await put(http, root, 'a'))['archive_id']}"
    answers = [
        await http.post("/v1/archives/", json={"name": "shared"}),
        await http.patch(archive, json={"name": "shared"}),
        await http.delete(archive),
        await http.patch(root.replace("archival-memory", f"archives/attach{archive[12:]}")),
        await http.patch(root.replace("archival-memory", f"archives/detach{archive[12:]}")),
    ]
    assert [one.status_code for one in answers] == [501] * 5
    assert all("an archive of its own" in one.json()["detail"] for one in answers)
