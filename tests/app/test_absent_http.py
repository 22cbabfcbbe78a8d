"""What is not there says so, and what to do instead."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from app.web.absent import ABSENT, COUNTED, METHODS
from tests.app.serving import Server, serving

pytestmark = pytest.mark.sqlite


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "a.db") as running:
        yield running


async def test_what_is_absent_says_what_to_do_instead(server: Server) -> None:
    for row in ABSENT:
        path = re.sub(r"{\w+(:path)?}", "x", row.path)
        for method in METHODS if row.method == "*" else (row.method,):
            answer = await server.http.request(method, path)
            assert answer.status_code == 501, (method, path)
            assert answer.headers["x-should-retry"] == "false"
            assert answer.json()["detail"] == f"NOT_IMPLEMENTED: {row.instead}"


def test_every_absence_is_a_sentence_about_an_alternative() -> None:
    for row in ABSENT:
        assert re.search(r"\b[Uu]se\b", row.instead), row.path
        assert row.instead.endswith("."), row.path


@pytest.mark.parametrize("collection", [*COUNTED, "folders", "identities"])
async def test_nothing_is_counted_and_that_is_said(server: Server, collection: str) -> None:
    answer = await server.http.get(f"/v1/{collection}/count")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (501, "false")
    assert re.search(r"\b[Uu]se\b.* instead\.$", answer.json()["detail"])


async def test_a_wrong_path_is_not_found_all_the_same(server: Server) -> None:
    for path in ("/v1/folder/", "/v1/foldersx", "/v1/agents/x/folder", "/v1/folder/count"):
        assert (await server.http.get(path)).status_code == 404


async def test_what_existing_clients_do_without_is_not_found(server: Server) -> None:
    agent_id = await server.agent()
    for part in ("secrets", "repositories"):
        assert (await server.http.get(f"/v1/agents/{agent_id}/{part}")).status_code == 404
