import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from app.model_settings import DEFAULTS
from domain.run import RunFinished
from domain.streams import system_message_id
from tests.app.serving import Server, frames_of, serving

ROOT = "/v1/conversations/"
UNKNOWN = "conv-99999999-9999-4999-8999-999999999999"
NO_AGENT = "agent-99999999-9999-4999-8999-999999999999"
KEYS = {
    "id",
    "agent_id",
    "summary",
    "description",
    "model",
    "model_settings",
    "context_window_limit",
    "archived",
    "archived_at",
    "last_message_at",
    "in_context_message_ids",
    "created_at",
    "updated_at",
    "created_by_id",
    "last_updated_by_id",
    "isolated_block_ids",
    "hidden",
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


async def create(server: Server, agent_id: str | None = None, **body: Any) -> dict[str, Any]:
    query = {"agent_id": agent_id or await server.agent()}
    answer = await server.http.post(ROOT, params=query, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(server: Server, **query: Any) -> list[str]:
    return [one["id"] for one in await server.get(ROOT, **query)]


# --- create -----------------------------------------------------------------------------------


async def test_a_conversation_begins_with_nothing_but_its_agent(server: Server) -> None:
    agent_id = await server.agent()
    answer = await server.http.post(ROOT, params={"agent_id": agent_id})
    made = answer.json()
    assert set(made) == KEYS
    assert (made["agent_id"], made["archived"], made["in_context_message_ids"]) == (
        agent_id,
        False,
        [],
    )
    assert (made["summary"], made["model"], made["isolated_block_ids"]) == (None, None, [])
    assert made["created_at"] == made["updated_at"]


async def test_a_conversation_keeps_what_it_begins_with(server: Server) -> None:
    body: dict[str, Any] = {
        "summary": "plans",
        "description": "about plans",
        "model": "demo/steady",
        "model_settings": {**DEFAULTS["openai"], "temperature": 0.1},
        "context_window_limit": 9000,
        "hidden": True,
    }
    made = await create(server, **body)
    kept = await server.get(ROOT + made["id"])
    assert {name: made[name] for name in body} == body
    assert {name: kept[name] for name in body} == body


async def test_the_system_prompt_is_compiled_from_the_agent_as_it_is_now(server: Server) -> None:
    agent_id = await server.agent(system="Be kind.")
    made = await create(server, agent_id)
    (message,) = await server.get(f"{ROOT}{made['id']}/messages")
    assert message["content"].startswith("Be kind.")
    assert made["id"] in message["content"]
    await server.http.patch(f"/v1/agents/{agent_id}", json={"system": "Be brief."})
    (same,) = await server.get(f"{ROOT}{made['id']}/messages")
    later = await create(server, agent_id)
    (other,) = await server.get(f"{ROOT}{later['id']}/messages")
    assert same == message
    assert other["content"].startswith("Be brief.")


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ({}, {}, 422),
        ({"agent_id": "agent-1"}, {}, 422),
        ({"agent_id": NO_AGENT}, {}, 404),
        (None, {"model": "no-slash"}, 400),
        (None, {"model": "/"}, 400),
        (None, {"model_settings": {"provider_type": "none"}}, 422),
        (None, {"model_settings": {}}, 422),
        (None, {"context_window_limit": 0}, 422),
        (None, {"summary": "x" * 1025}, 422),
        (None, {"isolated_block_labels": ["human"]}, 400),
    ],
    ids=[
        "no agent",
        "bad agent",
        "unknown agent",
        "bad model",
        "empty model",
        "bad vendor",
        "no vendor",
        "no window",
        "long summary",
        "own blocks",
    ],
)
async def test_what_cannot_be_begun_is_refused_in_words(
    server: Server, query: dict[str, str] | None, body: dict[str, Any], status: int
) -> None:
    params = {"agent_id": await server.agent()} if query is None else query
    answer = await server.http.post(ROOT, params=params, json=body)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert await listed(server) == []


async def test_a_model_that_is_not_known_is_taken_and_fails_when_it_is_used(
    server: Server,
) -> None:
    made = await create(server, model="no/model")
    answer = await server.post(made["id"])
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("NOT_FOUND: Handle no/model not found")


