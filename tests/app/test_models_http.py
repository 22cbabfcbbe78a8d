from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from letta_client.types import HealthResponse, Model

from app.providers import ModelCard
from app.web.models import VERSION
from tests.app.serving import Said, Server, serving

CARD = ModelCard(
    handle="script/one",
    name="one",
    display_name="Number One",
    provider_type="script",
    context_window=9000,
    max_output_tokens=500,
    source="vendor",
)


class OneModel:
    """A provider with one model on offer, and nothing to say."""

    async def complete(self, request: Any) -> Said:
        raise AssertionError(request)
        yield

    async def models(self) -> tuple[ModelCard, ...]:
        return (CARD,)

    async def wire_of(self, request: Any) -> None:
        raise AssertionError(request)

    async def count_tokens(self, request: Any) -> None:
        raise AssertionError(request)

    async def close(self) -> None:
        pass


@pytest.fixture
async def server(tmp_path: Path) -> AsyncGenerator[Server]:
    async with serving(tmp_path / "everlog.db", OneModel()) as running:
        yield running


async def handles(server: Server, **query: Any) -> list[str]:
    return [one["handle"] for one in await server.get("/v1/models/", **query)]


async def test_the_models_of_all_providers_are_listed(server: Server) -> None:
    assert await handles(server) == ["demo/echo", "demo/steady", "script/one"]


async def test_models_are_found_by_their_provider(server: Server) -> None:
    assert await handles(server, provider_type="script") == ["script/one"]
    assert await handles(server, provider_name="demo") == ["demo/echo", "demo/steady"]
    assert await handles(server, provider_name="demo", provider_type="script") == []
    assert await handles(server, provider_type="openai") == []


async def test_the_operators_models_are_the_base_ones(server: Server) -> None:
    assert await handles(server, provider_category=["byok"]) == []
    assert len(await handles(server, provider_category=["base", "byok"])) == 3


async def test_a_model_says_what_it_holds_and_where_that_is_from(server: Server) -> None:
    (shown,) = await server.get("/v1/models/", provider_type="script")
    assert shown["display_name"] == "Number One"
    assert shown["model_type"] == "llm"
    assert (shown["max_context_window"], shown["context_window"]) == (9000, 9000)
    assert shown["context_window_source"] == "vendor"
    assert (shown["name"], shown["model"], shown["max_tokens"]) == ("one", "one", 500)


async def test_a_listed_model_is_what_the_sdk_expects_one_to_be(server: Server) -> None:
    (shown,) = await server.get("/v1/models/", provider_type="script")
    # The SDK knows its own vendors only, so the test's provider borrows a name.
    known = {**shown, "provider_type": "anthropic", "model_endpoint_type": "anthropic"}
    model = Model.model_validate(known)
    assert model.handle == "script/one"
    assert (model.api_model_type, model.provider_category) == ("llm", "base")


async def test_every_listed_model_can_be_an_agents(server: Server) -> None:
    for handle in await handles(server):
        answer = await server.http.post("/v1/agents/", json={"model": handle})
        assert answer.status_code == 200, handle


async def test_there_are_no_embedding_models(server: Server) -> None:
    assert await server.get("/v1/models/embedding") == []


async def test_health_tells_the_version(server: Server) -> None:
    health = HealthResponse.model_validate(await server.get("/v1/health/"))
    assert (health.status, health.version) == ("ok", VERSION)


async def test_roots_without_their_slash_lead_to_those_with_it(server: Server) -> None:
    for root in ("/v1/models", "/v1/health", "/v1/agents", "/v1/blocks"):
        answer = await server.http.get(root)
        assert answer.status_code == 307, root
        assert answer.headers["location"].endswith(f"{root}/")
