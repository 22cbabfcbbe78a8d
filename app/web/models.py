"""What can be asked of the server itself: its models, its health."""

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.providers import ModelCard
from app.web.bodies import Answer, Body, Name
from app.web.endpoint import endpoint
from app.web.services import Services


class ListModels(Body):
    """Which models."""

    provider_category: Annotated[list[Literal["base", "byok"]], Field(max_length=8)] | None = None
    provider_name: Name | None = None
    provider_type: Name | None = None


class ModelAnswer(Answer):
    """A model on offer, with what old clients read of it as well."""

    handle: str
    name: str
    display_name: str
    provider_type: str
    provider_name: str
    provider_category: str = "base"
    model_type: str = "llm"
    max_context_window: int
    context_window_source: str
    model: str
    model_endpoint_type: str
    model_endpoint: str | None = None
    context_window: int
    max_tokens: int
    temperature: float | None = None
    put_inner_thoughts_in_kwargs: bool = False
    # Older clients find all keys there; what is null is an agent's to set, or nobody's.
    compatibility_type: str | None = None
    effort: str | None = None
    enable_reasoner: bool | None = None
    frequency_penalty: float | None = None
    max_reasoning_tokens: int | None = None
    model_wrapper: str | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    response_format: dict[str, Any] | None = None
    return_logprobs: bool | None = None
    return_token_ids: bool | None = None
    strict: bool | None = None
    tier: str | None = None
    tool_call_parser: str | None = None
    top_logprobs: int | None = None
    verbosity: str | None = None


class EmbeddingModelAnswer(Answer):
    """An embedding model. `embedding_dim` is 0 while nobody knows it."""

    handle: str
    name: str
    display_name: str
    provider_type: str
    provider_name: str
    model_type: str = "embedding"
    embedding_model: str
    embedding_endpoint_type: str
    embedding_endpoint: str | None = None
    embedding_dim: int
    embedding_chunk_size: int | None = None
    batch_size: int | None = None


class HealthAnswer(Answer):
    """That the server is there."""

    version: str
    status: str


async def list_models(services: Services, query: ListModels) -> list[ModelAnswer]:
    """List the models that this server can reach."""
    cards = await services.catalogue.models()
    wanted = {one for one in (query.provider_type, query.provider_name) if one is not None}
    if query.provider_category is not None and "base" not in query.provider_category:
        return []
    return [_shown(card) for card in cards if wanted <= {card.provider_type}]


def _shown(card: ModelCard) -> ModelAnswer:
    return ModelAnswer(
        handle=card.handle,
        name=card.name,
        display_name=card.display_name,
        provider_type=card.provider_type,
        provider_name=card.provider_type,
        max_context_window=card.context_window,
        context_window_source=card.source,
        model=card.name,
        model_endpoint_type=card.provider_type,
        context_window=card.context_window,
        max_tokens=card.max_output_tokens,
    )


async def list_embedding_models(services: Services) -> list[EmbeddingModelAnswer]:
    """List the embedding model that searches of archival memory use, if there is one."""
    embedder = services.archival.embedder
    if embedder is None:
        return []
    provider, _, name = embedder.handle.partition("/")
    shown = EmbeddingModelAnswer(
        handle=embedder.handle,
        name=name,
        display_name=name,
        provider_type=provider,
        provider_name=provider,
        embedding_model=name,
        embedding_endpoint_type=provider,
        embedding_dim=embedder.dimensions,
    )
    return [shown]


async def health(services: Services) -> HealthAnswer:  # noqa: ARG001 - what endpoints are given
    """Tell that the server is there."""
    return HealthAnswer(version=VERSION, status="ok")


def _version() -> str:
    try:
        return version("everlog")
    except PackageNotFoundError:
        return "0"


VERSION: Final = _version()
ENDPOINTS: Final = [
    endpoint("GET", "/v1/models/", list_models, list[ModelAnswer], tag="models"),
    endpoint(
        "GET",
        "/v1/models/embedding",
        list_embedding_models,
        list[EmbeddingModelAnswer],
        tag="models",
    ),
    endpoint("GET", "/v1/health/", health, HealthAnswer, tag="health"),
]
