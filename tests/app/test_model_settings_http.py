"""Settings of models over HTTP: kept with their defaults, refused by field, and what vendors get of them."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

import pytest

from app.model_settings import DEFAULTS
from domain.agent import AgentChanged
from tests.agent_files import Json, as_bytes, file
from tests.agent_files import agent as agent_in_file
from tests.app.serving import Server, serving
from tests.app.test_rebuilding import telling

AGENTS: Final = "/v1/agents/"
CONVERSATIONS: Final = "/v1/conversations/"
HAIKU: Final = "anthropic/claude-haiku-4-5"
OPENAI: Final = DEFAULTS["openai"]
WARM: Final = {"provider_type": "openai", "temperature": 0.1}
HOT: Final = {"provider_type": "openai", "temperature": "hot"}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db", anthropic_api_key="none") as running:
        yield running


async def made(server: Server, **body: Any) -> dict[str, Any]:
    answer = await server.http.post(AGENTS, json={"model": "demo/echo", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def changed(server: Server, path: str, **body: Any) -> dict[str, Any]:
    answer = await server.http.patch(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


# --- what is kept -----------------------------------------------------------------------------


async def test_an_agent_keeps_settings_with_their_defaults(server: Server) -> None:
    agent = await made(server, model_settings={**WARM, "max_output_tokens": 700, "top_k": 3})
    path = AGENTS + agent["id"]
    assert agent["model_settings"] == {**OPENAI, "temperature": 0.1, "max_output_tokens": 700}
    assert (await server.get(path))["model_settings"] == agent["model_settings"]
    settings = agent["llm_config"]
    assert (settings["temperature"], settings["max_tokens"]) == (0.1, 700)
    assert (settings["reasoning_effort"], settings["parallel_tool_calls"]) == ("high", True)


async def test_an_update_sets_all_settings_anew_and_null_none(server: Server) -> None:
    agent = await made(server, model_settings={**WARM, "max_output_tokens": 700})
    path = AGENTS + agent["id"]
    after = await changed(server, path, model_settings={"provider_type": "openai"})
    assert after["model_settings"] == OPENAI
    assert (await changed(server, path, model_settings=None))["model_settings"] == OPENAI
    again = await changed(server, path, model_settings=after["model_settings"])
    assert again["model_settings"] == OPENAI
    facts = [one for one in await server.facts(agent["id"]) if isinstance(one.event, AgentChanged)]
    assert len(facts) == 1


async def test_a_conversation_keeps_settings_with_their_defaults(server: Server) -> None:
    agent = await made(server)
    body = {"model_settings": WARM}
    answer = await server.http.post(CONVERSATIONS, params={"agent_id": agent["id"]}, json=body)
    path = CONVERSATIONS + answer.json()["id"]
    assert answer.json()["model_settings"] == {**OPENAI, "temperature": 0.1}
    assert (await server.get(path))["model_settings"] == {**OPENAI, "temperature": 0.1}
    groq = await changed(server, path, model_settings={"provider_type": "groq"})
    assert groq["model_settings"] == DEFAULTS["groq"]
    assert (await changed(server, path, model_settings=None))["model_settings"] == DEFAULTS["groq"]
    fork = await server.http.post(f"{path}/fork")
    assert fork.json()["model_settings"] == DEFAULTS["groq"]


async def test_settings_of_a_summariser_are_kept_with_their_defaults(server: Server) -> None:
    agent = await made(server, compaction_settings={"model_settings": WARM})
    settings = agent["compaction_settings"]["model_settings"]
    assert settings == {**OPENAI, "temperature": 0.1}
    path = AGENTS + agent["id"]
    after = await changed(server, path, compaction_settings={"clip_chars": 9})
    assert after["compaction_settings"]["model_settings"] == settings


async def test_an_agent_of_a_file_has_settings_with_their_defaults(server: Server) -> None:
    own: Json = {
        "id": "conversation-0",
        "messages": [],
        "model_settings": {"provider_type": "groq"},
    }
    brought = agent_in_file(model_settings=WARM, everlog={"conversations": [own]})
    sent = await server.http.post(f"{AGENTS}import", files={"file": ("a", as_bytes(file(brought)))})
    (agent_id,) = sent.json()["agent_ids"]
    found = await server.get(AGENTS + agent_id)
    assert found["model_settings"] == {**OPENAI, "temperature": 0.1}
    (conversation,) = await server.get(CONVERSATIONS, agent_id=agent_id)
    assert conversation["model_settings"] == DEFAULTS["groq"]
    exported = (await server.get(f"{AGENTS}{agent_id}/export"))["agents"][0]
    assert exported["model_settings"] == found["model_settings"]
    assert exported["llm_config"]["temperature"] == 0.1


async def test_what_was_stored_as_it_came_is_shown_as_it_is(server: Server) -> None:
    for raw in (HOT, {"provider_type": "openai", "effort": 3}, {"temperature": [1]}):
        agent_id = await server.agent(model_settings=raw)
        stream = await server.conversation(agent_id, model_settings=raw)
        found = await server.get(AGENTS + agent_id)
        assert found["model_settings"] == raw
        assert found["llm_config"]["temperature"] is None
        assert (await server.get(CONVERSATIONS + stream))["model_settings"] == raw
        assert (await server.post(stream)).status_code == 200


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "where", "words"),
    [
        (HOT, "('model_settings', 'temperature')", "valid number"),
        (
            {**WARM, "temperature": 3},
            "('model_settings', 'temperature')",
            "less than or equal to 2",
        ),
        (
            {**WARM, "reasoning": {"reasoning_effort": "huge"}},
            "('model_settings', 'reasoning', 'reasoning_effort')",
            "'high' or 'xhigh'",
        ),
        ({"provider_type": "acme"}, "('model_settings'", "openai, sglang, anthropic"),
    ],
)
async def test_settings_that_no_vendor_takes_are_refused_by_field_and_change_nothing(
    server: Server, settings: Any, where: str, words: str
) -> None:
    agent_id = await server.agent()
    stream = await server.conversation(agent_id)
    http, body = server.http, {"model_settings": settings}
    answers = [
        await http.post(AGENTS, json={"model": "demo/echo", **body}),
        await http.patch(AGENTS + agent_id, json=body),
        await http.patch(AGENTS + agent_id, json={"compaction_settings": body}),
        await http.post(CONVERSATIONS, params={"agent_id": agent_id}, json=body),
        await http.patch(CONVERSATIONS + stream, json=body),
        await http.post(f"{CONVERSATIONS}{stream}/compact", json={"compaction_settings": body}),
    ]
    for answer in answers:
        assert answer.status_code == 422
        assert where[1:] in answer.json()["detail"]
        assert words in answer.json()["detail"]
    assert (len(await server.facts(agent_id)), len(await server.facts(stream))) == (1, 1)
    assert len(await server.get(AGENTS)) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model_settings": HOT}, "agents[0].model_settings.temperature: "),
        (
            {"compaction_settings": {"model_settings": HOT}},
            "agents[0].compaction_settings.model_settings.temperature: ",
        ),
        (
            {"everlog": {"conversations": [{"id": "conversation-0", "model_settings": HOT}]}},
            "agents[0].everlog.conversations[0].model_settings.temperature: ",
        ),
    ],
)
async def test_a_file_with_settings_that_no_vendor_takes_is_refused_with_the_place(
    server: Server, given: dict[str, Any], words: str
) -> None:
    content = as_bytes(file(agent_in_file(**given)))
    refused = await server.http.post(f"{AGENTS}import", files={"file": ("a", content)})
    assert refused.status_code == 422
    assert words in refused.json()["detail"]
    assert await server.get(AGENTS) == []


async def test_the_description_has_every_vendor_s_fields(server: Server) -> None:
    known = (await server.get("/openapi.json"))["components"]["schemas"]
    for body in ("CreateAgent", "UpdateAgent", "CreateConversation", "UpdateConversation"):
        told, _ = known[body]["properties"]["model_settings"]["anyOf"]
        assert told["discriminator"]["propertyName"] == "provider_type"
        assert told["discriminator"]["mapping"].keys() == DEFAULTS.keys()
    effort = known["OpenAIReasoning"]["properties"]["reasoning_effort"]
    assert effort["enum"] == ["none", "minimal", "low", "medium", "high", "xhigh"]
    assert known["AnthropicModelSettings"]["properties"]["temperature"]["maximum"] == 1


# --- what a vendor gets -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"provider_type": "anthropic", "temperature": 0.3}, {"temperature": 0.3}),
        (
            {"provider_type": "anthropic"},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        ),
        ({"provider_type": "anthropic", "max_output_tokens": 900}, {"max_tokens": 900}),
        ({"provider_type": "openai", "temperature": 0.2}, {"temperature": 0.2}),
        (None, {}),
    ],
)
async def test_a_model_is_called_with_what_was_asked_for(
    tmp_path: Path, settings: Any, sent: dict[str, Any]
) -> None:
    async with telling(tmp_path / "a.db") as (server, vendor):
        body = {"model_settings": settings, "include_base_tools": False}
        agent = await made(server, model=HAIKU, **body)
        answer = await server.http.post(CONVERSATIONS, params={"agent_id": agent["id"]})
        await server.post(answer.json()["id"], "[[text:Yes.]]")
        (body,) = vendor.bodies
    rest = {name: body.get(name) for name in ("max_tokens", "temperature", "thinking")}
    assert {name: value for name, value in rest.items() if value} == {"max_tokens": 4096, **sent}


async def test_a_conversation_s_settings_take_the_place_of_its_agent_s(tmp_path: Path) -> None:
    async with telling(tmp_path / "a.db") as (server, vendor):
        whole = {"provider_type": "anthropic", "temperature": 0.3, "max_output_tokens": 700}
        agent = await made(server, model=HAIKU, model_settings=whole)
        own = {"model_settings": {"provider_type": "anthropic", "max_output_tokens": 2000}}
        answer = await server.http.post(CONVERSATIONS, params={"agent_id": agent["id"]}, json=own)
        await server.post(answer.json()["id"], "[[text:Yes.]]")
        (body,) = vendor.bodies
    assert (body["max_tokens"], body["thinking"]["budget_tokens"]) == (2000, 1024)
    assert "temperature" not in body


async def test_an_older_bound_stands_where_the_settings_have_none(tmp_path: Path) -> None:
    async with telling(tmp_path / "a.db") as (server, vendor):
        for bound, sent in (({}, 700), ({"max_output_tokens": 600}, 600)):
            settings = {"provider_type": "anthropic", **bound}
            agent = await made(server, model=HAIKU, model_settings=settings, max_tokens=700)
            assert agent["model_settings"]["max_output_tokens"] == sent
            answer = await server.http.post(CONVERSATIONS, params={"agent_id": agent["id"]})
            await server.post(answer.json()["id"], "[[text:Yes.]]")
            assert vendor.bodies[-1]["max_tokens"] == sent
            assert "thinking" not in vendor.bodies[-1]