# --- retrieve ---------------------------------------------------------------------------------


async def test_a_conversation_shows_the_ids_of_the_messages_in_its_window(server: Server) -> None:
    made = await create(server)
    before = await server.get(ROOT + made["id"])
    await server.post(made["id"])
    after = await server.get(ROOT + made["id"])
    messages = await server.get(f"{ROOT}{made['id']}/messages", order="asc")
    assert set(after) == KEYS
    assert before["in_context_message_ids"] == [system_message_id(made["id"])]
    assert after["in_context_message_ids"] == [one["id"] for one in messages]
    assert (before["last_message_at"], after["last_message_at"] is None) == (None, False)


async def test_a_message_counts_as_soon_as_it_is_accepted(server: Server) -> None:
    made = await create(server)
    await server.post(made["id"])
    kept = await server.get(ROOT + made["id"])
    (run,) = await server.get("/v1/runs/")
    assert kept["last_message_at"] == run["created_at"]


# --- update -----------------------------------------------------------------------------------


async def test_an_update_changes_what_it_names_and_nothing_else(server: Server) -> None:
    made = await create(server, summary="plans", description="old")
    answer = await server.http.patch(ROOT + made["id"], json={"description": "new"})
    updated = answer.json()
    assert (updated["summary"], updated["description"]) == ("plans", "new")
    assert updated["updated_at"] > made["updated_at"]
    assert updated["created_at"] == made["created_at"]


async def test_null_changes_nothing(server: Server) -> None:
    made = await create(server, summary="plans", model="demo/steady")
    body = {"summary": None, "model": None, "model_settings": None, "archived": None}
    updated = (await server.http.patch(ROOT + made["id"], json=body)).json()
    assert (updated["summary"], updated["model"]) == ("plans", "demo/steady")
    assert len(await server.facts(made["id"])) == 1


async def test_the_same_update_twice_is_recorded_once(server: Server) -> None:
    made = await create(server)
    settings = {"provider_type": "openai", "temperature": 0.1}
    for _ in range(2):
        body = {"summary": "a", "model_settings": settings, "hidden": False}
        await server.http.patch(ROOT + made["id"], json=body)
    assert len(await server.facts(made["id"])) == 2


async def test_an_archived_conversation_says_since_when_until_it_is_taken_out(
    server: Server,
) -> None:
    path = ROOT + (await create(server))["id"]
    archived = (await server.http.patch(path, json={"archived": True})).json()
    again = (await server.http.patch(path, json={"archived": False})).json()
    assert (archived["archived"], archived["archived_at"]) == (True, archived["updated_at"])
    assert (again["archived"], again["archived_at"]) == (False, None)


async def test_the_last_messages_moment_can_be_set(server: Server) -> None:
    path = ROOT + (await create(server))["id"]
    body = {"last_message_at": "2020-01-02T05:04:05+02:00"}
    updated = (await server.http.patch(path, json=body)).json()
    assert updated["last_message_at"] == "2020-01-02T03:04:05Z"


async def test_a_conversations_model_wins_over_its_agents(server: Server) -> None:
    made = await create(server, model="no/model")
    await server.http.patch(ROOT + made["id"], json={"model": "demo/echo"})
    assert (await server.post(made["id"])).status_code == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "no-slash"}, 400),
        ({"model_settings": {"provider_type": "none"}}, 422),
        ({"last_message_at": "yesterday"}, 422),
        ({"archived": "perhaps"}, 422),
    ],
    ids=["bad model", "bad vendor", "bad moment", "bad flag"],
)
async def test_what_cannot_be_changed_is_refused_in_words(
    server: Server, body: dict[str, Any], status: int
) -> None:
    made = await create(server)
    answer = await server.http.patch(ROOT + made["id"], json=body)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert len(await server.facts(made["id"])) == 1


async def test_an_update_needs_a_body(server: Server) -> None:
    made = await create(server)
    assert (await server.http.patch(ROOT + made["id"])).status_code == 422


