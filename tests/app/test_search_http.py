"""Search over HTTP: what is found, what is refused, and who may look."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from domain.conversation import DeleteConversation
from tests.app.serving import Server, serving

UNKNOWN = "conv-99999999-9999-4999-8999-999999999999"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
async def talk(server: Server) -> str:
    """A conversation with a reply in it."""
    stream = await server.conversation()
    await server.post(stream, "We went camping by the lake.", streaming=False)
    return stream


def search_of(stream: str) -> str:
    return f"/v1/conversations/{stream}/search"


async def test_a_search_gives_hits_with_their_offsets(server: Server, talk: str) -> None:
    answer = await server.get(search_of(talk), q="campng")
    assert answer["corrections"] == [{"word": "campng", "instead": "camping"}]
    said, reply = sorted(answer["hits"], key=lambda hit: hit["offset"])
    assert set(said) == {"offset", "version", "role", "kind", "at", "text", "score"}
    assert (said["role"], said["kind"]) == ("user", "words")
    assert said["text"] == "We went camping by the lake."
    assert (reply["role"], reply["version"] > reply["offset"]) == ("assistant", True)
    items = (await server.get(f"/v1/conversations/{talk}/window"))["messages"]
    assert {hit["offset"] for hit in answer["hits"]} <= {one["offset"] for one in items}
    for limit in (0, 1):
        assert len((await server.get(search_of(talk), q="camping", limit=limit))["hits"]) == limit


async def test_a_message_is_found_right_after_it_was_sent(server: Server) -> None:
    stream = await server.conversation()
    for number in range(3):
        await server.post(stream, f"number{number}x", streaming=False)
        hits = (await server.get(search_of(stream), q=f"number{number}x"))["hits"]
        assert f"number{number}x" in hits[0]["text"]


@pytest.mark.parametrize(
    "query", ['"', "a AND (b", "terms:a*", "NEAR(", "-", "\0", "'; DROP TABLE texts", "%", "💥"]
)
async def test_whatever_is_asked_is_answered(server: Server, talk: str, query: str) -> None:
    assert isinstance((await server.get(search_of(talk), q=query))["hits"], list)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "q"),
        ({"q": ""}, "q"),
        ({"q": "x" * 2001}, "2000"),
        ({"q": "x", "limit": 101}, "100"),
        ({"q": "x", "limit": -1}, "limit"),
        ({"q": "x", "limit": "many"}, "limit"),
    ],
)
async def test_what_has_no_sense_is_refused(
    server: Server, talk: str, params: dict[str, Any], says: str
) -> None:
    answer = await server.http.get(search_of(talk), params=params)
    assert answer.status_code == 422
    assert says in answer.json()["detail"]


async def test_a_deleted_conversation_is_searched_only_if_asked_for(
    server: Server, talk: str
) -> None:
    await server.services.execute(talk, DeleteConversation(), "user")
    gone = await server.http.get(search_of(talk), params={"q": "camping"})
    assert gone.status_code == 404
    assert (await server.get(search_of(talk), q="camping", deleted="true"))["hits"]


async def test_what_does_not_exist_is_not_found(server: Server) -> None:
    assert (await server.http.get(search_of(UNKNOWN), params={"q": "a"})).status_code == 404
    assert (await server.http.get(search_of("conv-1"), params={"q": "a"})).status_code == 422


async def test_another_conversation_is_not_searched(server: Server, talk: str) -> None:
    other = await server.conversation()
    await server.post(other, "Nothing of it.", streaming=False)
    assert (await server.get(search_of(other), q="camping lake"))["hits"] == []
    assert (await server.get(search_of(talk), q="camping lake"))["hits"]
