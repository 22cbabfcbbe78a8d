from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import AsyncClient
from letta_client.types import AgentState

from app.model_settings import DEFAULTS
from app.web.agents import BASE_TOOLS
from app.web.pages import Selection
from domain.conversation import ConversationDeleted
from domain.streams import default_conversation, system_message_id
from tests.app.serving import Server, serving
from tests.examples import AGENT_ID, BLOCK_ID

ROOT: Final = "/v1/agents/"
APPROVAL: Final = {"type": "approval", "tool_call_id": "call-0", "approve": True}
NEW_CLIENT: Final = {"X-Stainless-Package-Version": "1.12.1"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db", anthropic_api_key="none") as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


async def create(http: AsyncClient, **body: Any) -> dict[str, Any]:
    bare = {"model": "demo/echo", "include_base_tools": False}
    answer = await http.post(ROOT, json={**bare, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def create_block(http: AsyncClient, label: str, **body: Any) -> str:
    answer = await http.post("/v1/blocks/", json={"label": label, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


async def names(http: AsyncClient, **query: Any) -> list[str]:
    answer = await http.get(ROOT, params=query)
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()]


# --- create -----------------------------------------------------------------------------------


async def test_a_created_agent_is_what_the_sdk_expects_one_to_be(http: AsyncClient) -> None:
    made = await create(
        http,
        name="Ada",
        model="anthropic/claude-haiku-4-5",
        system="Be kind.",
        description="a guide",
        tags=["a", "b"],
        metadata={"team": None},
        timezone="Europe/Paris",
        context_window_limit=9000,
        model_settings={"provider_type": "anthropic", "max_output_tokens": 100},
        compaction_settings={"mode": "all", "clip_chars": None},
        embedding="openai/text-embedding-3-small",
        memory_blocks=[{"label": "human", "value": "Ada", "limit": 50}],
        include_base_tools=True,
        enable_sleeptime=False,
        tools=[],
        secrets={},
        initial_message_sequence=[],
    )
    state = AgentState.model_validate(made)
    assert (state.name, state.system, state.tags) == ("Ada", "Be kind.", ["a", "b"])
    assert [one.value for one in state.blocks] == ["Ada"]
    assert state.memory.blocks == state.blocks
    assert (state.metadata, state.timezone) == ({"team": None}, "Europe/Paris")
    assert state.llm_config.model == "claude-haiku-4-5"
    assert state.llm_config.api_model_endpoint_type == "anthropic"
    assert state.llm_config.context_window == 9000
    assert state.compaction_settings is not None
    assert (state.compaction_settings.mode, state.compaction_settings.clip_chars) == ("all", None)
    assert made["model_settings"] == {**DEFAULTS["anthropic"], "max_output_tokens": 100}
    assert [one.name for one in state.tools] == list(BASE_TOOLS)
    assert state.sources == []
    assert state.message_ids == [system_message_id(default_conversation(state.id))]
    assert state.created_at == state.updated_at


@pytest.mark.parametrize(
    ("asked", "has"),
    [
        ({"include_base_tools": None}, BASE_TOOLS),
        ({"include_base_tools": False}, ()),
        (
            {"include_base_tools": None, "tools": ["recall", "memory_insert"]},
            (*BASE_TOOLS, "recall"),
        ),
        ({"include_base_tools": False, "tools": ["recall"]}, ("recall",)),
    ],
)
async def test_an_agent_has_the_base_tools_unless_it_is_to_have_none(
    http: AsyncClient, asked: dict[str, Any], has: tuple[str, ...]
) -> None:
    made = await create(http, **asked)
    assert [one["name"] for one in made["tools"]] == [*has]


async def test_an_agent_needs_nothing_but_a_model(http: AsyncClient) -> None:
    made = await create(http)
    assert made["name"]
    assert made["system"]
    assert made["agent_type"] == "letta_v1_agent"
    assert (made["blocks"], made["tags"]) == ([], [])
    assert made["id"] != (await create(http))["id"]


async def test_the_default_handle_stands_for_the_default_model(http: AsyncClient) -> None:
    made = await create(http, model="letta/auto")
    assert made["model"] == "letta/auto"
    assert (made["llm_config"]["model_endpoint_type"], made["llm_config"]["model"]) == (
        "demo",
        "echo",
    )


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"model": None}, 400, "INVALID_ARGUMENT: model"),
        ({"model": "echo"}, 400, "INVALID_ARGUMENT"),
        ({"model": "nobody/else"}, 404, "NOT_FOUND: Handle nobody/else not found"),
        ({"name": "x" * 1025}, 422, "name"),
        ({"name": ""}, 422, "name"),
        ({"system": "x" * (1024 * 1024 + 1)}, 422, "system"),
        ({"tags": [str(n) for n in range(257)]}, 422, "256"),
        ({"context_window_limit": 0}, 422, "context_window_limit"),
        ({"model_settings": {"provider_type": "acme"}}, 422, "provider_type"),
        ({"model_settings": {"temperature": 1}}, 422, "provider_type"),
        ({"memory_blocks": [{"value": "no label"}]}, 422, "label"),
        ({"memory_blocks": [{"label": "a"}, {"label": "a"}]}, 409, "'a'"),
        ({"memory_blocks": [{"label": str(n)} for n in range(65)]}, 422, "64"),
        ({"block_ids": ["block-1"]}, 422, "block_ids"),
        ({"block_ids": [BLOCK_ID]}, 404, BLOCK_ID),
        ({"tools": ["web_surf"]}, 404, "Tool 'web_surf' not found"),
        ({"tool_rules": [{"type": "run_first"}]}, 501, "tool_rules"),
        ({"secrets": {"KEY": "hush"}}, 501, "secrets"),
        ({"llm_config": {"model": "x"}}, 501, "send `model`"),
        ({"tools": ["core_memory_append"]}, 404, "use memory_insert instead"),
        ({"timezone": "Mars/Olympus"}, 422, "timezone"),
        ({"timezone": "Europe"}, 422, "timezone"),
        ({"agent_type": "bogus"}, 422, "agent_type"),
        ({"sleeptime_agent_frequency": 0}, 422, "sleeptime_agent_frequency"),
        ({"sleeptime_settings": {"model": "no/such"}}, 404, "no/such"),
        ({"from_template": "a:b"}, 501, "from_template"),
        ({"initial_message_sequence": [{"role": "user"}]}, 422, "initial_message_sequence"),
        (
            {"initial_message_sequence": [{"type": "approval", "approvals": [APPROVAL]}]},
            422,
            "an approval answers what nobody has asked yet",
        ),
    ],
)
async def test_what_cannot_be_an_agent_is_turned_down_by_name_and_leaves_nothing(
    http: AsyncClient, body: dict[str, Any], status: int, words: str
) -> None:
    answer = await http.post(ROOT, json={"model": "demo/echo", **body})
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert "hush" not in answer.text
    assert await names(http) == []
    assert (await http.get("/v1/blocks/")).json() == []