# --- delete -----------------------------------------------------------------------------------


async def test_a_deleted_conversation_is_gone_from_everywhere(server: Server) -> None:
    made = await create(server)
    run_id = frames_of((await server.post(made["id"])).text)[0]["run_id"]
    path = ROOT + made["id"]
    answer = await server.http.delete(path)
    assert (answer.status_code, answer.json()) == (200, None)
    gone = {"detail": f"Conversation not found with id={made['id']}"}
    for missing in (
        await server.http.get(path),
        await server.http.patch(path, json={"summary": "a"}),
        await server.http.delete(path),
        await server.post(made["id"]),
        await server.http.post(f"{path}/stream", json={}),
        await server.http.get(f"{path}/events"),
        await server.http.get(f"{path}/window"),
        await server.http.get(f"{path}/verify"),
    ):
        assert missing.status_code == 404
        assert missing.json() == gone
    assert (await server.http.get(f"/v1/runs/{run_id}")).status_code == 404
    assert await server.get(f"{path}/messages") == []
    assert await listed(server, archive_status="all") == []


async def test_a_conversation_can_be_deleted_while_it_is_being_answered(server: Server) -> None:
    conversation_id = await server.conversation(model="demo/steady")
    post = asyncio.create_task(server.post(conversation_id))
    await server.until(conversation_id, lambda facts: len(facts) > 6)
    assert (await server.http.delete(ROOT + conversation_id)).status_code == 200
    assert frames_of((await post).text)[-1]["stop_reason"] == "cancelled"
    facts = await server.until_there_is(conversation_id, RunFinished)
    assert facts[-1].event.status == "cancelled"


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_unknown_id_is_not_found_and_a_malformed_one_refused(
    server: Server, method: str
) -> None:
    body = {"summary": "a"} if method == "PATCH" else None
    unknown = await server.http.request(method, ROOT + UNKNOWN, json=body)
    assert unknown.status_code == 404
    assert isinstance(unknown.json()["detail"], str)
    for name in ("default", "conv-1", NO_AGENT):
        malformed = await server.http.request(method, ROOT + name, json=body)
        assert malformed.status_code == 422
        assert malformed.json()["examples"] == ["agent-123e4567-e89b-42d3-8456-426614174000"]
        assert malformed.json()["trace_id"] == ""


# --- list -------------------------------------------------------------------------------------


async def mixed(server: Server) -> tuple[str, list[str]]:
    """Make nine conversations of an agent, some of which nobody has ever talked in."""
    agent_id = await server.agent()
    ids = [(await create(server, agent_id))["id"] for _ in range(9)]
    for conversation_id in (ids[4], ids[1], ids[7], ids[0]):
        await server.post(conversation_id, streaming=False)
    # A tie: two whose last message was at the same moment.
    for conversation_id in (ids[2], ids[3]):
        body = {"last_message_at": "2020-01-01T00:00:00Z"}
        await server.http.patch(ROOT + conversation_id, json=body)
    return agent_id, ids


