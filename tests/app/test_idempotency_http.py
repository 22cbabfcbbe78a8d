"""The same request twice is one run, whatever names it, and whatever has happened since."""

import asyncio
import importlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from domain.run import RunQueued, StepDelta
from tests.app.scripts import Gate, saying
from tests.app.serving import Scripted, Server, serving

KEY = {"idempotency-key": "k-1"}


async def send(server: Server, stream: str, body: Any, **headers: str) -> httpx2.Response:
    path = f"/v1/conversations/{stream}/messages"
    return await server.http.post(path, json=body, headers=headers)


async def runs(server: Server, stream: str) -> int:
    return sum(isinstance(one, RunQueued) for one in await server.events(stream))


def otid(otid: str, content: str = "Hi.", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, "otid": otid}], **more}


@pytest.mark.parametrize("streaming", [True, False], ids=["stream", "json"])
async def test_twenty_at_once_are_one_run(tmp_path: Path, streaming: bool) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        body = {"input": "Hi.", "streaming": streaming, "stream_tokens": streaming}
        answers = await asyncio.gather(*(send(server, stream, body, **KEY) for _ in range(20)))
        assert {one.status_code for one in answers} == {200}
        assert len({one.text for one in answers}) == 1
        assert await runs(server, stream) == 1


async def test_it_is_still_the_same_after_its_end_and_after_a_restart(tmp_path: Path) -> None:
    body = {"input": "Hi.", "stream_tokens": True}
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        first = await send(server, stream, body, **KEY)
        assert (await send(server, stream, body, **KEY)).text == first.text
        document = await send(server, stream, {**body, "streaming": False}, **KEY)
        assert document.json()["stop_reason"]["stop_reason"] == "end_turn"
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        assert (await send(server, stream, body, **KEY)).text == first.text
        assert await runs(server, stream) == 1


async def test_a_second_one_attaches_to_a_run_under_way_even_as_a_stream(tmp_path: Path) -> None:
    gate = Gate("Good ", after="day.")
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(gate)) as server:
        stream = await server.conversation(model="script/x")
        body = otid("o-1", stream_tokens=True, background=True)
        first = asyncio.create_task(send(server, stream, body))
        await server.until_there_is(stream, StepDelta)
        second = asyncio.create_task(send(server, stream, body))
        document = asyncio.create_task(send(server, stream, {**body, "streaming": False}))
        busy = await send(server, stream, otid("o-2"))
        gate.opened.set()
        assert (await second).text == (await first).text
        assert (await document).json()["messages"][0]["content"] == "Good day."
        assert busy.status_code == 409
        assert await runs(server, stream) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"input": "Ho."},
        {"input": "Hi.", "override_system": "Be brief."},
        {"input": "Hi.", "client_tools": [{"name": "weather"}]},
        {"input": "Hi.", "max_steps": 3},
    ],
    ids=str,
)
async def test_another_body_under_the_same_key_is_refused(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        await send(server, stream, {"input": "Hi."}, **KEY)
        answer = await send(server, stream, body, **KEY)
        assert answer.status_code == 422
        assert answer.headers["x-should-retry"] == "false"
        assert "k-1" in answer.json()["detail"]
        assert await runs(server, stream) == 1


async def test_how_an_answer_travels_is_not_what_a_request_means(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        parts = [{"type": "text", "text": "Hi."}]
        await send(server, stream, {"input": "Hi."}, **KEY)
        for body in (
            {"input": parts, "streaming": False},
            {"input": "Hi.", "background": True, "include_pings": False},
            {"messages": [{"role": "user", "content": "Hi.", "otid": "mine"}]},
        ):
            assert (await send(server, stream, body, **KEY)).status_code == 200
        assert await runs(server, stream) == 1


async def test_otids_name_a_request_together_or_not_at_all(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        message = {"role": "user", "content": "Hi."}
        pair = {"messages": [{**message, "otid": "o-1"}, {**message, "otid": "o-2"}]}
        first = await send(server, stream, pair)
        again = await send(server, stream, pair)
        half = await send(server, stream, {"messages": [{**message, "otid": "o-1"}]})
        mixed = {"messages": [{**message, "otid": "o-1"}, {**message, "otid": "o-3"}]}
        overlapping = await send(server, stream, mixed)
        assert first.text == again.text
        assert (half.status_code, overlapping.status_code) == (422, 422)
        assert await runs(server, stream) == 1


async def test_a_key_belongs_to_its_conversation(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        for _ in range(2):
            stream = await server.conversation()
            assert (await send(server, stream, {"input": "Hi."}, **KEY)).status_code == 200
            assert await runs(server, stream) == 1


async def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        for key in ("", "k" * 257):
            answer = await send(server, stream, {"input": "Hi."}, **{"idempotency-key": key})
            assert answer.status_code == 422
            assert "Idempotency-Key" in answer.json()["detail"]
        assert await runs(server, stream) == 0


async def test_the_client_library_s_own_retry_is_the_same_request(tmp_path: Path) -> None:
    retry = {"x-stainless-retry-count": "1"}
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        body = {"input": "Hi.", "streaming": False}
        first = await send(server, stream, body, **{"x-stainless-retry-count": "0"})
        again = await send(server, stream, body, **retry)
        other = await send(server, stream, {**body, "input": "Ho."}, **retry)
        anew = await send(server, stream, body)
        ids = [one.json()["messages"][0]["id"] for one in (first, again, other, anew)]
        assert ids[0] == ids[1]
        assert len(set(ids)) == 3
        assert await runs(server, stream) == 3


async def test_what_the_state_has_forgotten_is_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("domain.conversation.evolve"), "KEYS_MAX", 2)
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        stream = await server.conversation()
        answers = [await send(server, stream, otid(f"o-{n}", streaming=False)) for n in range(5)]
        assert len((await server.services.execute.conversation(stream)).keys) == 2
        for n, answer in enumerate(answers):
            again = await send(server, stream, otid(f"o-{n}", streaming=False))
            assert again.json()["messages"] == answer.json()["messages"]
        assert (await send(server, stream, otid("o-0", "Ho."))).status_code == 422
        assert await runs(server, stream) == 5


async def test_a_failed_request_is_the_same_failure_again(tmp_path: Path) -> None:
    model = Scripted(saying())
    async with asyncio.timeout(30), serving(tmp_path / "a.db", model) as server:
        stream = await server.conversation(model="script/x")
        body = {"input": "Hi.", "streaming": False}
        first = await send(server, stream, body, **KEY)
        again = await send(server, stream, body, **KEY)
        assert (first.status_code, again.text) == (again.status_code, first.text)
        assert len(model.requests) == 1


async def test_a_conversation_is_created_once_under_a_key(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent, other = await server.agent(), await server.agent()
        path = f"/v1/conversations/?agent_id={agent}"
        answers = await asyncio.gather(
            *(server.http.post(path, json={"summary": "s"}, headers=KEY) for _ in range(5))
        )
        assert len({one.json()["id"] for one in answers}) == 1
        assert {one.json()["summary"] for one in answers} == {"s"}
        refused = await server.http.post(f"/v1/conversations/?agent_id={other}", headers=KEY)
        assert refused.status_code == 422
        assert len(await server.get("/v1/conversations/")) == 1