async def test_what_only_older_agents_needed_is_no_tool_of_an_agent(http: AsyncClient) -> None:
    made = await create(
        http, tools=["send_message", "web_search", "recall"], include_base_tools=False
    )
    assert [one["name"] for one in made["tools"]] == ["recall"]


async def test_blocks_that_exist_come_before_those_that_are_made(http: AsyncClient) -> None:
    block_id = await create_block(http, "shared")
    made = await create(
        http, block_ids=[block_id, block_id], memory_blocks=[{"label": "own"}, {"label": "more"}]
    )
    assert [one["label"] for one in made["blocks"]] == ["shared", "own", "more"]


async def test_old_and_new_blocks_count_together(http: AsyncClient) -> None:
    block_id = await create_block(http, "shared")
    fresh = [{"label": str(n)} for n in range(64)]
    answer = await http.post(
        ROOT, json={"model": "demo/echo", "block_ids": [block_id], "memory_blocks": fresh}
    )
    assert answer.status_code == 422
    assert "at most 64" in answer.json()["detail"]


# --- retrieve ---------------------------------------------------------------------------------


async def test_newer_clients_see_the_relations_that_they_ask_for(http: AsyncClient) -> None:
    made = await create(http, tags=["a"], memory_blocks=[{"label": "human", "value": "Ada"}])
    path = f"{ROOT}{made['id']}"
    bare = (await http.get(path, headers=NEW_CLIENT)).json()
    assert (bare["blocks"], bare["memory"]["blocks"], bare["tags"]) == ([], [], [])
    include = {"include": ["agent.blocks", "agent.tags"]}
    full = (await http.get(path, headers=NEW_CLIENT, params=include)).json()
    assert full == made
    tagged = await http.get(path, headers=NEW_CLIENT, params={"include": "agent.tags"})
    assert (tagged.json()["blocks"], tagged.json()["tags"]) == ([], ["a"])


