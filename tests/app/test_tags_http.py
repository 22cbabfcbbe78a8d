"""The tags that agents and blocks are marked with."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.app.serving import Server, serving


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    """A server with two tagged agents, one without tags, and a tagged block."""
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as running:
        for tags in (["garden", "kitchen"], ["kitchen", "Attic, 'north'"], []):
            body = {"model": "demo/echo", "tags": tags}
            assert (await running.http.post("/v1/agents/", json=body)).status_code == 200
        body = {"label": "a", "value": "b", "tags": ["lake"]}
        assert (await running.http.post("/v1/blocks/", json=body)).status_code == 200
        yield running


async def tags(server: Server, **query: Any) -> list[str]:
    return await server.get("/v1/tags/", **query)


async def test_each_tag_is_listed_once_in_order(server: Server) -> None:
    known = await tags(server)
    assert sorted(known) == ["Attic, 'north'", "garden", "kitchen", "lake"]
    assert await tags(server, order="desc") == known[::-1]


async def test_tags_are_walked_in_both_orders(server: Server) -> None:
    for order in ("asc", "desc"):
        known = await tags(server, order=order)
        walked: list[str] = []
        query: dict[str, Any] = {"order": order, "limit": 3}
        while page := await tags(server, **query):
            walked += page
            query["after"] = page[-1]
        assert walked == known
        assert await tags(server, order=order, before=known[3], limit=2) == known[1:3]


@pytest.mark.parametrize("name", ["name", "query_text"])
async def test_tags_are_found_by_a_part_of_them(server: Server, name: str) -> None:
    assert await tags(server, **{name: "KIT"}) == ["kitchen"]
    assert await tags(server, **{name: "'north"}) == ["Attic, 'north'"]
    assert await tags(server, **{name: "%"}) == []


async def test_a_tag_goes_with_the_last_that_has_it(server: Server) -> None:
    (gardener,) = await server.get("/v1/agents/", tags=["garden"])
    await server.http.delete(f"/v1/agents/{gardener['id']}")
    assert "garden" not in await tags(server)
    assert "kitchen" in await tags(server)
