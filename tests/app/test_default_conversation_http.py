"""An agent's own conversation: begun by the first message, and never seen under an id."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.streams import default_conversation
from tests.app.scripts import saying
from tests.app.serving import Scripted, Server, frames_of, serving
from tests.examples import REPLY_ID


async def ask(server: Server, path: str, **body: Any) -> Any:
    answer = await server.http.post(path, json={"input": "Hello!", **body})
    assert answer.status_code == 200, answer.text
    return answer


async def test_all_its_forms_are_one_conversation(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        await ask(server, f"/v1/agents/{agent}/messages")
        await ask(server, f"/v1/agents/{agent}/messages", streaming=True, stream_tokens=True)
        await ask(server, f"/v1/agents/{agent}/messages/stream")
        await ask(server, f"/v1/conversations/{agent}/messages", streaming=False)
        await ask(server, "/v1/conversations/default/messages", agent_id=agent, streaming=False)
        lists = [
            await server.get("/v1/conversations/default/messages", agent_id=agent, order="asc"),
            await server.get(f"/v1/conversations/{agent}/messages", order="asc"),
        ]
        runs = await server.get("/v1/runs/", agent_id=agent)
    assert lists[0] == lists[1]
    assert len([one for one in lists[0] if one["message_type"] == "user_message"]) == 5
    assert "CONVERSATION_ID" in lists[0][0]["content"]
    assert "default" in lists[0][0]["content"]
    assert {one["conversation_id"] for one in runs} == {None}


async def test_it_is_no_conversation_to_those_that_list_them(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        await ask(server, f"/v1/agents/{agent}/messages")
        assert await server.get("/v1/conversations/", agent_id=agent) == []
        stream = default_conversation(agent)
        path = f"/v1/conversations/{stream}"
        for answer in (
            await server.http.get(path),
            await server.http.patch(path, json={"summary": "s"}),
            await server.http.delete(path),
            await server.http.post(f"{path}/messages", json={"input": "Hi."}),
        ):
            assert answer.status_code == 404
        await server.http.delete(f"/v1/agents/{agent}")
        assert (await server.services.execute.conversation(stream)).deleted


async def test_before_its_first_message_there_is_but_a_prompt(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        query = {"agent_id": agent}
        (prompt,) = await server.get("/v1/conversations/default/messages", **query)
        assert prompt["message_type"] == "system_message"
        shown = await server.get(f"/v1/agents/{agent}")
        assert shown["message_ids"] == [prompt["id"]]
        path = "/v1/conversations/default/messages"
        assert await server.get(path, **query, after=prompt["id"]) == []
        unknown = await server.http.get(path, params={**query, "before": REPLY_ID})
        assert unknown.status_code == 404
        cancel = await server.http.post("/v1/conversations/default/cancel", params=query)
        assert (cancel.status_code, cancel.headers["x-should-retry"]) == (409, "false")
        resume = await server.http.post("/v1/conversations/default/stream", json=query)
        assert resume.status_code == 400
        assert await server.facts(default_conversation(agent)) == []


async def test_the_model_is_given_the_prompt_that_the_list_shows(tmp_path: Path) -> None:
    provider = Scripted(saying("Hi."))
    async with asyncio.timeout(30), serving(tmp_path / "a.db", provider) as server:
        agent = await server.agent("script/x")
        await server.get(f"/v1/agents/{agent}")  # which looks at its window before there is any
        await ask(server, f"/v1/agents/{agent}/messages")
        query = {"agent_id": agent, "order": "asc"}
        prompt = (await server.get("/v1/conversations/default/messages", **query))[0]["content"]
    assert prompt
    assert provider.requests[0].system == prompt


async def test_default_without_an_agent_is_nobodys(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        root = "/v1/conversations/default"
        assert await server.get(f"{root}/messages") == []
        for path, status in (
            ("messages", 404),
            ("cancel", 404),
            ("compact", 404),
            ("recompile", 404),
            ("stream", 400),
        ):
            answer = await server.http.post(f"{root}/{path}", json={"input": "Hi."})
            assert answer.status_code == status, path
            assert answer.json()["detail"]


async def test_many_first_messages_begin_it_once(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        path = f"/v1/agents/{agent}/messages"
        await asyncio.gather(*(ask(server, path) for _ in range(10)))
        facts = await server.events(default_conversation(agent))
    assert [one.type for one in facts].count("conversation.started") == 1
    assert [one.type for one in facts].count("run.finished") == 10


@pytest.mark.parametrize(
    "body", [{"stream_tokens": True}, {"background": True}, {"include_pings": False}], ids=str
)
async def test_what_only_a_stream_has_is_refused_for_a_document(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        path = f"/v1/agents/{agent}/messages"
        answer = await server.http.post(path, json={"input": "Hello!", **body})
        assert answer.status_code == 422
        assert next(iter(body)) in answer.json()["detail"]
        assert await server.facts(default_conversation(agent)) == []


async def test_in_the_background_it_answers_with_the_run(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db", Scripted(saying("Hi."))) as server:
        agent = await server.agent("script/x")
        path = f"/v1/agents/{agent}/messages/async"
        body = {"messages": [{"role": "user", "content": "Hello!", "otid": "o-1"}]}
        run = (await server.http.post(path, json=body)).json()
        again = (await server.http.post(path, json=body)).json()
        stream = await server.http.post(f"/v1/runs/{run['id']}/stream", json={})
        shown = await server.get(f"/v1/runs/{run['id']}")
    assert (run["background"], run["status"]) == (True, "created")
    assert again["id"] == run["id"]
    assert frames_of(stream.text)[1]["content"] == "Hi."
    assert shown["status"] == "completed"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/", "http://localhost:1/", "ftp://example.org", "nowhere", "http://[::1]/"],
)
async def test_a_callback_to_a_private_address_is_refused(tmp_path: Path, url: str) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        path = f"/v1/agents/{agent}/messages/async"
        answer = await server.http.post(path, json={"input": "Hello!", "callback_url": url})
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith("callback_url: ")
        assert await server.facts(default_conversation(agent)) == []


async def test_a_callback_is_shown_with_its_run(tmp_path: Path) -> None:
    url = "https://example.org/told"
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = await server.agent()
        path = f"/v1/agents/{agent}/messages/async"
        run = (await server.http.post(path, json={"input": "Hi.", "callback_url": url})).json()
    assert (run["callback_url"], run["callback_sent_at"]) == (url, None)


async def test_an_unknown_agent_has_none(tmp_path: Path) -> None:
    async with asyncio.timeout(30), serving(tmp_path / "a.db") as server:
        agent = "agent-00000000-0000-4000-8000-000000000000"
        for path in ("messages", "messages/stream", "messages/async", "messages/cancel"):
            answer = await server.http.post(f"/v1/agents/{agent}/{path}", json={"input": "Hi."})
            assert answer.status_code == 404