async def test_older_clients_see_all_relations(http: AsyncClient) -> None:
    made = await create(http, tags=["a"], memory_blocks=[{"label": "human", "value": "Ada"}])
    assert (await http.get(f"{ROOT}{made['id']}")).json() == made
    assert (await http.get(ROOT)).json() == [made | {"message_ids": None}]


async def test_an_agent_that_is_not_there_is_named(http: AsyncClient) -> None:
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/core-memory/blocks"),
        ("GET", "/core-memory/blocks/human"),
        ("PATCH", "/core-memory/blocks/human"),
        ("PATCH", f"/core-memory/blocks/detach/{BLOCK_ID}"),
    ):
        body = {"name": "x"} if method == "PATCH" else None
        answer = await http.request(method, f"{ROOT}{AGENT_ID}{path}", json=body)
        assert answer.status_code == 404, path
        assert answer.json() == {"detail": f"Agent with ID {AGENT_ID} not found"}


async def test_an_agent_whose_vendor_lost_its_key_can_still_be_looked_at(tmp_path: Path) -> None:
    database = tmp_path / "everlog.db"
    async with serving(database, anthropic_api_key="none") as server:
        made = await create(server.http, model="anthropic/claude-haiku-4-5")
    async with serving(database) as server:
        found = await server.get(f"{ROOT}{made['id']}")
    assert found["model"] == "anthropic/claude-haiku-4-5"
    assert found["llm_config"]["model_endpoint_type"] == "anthropic"
    assert found["llm_config"]["context_window"] > 0


# --- list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_pages_follow_the_order_both_ways_and_end(
    http: AsyncClient, order: str, cursor: str
) -> None:
    made = [(await create(http, name=str(n)))["id"] for n in range(5)]
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


async def test_a_page_lies_between_its_cursors(http: AsyncClient) -> None:
    made = [(await create(http, name=str(n)))["id"] for n in range(5)]
    assert await names(http, order="asc", after=made[0], before=made[4]) == ["1", "2", "3"]
    assert await names(http, after=made[4], before=made[0], limit=2) == ["3", "2"]
    assert await names(http, limit=0) == []


async def test_a_deleted_agent_is_still_a_place_in_the_list(http: AsyncClient) -> None:
    made = [(await create(http, name=str(n)))["id"] for n in range(3)]
    await http.delete(f"{ROOT}{made[1]}")
    assert await names(http) == ["2", "0"]
    assert await names(http, after=made[1]) == ["0"]


@pytest.mark.parametrize("cursor", ["after", "before"])
async def test_an_unknown_cursor_is_an_error_and_not_a_first_page(
    http: AsyncClient, cursor: str
) -> None:
    answer = await http.get(ROOT, params={cursor: AGENT_ID})
    assert answer.status_code == 404
    assert answer.json() == {"detail": f"Agent not found with id={AGENT_ID}"}


@pytest.mark.parametrize("query", [{"limit": -1}, {"limit": 1001}, {"order": "up"}])
async def test_a_page_out_of_bounds_is_turned_down(
    http: AsyncClient, query: dict[str, Any]
) -> None:
    assert (await http.get(ROOT, params=query)).status_code == 422


async def test_agents_are_found_by_name_or_part_of_it(http: AsyncClient) -> None:
    for name in ("Ada", "ada lovelace", "Grace 100%"):
        await create(http, name=name)
    assert await names(http, name="Ada") == ["Ada"]
    assert await names(http, query_text="ADA") == ["ada lovelace", "Ada"]
    assert await names(http, query_text="%") == ["Grace 100%"]
    assert await names(http, query_text="_") == []


