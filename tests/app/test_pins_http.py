"""Pins over HTTP: what is pinned stays in the window whatever is compacted."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.app.compacting import Cast, casting, compacted, talked
from tests.app.serving import Server

UNKNOWN = "message-99999999-9999-4999-8999-999999999999"


async def pin(server: Server, stream: str, message_id: str, body: Any) -> httpx2.Response:
    path = f"/v1/conversations/{stream}/messages/{message_id}"
    return await server.http.patch(path, json=body)


async def in_window(server: Server, stream: str) -> dict[str, Any]:
    window = await server.get(f"/v1/conversations/{stream}/window")
    return {one["message_id"]: one for one in window["messages"]}


async def test_a_pinned_message_is_never_evicted_until_it_is_let_go(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast()) as (server, _):
        stream = await talked(server, "One.", "Two.", "Three.", "Four.")
        first = next(iter(await in_window(server, stream)))
        pinned = await pin(server, stream, first, {"pinned": True})
        await compacted(server, stream, mode="all")
        kept = await in_window(server, stream)
        released = await pin(server, stream, first, {"pinned": False})
        await server.post(stream, "Five.")
        await compacted(server, stream, mode="all")
        left = await in_window(server, stream)
    assert (pinned.status_code, released.status_code) == (200, 200)
    assert pinned.json() == {"id": first, "offset": 3, "pinned": True}
    assert kept[first]["pinned"] is True
    assert len(kept) == 2
    assert first not in left


async def test_pinning_twice_is_one_fact(tmp_path: Path) -> None:
    async with casting(tmp_path, Cast()) as (server, _):
        stream = await talked(server, "One.")
        first = next(iter(await in_window(server, stream)))
        for _ in range(2):
            await pin(server, stream, first, {"pinned": True})
        path = f"/v1/conversations/{stream}/events"
        facts = (await server.get(path, types="message.changed"))["events"]
    assert [fact["data"] for fact in facts] == [{"message_id": first, "pinned": True}]


@pytest.mark.parametrize(
    ("message_id", "body", "status"),
    [
        (UNKNOWN, {"pinned": True}, 404),
        ("message-1", {"pinned": True}, 422),
        (UNKNOWN, {}, 422),
        (UNKNOWN, {"pinned": "maybe"}, 422),
    ],
)
async def test_what_cannot_be_pinned_is_told(
    tmp_path: Path, message_id: str, body: Any, status: int
) -> None:
    async with casting(tmp_path, Cast()) as (server, _):
        stream = await talked(server, "One.")
        answer = await pin(server, stream, message_id, body)
    assert answer.status_code == status
    assert answer.json()["detail"]
