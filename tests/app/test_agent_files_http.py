"""Agents as files over HTTP: what comes over, what is left out and said to be, what is refused."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest
from httpx2 import AsyncClient, Response

from app.execute import Execute
from domain.agent import AgentCreated
from domain.archive import RECENT_MAX
from domain.conversation import WindowCompacted
from domain.event import Command
from domain.sleeptime import Sleeptime
from domain.streams import archive_of, default_conversation
from tests.agent_files import (
    BLOCK,
    Json,
    agent,
    as_bytes,
    call,
    file,
    ids,
    message,
    prompt,
    returned,
    without_names,
)
from tests.app.serving import Server, serving

# What the engines do differently is below all of this; the contract's tests go through both.
pytestmark = pytest.mark.sqlite
IMPORT: Final = "/v1/agents/import"
PACKED: Final = (
    '{"type": "system_alert", "message": "The following is a summary of the previous messages:\\n '
    'They spoke of bees."}'
)
# Messages 1 to 4 have left the window; message 5 is their summary.
LONG: Final = [
    prompt(),
    message(1, "user", "The hive stands behind the chapel."),
    message(2, "assistant", "Let me look it up.", tool_calls=[call("c1")]),
    message(3, "tool", tool_returns=[returned("c1", "two hives")]),
    message(4, "assistant", "There are two of them."),
    message(5, "user", PACKED),
    message(6, "user", "And now?", otid="mine"),
    message(7, "assistant", "Now it is winter."),
]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db") as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


async def send(http: AsyncClient, value: Any, key: str | None = None, **fields: str) -> Response:
    content = value if isinstance(value, bytes) else as_bytes(value)
    headers = {} if key is None else {"Idempotency-Key": key}
    files = {"file": ("agent.af", content, "application/json")}
    return await http.post(IMPORT, files=files, data=fields, headers=headers)


async def imported(http: AsyncClient, value: Any, key: str | None = None, **fields: str) -> Json:
    answer = await send(http, value, key, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def exported(http: AsyncClient, agent_id: str, **query: Any) -> Json:
    answer = await http.get(f"/v1/agents/{agent_id}/export", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def history(server: Server, agent_id: str) -> list[Json]:
    path = "/v1/conversations/default/messages"
    return await server.get(path, agent_id=agent_id, order="asc")


def long_ago() -> Json:
    return agent(LONG, in_context_message_ids=ids(0, 5, 6, 7))


# --- what comes over --------------------------------------------------------------------------


async def test_an_agent_comes_over_with_its_settings_and_its_blocks(http: AsyncClient) -> None:
    kinds = ("requires_approval", "exit_loop")
    rules = [{"type": kind, "tool_name": "demo_count"} for kind in kinds]
    tool = {"id": "tool-0", "name": "demo_count", "tool_type": "custom"}
    given = agent(
        tags=["a"],
        description="a guide",
        metadata={"team": None},
        timezone="Europe/Paris",
        context_window_limit=9000,
        tool_ids=["tool-0"],
        tool_rules=rules,
    )
    told = await imported(http, file(given, tools=[tool]))
    (agent_id,) = told["agent_ids"]
    found = (await http.get(f"/v1/agents/{agent_id}")).json()
    assert {name: found[name] for name in ("name", "model", "system", "tags", "timezone")} == {
        "name": "guide",
        "model": "demo/echo",
        "system": "You are a guide.",
        "tags": ["a"],
        "timezone": "Europe/Paris",
    }
    assert (found["metadata"], found["context_window_limit"]) == ({"team": None}, 9000)
    assert [(one["label"], one["value"], one["limit"]) for one in found["blocks"]] == [
        ("human", "Keeps bees.", 2000)
    ]
    assert [one["name"] for one in found["tools"]] == ["demo_count"]
    assert found["tool_rules"] == rules
    assert (await exported(http, agent_id))["agents"][0]["tool_rules"] == rules
    assert told["left_out"] == []
    assert told["imported"] == [
        {
            "agent_id": agent_id,
            "name": "guide",
            "model": "demo/echo",
            "blocks": 1,
            "conversations": 1,
            "messages": 2,
            "in_window": 2,
            "passages": 0,
        }
    ]


async def test_history_comes_over_in_order_with_dates_otids_calls_and_returns(
    server: Server,
) -> None:
    (agent_id,) = (await imported(server.http, file(long_ago())))["agent_ids"]
    said = await history(server, agent_id)
    assert [(one["message_type"], one["date"][11:19]) for one in said[1:-1]] == [
        ("user_message", "09:00:01"),
        ("assistant_message", "09:00:02"),
        ("tool_call_message", "09:00:02"),
        ("tool_return_message", "09:00:03"),
        ("assistant_message", "09:00:04"),
        ("user_message", "09:00:06"),
        ("assistant_message", "09:00:07"),
    ]
    assert said[6]["otid"] == "mine"
    assert said[4]["tool_return"] == "two hives"
    assert "They spoke of bees." in said[-1]["content"]
    assert "agent-of-elsewhere" not in said[0]["content"]
    assert "Keeps bees." in said[0]["content"]
    assert agent_id in said[0]["content"]


async def test_what_had_left_the_window_is_not_in_it_but_is_found_and_explained(
    server: Server,
) -> None:
    (agent_id,) = (await imported(server.http, file(long_ago())))["agent_ids"]
    root = f"/v1/conversations/{default_conversation(agent_id)}"
    window = await server.get(f"{root}/window")
    assert [one["role"] for one in window["messages"]] == ["summary", "user", "assistant"]
    assert window["summary"] == "They spoke of bees."
    why = await server.get(f"{root}/why", q="behind the chapel")
    assert why["verdict"] == "evicted"
    assert why["sentence"].startswith('"behind the chapel" was said at offset 4 (1 March 2025), ')
    assert "evicted before the import" in why["sentence"]
    kept = await server.get(f"{root}/why", q="bees")
    assert kept["only_in_summaries"] or kept["verdict"] == "summarised"
    undone = await server.http.post(
        f"{root}/compactions/{why['occurrences'][0]['compaction_id']}/undo"
    )
    assert undone.status_code == 200, undone.text
    assert len((await server.get(f"{root}/window"))["messages"]) == 6


async def test_what_left_without_a_summary_has_none_here(server: Server) -> None:
    said = [one for one in LONG if one["id"] != "message-5"]
    given = agent(said, in_context_message_ids=ids(0, 6, 7))
    (agent_id,) = (await imported(server.http, file(given)))["agent_ids"]
    root = f"/v1/conversations/{default_conversation(agent_id)}"
    window = await server.get(f"{root}/window")
    assert [one["role"] for one in window["messages"]] == ["user", "assistant"]
    assert window["summary"] is None
    sentence = (await server.get(f"{root}/why", q="chapel"))["sentence"]
    assert sentence.endswith("and no summary stands for it.")
    assert "system_alert" not in str(await history(server, agent_id))


async def test_an_imported_conversation_goes_on(server: Server) -> None:
    (agent_id,) = (await imported(server.http, file(long_ago())))["agent_ids"]
    answer = await server.http.post(f"/v1/agents/{agent_id}/messages", json={"input": "Go on."})
    assert answer.status_code == 200, answer.text
    assert (await history(server, agent_id))[-1]["message_type"] == "assistant_message"


async def test_other_conversations_and_the_archive_come_over(server: Server) -> None:
    other = {
        "id": "conversation-0",
        "summary": "Of honey",
        "archived": True,
        "messages": [prompt() | {"id": "message-8"}, message(9, "user", "Honey!")],
        "in_context_message_ids": ids(8, 9),
    }
    passage = {"text": "Swarms in May.", "tags": ["bees"], "created_at": "2025-02-01T00:00:00Z"}
    given = agent(everlog={"conversations": [other], "passages": [passage]})
    told = await imported(server.http, file(given))
    (agent_id,) = told["agent_ids"]
    assert (told["imported"][0]["conversations"], told["imported"][0]["passages"]) == (2, 1)
    (listed,) = await server.get("/v1/conversations/", agent_id=agent_id, archive_status="archived")
    assert (listed["summary"], listed["archived"]) == ("Of honey", True)
    (found,) = await server.get(f"/v1/agents/{agent_id}/archival-memory")
    assert (found["text"], found["tags"]) == ("Swarms in May.", ["bees"])
    assert found["created_at"].startswith("2025-02-01")
    (begun, *_) = await server.events(default_conversation(agent_id))
    assert '- Archival memories: 1\n- Their tags: "bees"' in begun.system.text


@pytest.mark.parametrize(
    ("enabled", "sleeptime"),
    [
        (None, None),
        (True, None),
        (False, {"frequency": 3, "block_label": "notes"}),
        (
            True,
            {
                "frequency": 10_000,
                "after_compaction": False,
                "block_label": "notes",
                "max_steps": 50,
                "require_acceptance": True,
                "model": "demo/steady",
            },
        ),
    ],
)
async def test_how_memory_is_consolidated_comes_over_and_goes_out_again(
    server: Server, enabled: bool | None, sleeptime: Json | None
) -> None:
    given = agent(enable_sleeptime=enabled, everlog={"sleeptime": sleeptime})
    told = await imported(server.http, file(given))
    (agent_id,) = told["agent_ids"]
    settings = (await server.services.execute.agent(agent_id)).settings
    assert settings is not None
    assert settings.enable_sleeptime == enabled
    assert settings.sleeptime == (None if sleeptime is None else Sleeptime(**sleeptime))
    assert told["left_out"] == []
    first = await exported(server.http, agent_id)
    (again,) = (await imported(server.http, first))["agent_ids"]
    assert without_names(await exported(server.http, again)) == without_names(first)


async def test_one_that_was_brought_in_consolidates_its_memory(server: Server) -> None:
    given = agent(enable_sleeptime=True, everlog={"sleeptime": {"frequency": 1}})
    (agent_id,) = (await imported(server.http, file(given)))["agent_ids"]
    said = {"input": "I keep goats, too."}
    answer = await server.http.post(f"/v1/agents/{agent_id}/messages", json=said)
    (run_id,) = answer.json()["usage"]["run_ids"]
    (asked,) = await server.get(f"/v1/agents/{agent_id}/consolidations")
    assert (asked["run_id"], asked["trigger"]) == (run_id, "turns")


async def test_a_model_for_memory_that_is_not_here_is_refused_with_the_way_out(
    http: AsyncClient,
) -> None:
    given = file(agent(everlog={"sleeptime": {"model": "other/m-1", "max_steps": 3}}))
    refused = await send(http, given)
    assert refused.status_code == 404
    assert "agents[0].everlog.sleeptime.model: Handle other/m-1" in refused.json()["detail"]
    told = await imported(http, given, model="demo/echo")
    assert told["left_out"] == [
        "agents[0].everlog.sleeptime.model: other/m-1 is not to be had; the agent's new model does it"
    ]
    (agent_id,) = told["agent_ids"]
    shown = (await http.get(f"/v1/agents/{agent_id}")).json()["sleeptime_settings"]
    assert (shown["model"], shown["max_steps"]) == (None, 3)


@pytest.mark.parametrize(
    ("sleeptime", "words"),
    [
        ({"frequency": 0}, "agents[0].everlog.sleeptime.frequency: input should be greater than"),
        ({"max_steps": 51}, "agents[0].everlog.sleeptime.max_steps: input should be less than"),
        ({"block_label": ""}, "agents[0].everlog.sleeptime.block_label"),
    ],
)
async def test_what_cannot_be_consolidated_by_is_refused(
    http: AsyncClient, sleeptime: Json, words: str
) -> None:
    answer = await send(http, file(agent(everlog={"sleeptime": sleeptime})))
    assert (answer.status_code, words in answer.json()["detail"]) == (422, True)


async def test_what_was_exported_loads_and_is_exported_as_the_same_again(server: Server) -> None:
    http = server.http
    (first,) = (await imported(http, file(long_ago())))["agent_ids"]
    conversation_id = await server.conversation(first, summary="Another", description="One more")
    await server.post(conversation_id, "Anything to count?")
    await http.post(f"/v1/agents/{first}/archival-memory", json={"text": "A", "tags": ["t"]})
    once = await exported(http, first)
    (second,) = (await imported(http, once))["agent_ids"]
    assert second != first
    assert without_names(await exported(http, second)) == without_names(once)
    (other,) = once["agents"][0]["everlog"]["conversations"]
    assert [one["role"] for one in other["messages"]] == ["system", "user", "assistant"]
    assert other["summary"] == "Another"


# --- what is exported -------------------------------------------------------------------------


async def test_an_exported_agent_is_named_by_ids_of_the_file(http: AsyncClient) -> None:
    (agent_id,) = (await imported(http, file(long_ago())))["agent_ids"]
    found = await exported(http, agent_id)
    assert set(found) == {
        *("agents", "groups", "blocks", "files", "sources", "tools", "mcp_servers", "skills"),
        *("metadata", "created_at"),
    }
    (one,) = found["agents"]
    assert (one["id"], one["block_ids"]) == ("agent-0", ["block-0"])
    assert [said["id"] for said in one["messages"]] == ids(0, 1, 2, 3, 4, 5, 6, 7)
    assert one["in_context_message_ids"] == ids(0, 5, 6, 7)
    assert one["llm_config"]["handle"] == one["model"] == "demo/echo"
    assert agent_id not in str({**one, "messages": []})


async def test_the_history_can_be_left_out_or_be_that_of_one_conversation(server: Server) -> None:
    http = server.http
    (agent_id,) = (await imported(http, file()))["agent_ids"]
    conversation_id = await server.conversation(agent_id)
    await server.post(conversation_id, "Only here")
    (scrubbed,) = (await exported(http, agent_id, scrub_messages=True))["agents"]
    assert (scrubbed["messages"], scrubbed["everlog"]) == ([], {})
    (own,) = (await exported(http, agent_id, conversation_id="default"))["agents"]
    assert "Hello to you." in str(own["messages"])
    assert "Only here" not in str(own)
    (one,) = (await exported(http, agent_id, conversation_id=conversation_id))["agents"]
    assert "Only here" in str(one["messages"])
    assert "Hello to you." not in str(one)


async def test_what_cannot_be_exported_says_so(server: Server) -> None:
    http, agent_id = server.http, await server.agent()
    older = await http.get(f"/v1/agents/{agent_id}/export", params={"use_legacy_format": True})
    assert older.status_code == 501
    others = await server.conversation()
    strange = await http.get(f"/v1/agents/{agent_id}/export", params={"conversation_id": others})
    assert strange.status_code == 404
    unknown = await http.get("/v1/agents/agent-99999999-9999-4999-8999-999999999999/export")
    assert unknown.status_code == 404


# --- what is wanted otherwise -----------------------------------------------------------------


async def test_a_model_that_is_not_here_is_refused_with_the_way_out(server: Server) -> None:
    given = file(agent(model=None, llm_config={"model": "m-1", "model_endpoint_type": "other"}))
    refused = await send(server.http, given)
    assert refused.status_code == 404
    assert "agents[0].model: Handle other/m-1 not found" in refused.json()["detail"]
    assert "send model=" in refused.json()["detail"]
    for field in ("model", "override_model_handle"):
        told = await imported(server.http, given, **{field: "demo/echo"})
        assert told["imported"][0]["model"] == "demo/echo"


async def test_a_name_a_suffix_and_an_embedding_are_taken_instead(http: AsyncClient) -> None:
    answer = await imported(
        http,
        file(),
        name="Ada",
        append_copy_suffix="true",
        embedding="demo/hash",
        strip_messages="true",
    )
    (agent_id,) = answer["agent_ids"]
    found = (await http.get(f"/v1/agents/{agent_id}")).json()
    assert (found["name"], found["embedding"]) == ("Ada_copy", "demo/hash")
    assert answer["imported"][0]["messages"] == 0
    two = file(agent(), {**agent(), "id": "agent-1"})
    assert (await send(http, two, name="Ada")).status_code == 422
    assert len((await imported(http, two))["agent_ids"]) == 2


async def test_what_is_left_out_is_named_and_no_secret_is_said_again(http: AsyncClient) -> None:
    tool = {"id": "tool-0", "name": "fly", "source_code": "def fly(): ..."}
    given = agent(
        tool_ids=["tool-0"],
        tool_rules=[{"type": "run_first", "tool_name": "fly"}],
        tool_exec_environment_variables={"KEY": "hunter2"},
        identity_ids=["identity-1"],
    )
    told = await imported(
        http, file(given, tools=[tool], groups=[{}], files=[{}, {}]), secrets='{"K": "hunter3"}'
    )
    assert told["left_out"] == [
        "secrets: left out: no tool here reads them",
        "agents[0].tool_ids (tool-0): 'fly' left out: this server has no such tool; its code is "
        "not taken",
        "agents[0].tool_rules[0]: there is no rule 'run_first' here",
        "agents[0].secrets: left out: no tool here reads them",
        "agents[0].identity_ids: left out: there are no identities here",
        "groups: 1 left out: agents are imported one by one, in no group",
        "files: 2 left out: files are not kept here",
    ]


# --- once, or not at all ----------------------------------------------------------------------


async def test_a_key_makes_the_agents_once(server: Server) -> None:
    once = await imported(server.http, file(long_ago()), key="k1")
    (agent_id,) = once["agent_ids"]
    stream = default_conversation(agent_id)
    head = len(await server.facts(stream))
    assert await imported(server.http, file(long_ago()), key="k1") == once
    assert len(await server.facts(stream)) == head
    other = await imported(server.http, file(long_ago()), key="k2")
    assert other["agent_ids"] != once["agent_ids"]


async def test_a_key_keeps_each_passage_once_also_in_a_large_archive(server: Server) -> None:
    passages = [{"text": f"Swarm {n}."} for n in range(RECENT_MAX + 44)]
    given = file(agent(everlog={"passages": passages}))
    (agent_id,) = (await imported(server.http, given, key="k1"))["agent_ids"]
    head = len(await server.facts(archive_of(agent_id)))
    await imported(server.http, given, key="k1")
    assert len(await server.facts(archive_of(agent_id))) == head == len(passages)


async def test_a_key_with_another_file_is_refused(http: AsyncClient) -> None:
    await imported(http, file(), key="k1")
    assert (await send(http, file(agent(name="another")), key="k1")).status_code == 422
    said = [prompt(), message(1, "user", "Something else")]
    assert (await send(http, file(agent(said)), key="k1")).status_code == 422


def breaking(broken_at: int) -> Callable[..., Awaitable[Any]]:
    """Give a way to write that fails at the write of this number."""
    write, numbers = Execute.__call__, count(1)

    async def broken(self: Execute, stream: str, command: Command, by: str) -> Any:
        if next(numbers) == broken_at:
            raise RuntimeError("out of order")
        return await write(self, stream, command, by)

    return broken


async def test_an_import_that_broke_off_is_finished_under_its_key(server: Server) -> None:
    passages = [{"text": f"passage {n}"} for n in range(3)]
    given = file(
        agent(LONG, in_context_message_ids=ids(0, 5, 6, 7), everlog={"passages": passages})
    )
    # A passage, the conversation, its messages, what had left the window, the agent.
    for broken_at in (2, 2, 2, 3, 4):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Execute, "__call__", breaking(broken_at))
            assert (await send(server.http, given, key="k1")).status_code == 500
        assert await server.get("/v1/agents/") == []
    (agent_id,) = (await imported(server.http, given, key="k1"))["agent_ids"]
    events = await server.events(default_conversation(agent_id))
    assert sum(isinstance(one, WindowCompacted) for one in events) == 1
    assert len(await server.events(archive_of(agent_id))) == 3
    assert [type(one) for one in await server.events(agent_id)] == [AgentCreated]


async def test_a_bad_file_leaves_nothing_behind(server: Server) -> None:
    second = agent([message(1, "user", "x"), message(1, "user", "y")], id="agent-1")
    refused = await send(server.http, file(agent(), second))
    assert refused.status_code == 422
    assert "agents[1].messages[1].id" in refused.json()["detail"]
    assert await server.get("/v1/agents/") == []
    assert await server.get("/v1/blocks/") == []
    assert await server.get("/v1/conversations/") == []


def kept(texts: list[str], tags: int = 0) -> bytes:
    """Give the file of an agent whose archive has these texts, each under so many tags of its own."""
    passages = [
        {"text": text, "tags": [f"{n}-{tag}" for tag in range(tags)]}
        for n, text in enumerate(texts)
    ]
    return as_bytes(file(agent(everlog={"passages": passages})))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b'{"agents": ' + b"[" * 100 + b"]" * 100 + b"}", "deeper than"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "file: "),
        (as_bytes(file(agent(model_settings={"provider_type": "nobody"}))), "model_settings"),
        (as_bytes(file(agent(compaction_settings={"mode": "none"}))), "compaction_settings.mode"),
        (as_bytes(file(agent(model=None))), "agents[0].model"),
        (as_bytes(file(agent(block_ids=["block-7"]))), "agents[0].block_ids[0]"),
        (kept([" "]), "agents[0].everlog.passages[0].text: must not be blank"),
        (kept(["Bees."] * 40, tags=30), "agents[0].everlog.passages[33].tags"),
    ],
)
async def test_a_file_that_is_none_is_refused_with_the_place(
    http: AsyncClient, content: bytes, words: str
) -> None:
    refused = await send(http, content)
    assert refused.status_code == 422, refused.text
    assert words in refused.json()["detail"]


async def test_a_form_that_is_none_is_refused(http: AsyncClient) -> None:
    assert (await http.post(IMPORT, json=file())).status_code == 422
    assert (await http.post(IMPORT, files={"other": b"x"})).status_code == 422
    two = [("file", ("a", b"{}")), ("file", ("b", b"{}"))]
    assert (await http.post(IMPORT, files=two)).status_code == 400
    headers = {"content-type": "multipart/form-data"}
    assert (await http.post(IMPORT, content=b"x", headers=headers)).status_code == 400
    assert (await send(http, file(), secrets="[1]")).status_code == 422


async def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path / "small.db", body_bytes_max=4096) as server:
        refused = await send(server.http, file(blocks=[{**BLOCK, "value": "x" * 5000}]))
        assert refused.status_code == 413


async def test_an_imported_agent_that_was_deleted_stays_so(http: AsyncClient) -> None:
    (agent_id,) = (await imported(http, file(), key="k1"))["agent_ids"]
    await http.delete(f"/v1/agents/{agent_id}")
    assert (await send(http, file(), key="k1")).status_code == 409