async def test_agents_are_found_by_any_or_all_of_their_tags(http: AsyncClient) -> None:
    await create(http, name="both", tags=["x", "y"])
    await create(http, name="one", tags=["x"])
    await create(http, name="odd", tags=['"x', "x,", "X", "é"])
    await create(http, name="none")
    assert await names(http, tags=["x"]) == ["one", "both"]
    assert await names(http, tags=["x", "y"]) == ["one", "both"]
    assert await names(http, tags=["x", "y"], match_all_tags=True) == ["both"]
    for odd in ('"x', "x,", "X", "é"):
        assert await names(http, tags=[odd]) == ["odd"]
    assert await names(http, tags=[",", '"', "[]"]) == []


async def test_hidden_agents_are_not_listed(http: AsyncClient) -> None:
    made = await create(http, name="hidden", hidden=True)
    assert await names(http) == []
    assert (await http.get(f"{ROOT}{made['id']}")).status_code == 200


async def test_the_older_name_of_the_order_still_decides(http: AsyncClient) -> None:
    for name in ("first", "second"):
        await create(http, name=name)
    assert await names(http, ascending=True) == ["first", "second"]
    assert await names(http, ascending=False) == ["second", "first"]


# --- update -----------------------------------------------------------------------------------


async def test_an_update_changes_what_it_names_and_answers_in_full(http: AsyncClient) -> None:
    made = await create(http, name="Ada", memory_blocks=[{"label": "human"}], description="old")
    body = {"name": "Grace", "tags": ["t"], "description": None, "metadata": {"n": None}}
    answer = await http.patch(f"{ROOT}{made['id']}", json=body, headers=NEW_CLIENT)
    changed = answer.json()
    assert (changed["name"], changed["tags"], changed["description"]) == ("Grace", ["t"], "old")
    assert (changed["metadata"], changed["blocks"]) == ({"n": None}, made["blocks"])
    assert changed["created_at"] == made["created_at"]
    assert changed["updated_at"] > made["updated_at"]


async def test_an_update_that_changes_nothing_records_nothing(
    server: Server, http: AsyncClient
) -> None:
    made = await create(http, name="Ada", tags=["a"])
    answer = await http.patch(f"{ROOT}{made['id']}", json={"name": "Ada", "tags": ["a"]})
    assert answer.json() == made
    assert len(await server.facts(made["id"])) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "echo"}, 400),
        ({"model": "nobody/else"}, 404),
        ({"block_ids": [BLOCK_ID]}, 404),
        ({"model_settings": {}}, 422),
        ({"name": ""}, 422),
        ({"source_ids": ["source-1"]}, 501),
        ({"tool_ids": ["tool-1"]}, 422),
        ([], 422),
    ],
)
async def test_an_update_that_cannot_be_leaves_the_agent_as_it_was(
    http: AsyncClient, body: Any, status: int
) -> None:
    made = await create(http, name="Ada")
    path = f"{ROOT}{made['id']}"
    assert (await http.patch(path, json=body)).status_code == status
    assert (await http.get(path)).json() == made


# --- delete -----------------------------------------------------------------------------------


async def test_an_agent_is_deleted_once_and_its_blocks_stay(http: AsyncClient) -> None:
    made = await create(http, memory_blocks=[{"label": "human"}])
    path = f"{ROOT}{made['id']}"
    answer = await http.delete(path)
    assert answer.json() == {"message": f"Agent id={made['id']} successfully deleted"}
    assert (await http.delete(path)).status_code == 404
    assert (await http.get(path)).status_code == 404
    assert (await http.patch(path, json={"name": "x"})).status_code == 404
    assert (await http.get(f"/v1/blocks/{made['blocks'][0]['id']}")).status_code == 200


async def test_all_conversations_of_a_deleted_agent_go_with_it(
    server: Server, http: AsyncClient
) -> None:
    mine, other = (await create(http))["id"], (await create(http))["id"]
    gone = [await server.conversation(mine) for _ in range(103)]
    kept = await server.conversation(other)
    await http.delete(f"/v1/conversations/{gone[0]}")
    await http.delete(f"{ROOT}{mine}")
    listed = await server.get("/v1/conversations/", limit=1000, archive_status="all")
    assert [one["id"] for one in listed] == [kept]
    assert (await server.events(gone[-1]))[-1] == ConversationDeleted()