@pytest.mark.parametrize("order_by", ["created_at", "last_run_completion", "last_message_at"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_pages_of_every_order_end_and_miss_nothing(
    server: Server, order: str, order_by: str, limit: int
) -> None:
    _, ids = await mixed(server)
    query = {"order": order, "order_by": order_by}
    whole = await listed(server, **query)
    walked = page = await listed(server, **query, limit=limit)
    while page:
        page = await listed(server, **query, limit=limit, after=page[-1])
        assert len(page) <= limit
        walked += page
        assert len(walked) <= len(ids)
    assert walked == whole
    assert set(walked) == set(ids)


async def test_those_without_a_message_or_a_run_come_last_either_way(server: Server) -> None:
    _, ids = await mixed(server)
    talked = [ids[4], ids[1], ids[7], ids[0]]
    silent = set(ids) - set(talked)
    up = await listed(server, order_by="last_run_completion", order="asc")
    down = await listed(server, order_by="last_run_completion", order="desc")
    assert (up[:4], down[:4]) == (talked, talked[::-1])
    assert set(up[4:]) == set(down[4:]) == silent
    up = await listed(server, order_by="last_message_at", order="asc")
    down = await listed(server, order_by="last_message_at", order="desc")
    tied = sorted([ids[2], ids[3]])
    assert (up[:6], down[:6]) == ([*tied, *talked], [*talked[::-1], *tied[::-1]])


async def test_conversations_are_listed_by_when_they_began_the_newest_first(
    server: Server,
) -> None:
    agent_id = await server.agent()
    ids = [(await create(server, agent_id))["id"] for _ in range(3)]
    assert await listed(server) == ids[::-1]
    assert await listed(server, order="asc") == ids
    assert await listed(server, limit=2) == ids[:0:-1]
    assert await listed(server, limit=0) == []


async def test_a_list_holds_every_key_but_not_the_ids_of_messages(server: Server) -> None:
    await create(server)
    (one,) = await server.get(ROOT)
    assert set(one) == KEYS
    assert one["in_context_message_ids"] is None


async def test_a_list_is_of_one_agent_if_asked(server: Server) -> None:
    agent_id = await server.agent()
    own = await create(server, agent_id)
    await create(server)
    assert await listed(server, agent_id=agent_id) == [own["id"]]
    assert await listed(server, agent_id=NO_AGENT) == []


async def test_archived_conversations_are_listed_only_if_asked_for(server: Server) -> None:
    one, two = (await create(server))["id"], (await create(server))["id"]
    await server.http.patch(ROOT + one, json={"archived": True})
    assert await listed(server) == [two]
    assert await listed(server, archive_status="unarchived") == [two]
    assert await listed(server, archive_status="archived") == [one]
    assert await listed(server, archive_status="all") == [two, one]


async def test_hidden_conversations_are_not_listed_but_are_there(server: Server) -> None:
    hidden = (await create(server, hidden=True))["id"]
    assert await listed(server, archive_status="all") == []
    assert (await server.get(ROOT + hidden))["hidden"]


async def test_a_summary_is_found_by_a_part_of_it_in_the_same_letters(server: Server) -> None:
    plans = (await create(server, summary="Plans for 100%_sure"))["id"]
    await create(server, summary="plants")
    await create(server)
    assert await listed(server, summary_search="Plan") == [plans]
    assert await listed(server, summary_search="PLAN") == []
    assert await listed(server, summary_search="100%_s") == [plans]
    assert await listed(server, summary_search="P_ans") == []
    assert len(await listed(server, summary_search="")) == 3


async def test_the_last_one_of_a_page_may_have_been_deleted_meanwhile(server: Server) -> None:
    agent_id = await server.agent()
    ids = [(await create(server, agent_id))["id"] for _ in range(3)]
    await server.http.delete(ROOT + ids[1])
    assert await listed(server, after=ids[1]) == [ids[0]]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"after": UNKNOWN}, 404),
        ({"after": "nonsense"}, 404),
        ({"limit": -1}, 422),
        ({"limit": 1001}, 422),
        ({"order": "up"}, 422),
        ({"order_by": "summary"}, 422),
        ({"archive_status": "some"}, 422),
    ],
    ids=str,
)
async def test_a_bad_query_is_answered_in_words(
    server: Server, query: dict[str, Any], status: int
) -> None:
    answer = await server.http.get(ROOT, params=query)
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert ("trace_id" in answer.json()) == (status == 422)


async def test_what_is_no_route_and_what_is_no_json_are_answered_in_json(server: Server) -> None:
    nowhere = await server.http.get("/v1/nowhere")
    method = await server.http.put(ROOT)
    made = await create(server)
    headers = {"content-type": "application/json"}
    garbled = await server.http.patch(ROOT + made["id"], content=b"{", headers=headers)
    assert (nowhere.status_code, nowhere.json()) == (404, {"detail": "Not Found"})
    assert (method.status_code, method.json()) == (405, {"detail": "Method Not Allowed"})
    assert garbled.status_code == 422
    assert garbled.json()["detail"].startswith("The body is not JSON in UTF-8")
