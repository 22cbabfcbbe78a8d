import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from app.compaction.settings import initial
from projections.prompts import PROMPTS
from tests.app.serving import Server, serving

ROOT = "/v1/agents/"
HAIKU = "anthropic/claude-haiku-4-5"
PERCENTAGE = 0.25


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    settings: dict[str, Any] = {
        "anthropic_api_key": "none",
        "sliding_window_percentage": PERCENTAGE,
    }
    async with serving(tmp_path / "everlog.db", **settings) as running:
        yield running


@pytest.fixture
def http(server: Server) -> AsyncClient:
    return server.http


async def create(http: AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post(ROOT, json={"model": "demo/echo", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def patch(http: AsyncClient, agent_id: str, **body: Any) -> dict[str, Any]:
    answer = await http.patch(f"{ROOT}{agent_id}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["compaction_settings"]


async def test_an_agent_has_all_its_settings_from_the_beginning(
    server: Server, http: AsyncClient
) -> None:
    made = await create(http)
    expected = initial("demo/echo", None, PERCENTAGE).model_dump()
    assert expected["sliding_window_percentage"] == PERCENTAGE
    assert made["compaction_settings"] == expected
    (created,) = await server.events(made["id"])
    assert created.settings.compaction_settings == expected
    assert (await server.get(f"{ROOT}{made['id']}"))["compaction_settings"] == expected
    (listed,) = await server.get(ROOT)
    assert listed["compaction_settings"] == expected


async def test_what_is_said_at_the_creation_is_kept_and_the_rest_filled_in(
    http: AsyncClient,
) -> None:
    body = {"mode": "all", "clip_chars": None, "min_retention": 0.5, "unknown": 1}
    made = await create(http, model="anthropic/claude-opus-5", compaction_settings=body)
    assert made["compaction_settings"] == {
        "mode": "all",
        "model": HAIKU,
        "model_settings": None,
        "prompt": PROMPTS["all"],
        "prompt_acknowledgement": False,
        "clip_chars": None,
        "sliding_window_percentage": PERCENTAGE,
        "min_retention": 0.5,
    }


async def test_an_update_changes_what_was_sent_and_nothing_else(http: AsyncClient) -> None:
    body = {"mode": "all", "clip_chars": 9, "prompt": "p"}
    made = await create(http, compaction_settings=body)
    before = made["compaction_settings"]
    after = await patch(http, made["id"], compaction_settings={"clip_chars": None})
    assert after == {**before, "clip_chars": None}
    after = await patch(http, made["id"], compaction_settings={"mode": "all"})
    assert after == {**before, "clip_chars": None}
    after = await patch(http, made["id"], compaction_settings={"min_retention": 1})
    assert after == {**before, "clip_chars": None, "min_retention": 1}


async def test_another_mode_brings_its_prompt_unless_one_was_sent(http: AsyncClient) -> None:
    agent_id = (await create(http, compaction_settings={"prompt": "p"}))["id"]
    same = await patch(http, agent_id, compaction_settings={"mode": "sliding_window"})
    assert same["prompt"] == "p"
    other = await patch(http, agent_id, compaction_settings={"mode": "self_compact_all"})
    assert other["prompt"] == PROMPTS["self_compact_all"]
    own = await patch(http, agent_id, compaction_settings={"mode": "all", "prompt": "q"})
    assert (own["mode"], own["prompt"]) == ("all", "q")
    default = await patch(http, agent_id, compaction_settings={"prompt": None})
    assert (default["mode"], default["prompt"]) == ("all", PROMPTS["all"])


async def test_a_summariser_that_nobody_chose_follows_the_agents_model(http: AsyncClient) -> None:
    agent_id = (await create(http))["id"]
    assert (await patch(http, agent_id, model="anthropic/claude-opus-5"))["model"] == HAIKU
    assert (await patch(http, agent_id, model="demo/steady"))["model"] == "demo/steady"
    chosen = {"model": "nobody/knows"}
    assert (await patch(http, agent_id, compaction_settings=chosen))["model"] == "nobody/knows"
    assert (await patch(http, agent_id, model="demo/echo"))["model"] == "nobody/knows"
    assert (await patch(http, agent_id, compaction_settings={"model": None}))["model"] == (
        "demo/echo"
    )


async def test_an_update_that_changes_no_setting_records_nothing(
    server: Server, http: AsyncClient
) -> None:
    made = await create(http)
    again = await patch(
        http, made["id"], model="demo/echo", compaction_settings=made["compaction_settings"]
    )
    assert again == made["compaction_settings"]
    assert len(await server.facts(made["id"])) == 1
    assert await patch(http, made["id"], name="other", compaction_settings=None) == again


@pytest.mark.parametrize("stored", [None, {}, {"clip_chars": 7, "mode": "none", "old": True}])
async def test_an_older_agents_settings_are_completed_when_shown_and_not_rewritten(
    server: Server, http: AsyncClient, stored: dict[str, Any] | None
) -> None:
    agent_id = await server.agent(compaction_settings=stored)
    clip_chars = (stored or {}).get("clip_chars", 50_000)
    expected = {**initial("demo/echo", None, PERCENTAGE).model_dump(), "clip_chars": clip_chars}
    shown = await server.get(f"{ROOT}{agent_id}")
    assert shown["compaction_settings"] == expected
    assert await patch(http, agent_id, name="other") == expected
    *_, renamed = await server.events(agent_id)
    assert renamed.compaction_settings is None
    changed = await patch(http, agent_id, compaction_settings={"clip_chars": 8})
    assert changed == {**expected, "clip_chars": 8}
    *_, fact = await server.events(agent_id)
    assert fact.compaction_settings == changed


async def test_an_agent_that_never_had_settings_gets_none_by_a_change_of_model(
    server: Server, http: AsyncClient
) -> None:
    agent_id = await server.agent()
    assert (await patch(http, agent_id, model="demo/steady"))["model"] == "demo/steady"
    *_, fact = await server.events(agent_id)
    assert (fact.model, fact.compaction_settings) == ("demo/steady", None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mode": "none"}, ["mode", "self_compact_all"]),
        ({"model": "echo"}, ["model", "provider/model"]),
        ({"clip_chars": -1}, ["clip_chars", "greater than or equal to 0"]),
        (
            {"sliding_window_percentage": 2},
            ["sliding_window_percentage", "less than or equal to 1"],
        ),
        ({"prompt": "x" * 50_001}, ["prompt", "50000"]),
        ({"model_settings": {"provider_type": "acme"}}, ["model_settings", "provider_type"]),
        ([], ["compaction_settings"]),
    ],
)
async def test_settings_that_cannot_be_are_refused_and_nothing_is_stored(
    server: Server, http: AsyncClient, settings: Any, words: list[str]
) -> None:
    body = {"model": "demo/echo", "compaction_settings": settings}
    agent_id = await server.agent()
    answers = [
        await http.post(ROOT, json=body),
        await http.patch(f"{ROOT}{agent_id}", json=body),
    ]
    for answer in answers:
        assert answer.status_code == 422
        assert answer.json()["trace_id"] == ""
        assert all(word in answer.json()["detail"] for word in words)
    assert len(await server.facts(agent_id)) == 1
    assert len(await server.get(ROOT)) == 1


CHANGES: list[dict[str, Any]] = [
    {"compaction_settings": {"clip_chars": 77}},
    {"compaction_settings": {"min_retention": 0.5}},
    {"compaction_settings": {"sliding_window_percentage": 0.75}},
    {"sleeptime_settings": {"max_steps": 3}},
    {"sleeptime_agent_frequency": 9},
    {"model": "anthropic/claude-opus-5-5"},
]


@pytest.mark.parametrize("first", range(len(CHANGES)))
async def test_changes_at_the_same_time_all_count(http: AsyncClient, first: int) -> None:
    path = f"{ROOT}{(await create(http))['id']}"
    bodies = [*CHANGES[first:], *CHANGES[:first]]
    changed = await asyncio.gather(*(http.patch(path, json=body) for body in bodies))
    assert [one.status_code for one in changed] == [200] * len(bodies)
    agent = (await http.get(path)).json()
    compaction, sleeptime = agent["compaction_settings"], agent["sleeptime_settings"]
    kept = [compaction[one] for one in ("clip_chars", "min_retention", "sliding_window_percentage")]
    assert kept == [77, 0.5, 0.75]
    assert (sleeptime["max_steps"], sleeptime["frequency"]) == (3, 9)
    # A summariser that nobody chose follows the model, whichever change came first.
    assert (agent["model"], compaction["model"]) == ("anthropic/claude-opus-5-5", HAIKU)