async def test_a_deletion_that_was_cut_short_is_taken_up_by_the_next(tmp_path: Path) -> None:
    database = tmp_path / "everlog.db"
    async with serving(database) as server:
        agent_id = await server.agent()
        for _ in range(3):
            await server.conversation(agent_id)
        # The conversations' deletion is stored, the agent's is not.
        server.store.commits_left = 1
        assert (await server.http.delete(f"{ROOT}{agent_id}")).status_code == 503
    async with serving(database) as server:
        assert (await server.http.get(f"{ROOT}{agent_id}")).status_code == 200
        assert (await server.http.delete(f"{ROOT}{agent_id}")).status_code == 200
        assert await server.get("/v1/conversations/") == []


# --- what agents have been doing ----------------------------------------------------------------


async def ask(server: Server, agent_id: str, **more: Any) -> Any:
    path = f"/v1/agents/{agent_id}/messages"
    answer = await server.http.post(path, json={"input": "Hello!", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_agent_shows_its_window_and_how_its_last_run_ended(
    server: Server, http: AsyncClient
) -> None:
    agent_id = (await create(http))["id"]
    fresh = (await http.get(f"{ROOT}{agent_id}")).json()
    assert (fresh["last_run_completion"], fresh["last_stop_reason"]) == (None, None)
    await ask(server, agent_id)
    first = (await http.get(f"{ROOT}{agent_id}")).json()
    assert len(first["message_ids"]) == 3
    assert first["last_stop_reason"] == "end_turn"
    conversation_id = await server.conversation(agent_id)
    await server.post(conversation_id, client_tools=[{"name": "look"}], streaming=False)
    later = (await http.get(f"{ROOT}{agent_id}")).json()
    assert later["last_run_completion"] > first["last_run_completion"]
    assert later["message_ids"] == first["message_ids"]


async def test_agents_are_listed_by_their_last_run_those_without_one_last(
    server: Server, http: AsyncClient
) -> None:
    made = [(await create(http, name=f"agent {number}"))["id"] for number in range(5)]
    for number in (2, 0, 3):
        await ask(server, made[number])
    by = {"order_by": "last_run_completion"}
    assert await names(http, **by) == ["agent 3", "agent 0", "agent 2", *_last_two(made, "desc")]
    assert await names(http, **by, order="asc") == [
        *("agent 2", "agent 0", "agent 3"),
        *_last_two(made, "asc"),
    ]
    for order in ("asc", "desc"):
        whole = (await http.get(ROOT, params={**by, "order": order})).json()
        ids = [one["id"] for one in whole]
        for place, cursor in enumerate(ids):
            query = {**by, "order": order, "limit": 2}
            after = (await http.get(ROOT, params={**query, "after": cursor})).json()
            assert [one["id"] for one in after] == ids[place + 1 : place + 3]
            before = (await http.get(ROOT, params={**query, "before": cursor})).json()
            assert [one["id"] for one in before] == ids[max(0, place - 2) : place]
    assert await names(http, sort_by="updated_at", limit=1) == ["agent 4"]


def _last_two(made: list[str], order: str) -> list[str]:
    """Those without a run are in the order of their ids."""
    ids = sorted((made[1], made[4]), reverse=order == "desc")
    return [f"agent {made.index(one)}" for one in ids]


async def test_agents_are_found_by_how_their_last_run_ended(
    server: Server, http: AsyncClient
) -> None:
    one, two, _ = [(await create(http, name=name))["id"] for name in ("one", "two", "three")]
    await ask(server, one)
    await ask(server, two)
    await ask(server, two, max_steps=1, client_tools=[{"name": "look"}], input="call look {}")
    shown = (await http.get(f"{ROOT}{two}")).json()["last_stop_reason"]
    assert shown != "end_turn"
    assert await names(http, last_stop_reason="end_turn") == ["one"]
    assert await names(http, last_stop_reason=shown) == ["two"]


@pytest.mark.parametrize(
    "query",
    [
        {"project_id": "p"},
        {"template_id": "t"},
        {"base_template_id": "t"},
        {"identity_id": "i"},
        {"identifier_keys": "k"},
        {"created_by_id": "user"},
    ],
    ids=str,
)
async def test_no_agent_belongs_to_what_there_is_not(
    http: AsyncClient, query: dict[str, str]
) -> None:
    await create(http)
    assert await names(http, **query) == []


async def test_an_agent_deleted_while_it_is_listed_is_left_out(
    http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [(await create(http, name=name))["id"] for name in ("one", "two", "three")]
    page = Selection.page

    async def paged(*given: Any, **more: Any) -> Any:
        rows = await page(*given, **more)
        await http.delete(f"{ROOT}{made[1]}")
        return rows

    monkeypatch.setattr(Selection, "page", paged)
    assert await names(http) == ["three", "one"]


async def test_an_agent_may_begin_with_messages_that_nobody_answers(
    server: Server, http: AsyncClient
) -> None:
    first = [
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hi, I am Ada."}]},
    ]
    agent = await create(http, initial_message_sequence=first)
    path = f"{ROOT}{agent['id']}/messages"
    items = await server.get(path, order="asc")
    kinds = ["system_message", "user_message", "assistant_message"]
    assert [one["message_type"] for one in items] == kinds
    assert [one["id"] for one in items] == agent["message_ids"]
    await ask(server, agent["id"])
    assert len(await server.get(path)) == 5


async def test_an_agents_window_is_shown_part_by_part(server: Server, http: AsyncClient) -> None:
    agent = await create(
        http, system="Be kind.", memory_blocks=[{"label": "human", "value": "Ada"}]
    )
    path = f"{ROOT}{agent['id']}/context"
    fresh = await server.get(path)
    assert (fresh["system_prompt"], fresh["num_messages"], fresh["messages"]) == ("Be kind.", 1, [])
    assert "Ada" in fresh["core_memory"]
    await ask(server, agent["id"])
    shown = await server.get(path)
    assert (shown["num_messages"], len(shown["messages"])) == (3, 2)
    assert shown["context_window_size_max"] == agent["llm_config"]["context_window"]
    assert shown["context_window_size_current"] > fresh["context_window_size_current"] > 0
    other = await server.conversation()
    for query in ({"conversation_id": other}, {"conversation_id": "conv-1"}):
        assert (await http.get(path, params=query)).status_code == 404


async def test_a_relation_that_there_is_not_is_refused(http: AsyncClient) -> None:
    agent_id = (await create(http))["id"]
    answer = await http.get(f"{ROOT}{agent_id}", params={"include": "agent.friends"})
    assert answer.status_code == 422


async def test_a_list_of_many_agents_asks_the_database_as_often_as_one_of_one(
    server: Server, http: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        made = await create(http)
        await http.post(f"{ROOT}{made['id']}/messages", json={"input": "Hello!"})
    asked: list[str] = []

    def counting(name: str) -> Any:
        plain = getattr(server.store, name)

        def ask(*args: Any, **more: Any) -> Any:
            asked.append(name)
            return plain(*args, **more)

        return ask

    for name in ("query", "head", "heads", "read", "pieces", "marked", "each"):
        monkeypatch.setattr(server.store, name, counting(name))

    async def listing(limit: int) -> tuple[int, Any]:
        before = len(asked)
        shown = (await http.get(ROOT, params={"limit": limit}, headers=NEW_CLIENT)).json()
        return len(asked) - before, shown

    # What the server does in the background asks, too, but not each time.
    of_one = min([(await listing(1))[0] for _ in range(5)])
    of_many = min([(await listing(5))[0] for _ in range(5)])
    assert of_many == of_one > 0
    _, shown = await listing(5)
    assert [one["last_stop_reason"] for one in shown] == ["end_turn"] * 5
    assert shown[0]["message_ids"] is None
    newest = (await http.get(f"{ROOT}{shown[0]['id']}", headers=NEW_CLIENT)).json()
    assert len(newest.pop("message_ids")) == 3
    assert newest.items() <= shown[0].items()


async def test_agents_that_nobody_has_looked_at_are_listed_as_they_were(tmp_path: Path) -> None:
    async with serving(tmp_path / "a.db") as server:
        made = [await create(server.http, name=name) for name in ("Ada", "Grace")]
        await server.http.patch(f"{ROOT}{made[0]['id']}", json={"name": "Ada L."})
        before = (await server.http.get(ROOT)).json()
    async with serving(tmp_path / "a.db") as server:
        assert (await server.http.get(ROOT)).json() == before
        await server.http.patch(f"{ROOT}{made[1]['id']}", json={"name": "Grace H."})
        assert await names(server.http, order="asc") == ["Ada L.", "Grace H."]
