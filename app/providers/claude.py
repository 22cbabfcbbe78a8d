"""Anthropic's models through the vendor library. Importing this takes seconds: see `vendors`."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, TypeAlias

import httpx2
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from anthropic.types import ModelInfo
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles.anthropic import AnthropicModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider

from app.model_settings import asked as asked_for
from app.providers import Delta, ModelError, Reply, Wire
from app.providers.failures import failure_of
from app.providers.keeping import Keeping
from app.providers.reading import Reader
from app.providers.rendering import mentioned_tools, messages_of, tools_of
from domain.content import Reasoning, Redacted, ToolResult
from projections.turns import ModelRequest, Turn, TurnPart

VENDOR: Final = "anthropic"
# The SDK wants one even for a request that it will not get to send.
UNUSED_KEY: Final = "unused"
CONNECT_TIMEOUT_S: Final = 10.0
CONNECTIONS_MAX: Final = 200
IDLE_CONNECTIONS_MAX: Final = 50
LIST_TIMEOUT_S: Final = 5.0
MODELS_MAX: Final = 64
MAX_OUTPUT_TOKENS: Final = 4096
THINKING_BUDGET_TOKENS: Final = 1024
# They are older than thinking.
NEVER_THINKING: Final = (
    "claude-2",
    "claude-3-5-",
    "claude-3-haiku",
    "claude-3-opus",
    "claude-3-sonnet",
)

# From 2026-10-21 on, the API answers a request with any `temperature` with 400. The version before
# still takes one, for the models that have one.
VERSION_WITH_TEMPERATURE: Final = "2023-06-01"
# The only temperature of newer models and the default of older ones: saying nothing says the same.
USUAL_TEMPERATURE: Final = 1

_SETTINGS: Final = frozenset(
    {
        "provider_type",
        "max_output_tokens",
        "temperature",
        "thinking",
        "effort",
        "parallel_tool_calls",
        "response_format",
        "strict",
    }
)

# A request in the words of the vendor library.
Rendered: TypeAlias = tuple[
    AnthropicModel, list[ModelMessage], AnthropicModelSettings, ModelRequestParameters
]


class Claude:
    """One client for all calls: what `AnthropicProvider` becomes on its first use."""

    def __init__(
        self, api_key: str, base_url: str, timeout_s: float, keeping: Keeping | None = None
    ) -> None:
        """Speak to Anthropic; with `keeping`, only to that, and nothing is sent."""
        self._secret = api_key
        self._client = _client(api_key, base_url, timeout_s, keeping)
        self._provider = AnthropicProvider(anthropic_client=self._client)
        # A name is whatever a caller says it is, so only so many are kept.
        self._model = lru_cache(maxsize=MODELS_MAX)(self._new_model)

    def _new_model(self, name: str) -> AnthropicModel:
        return AnthropicModel(name, provider=self._provider)

    async def complete(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Stream one reply."""
        model, messages, settings, parameters = self._rendered(request)
        reader = Reader()
        streaming = False
        try:
            # Left early, by a cancellation or by `aclose`, this closes the socket.
            async with model.request_stream(messages, settings, parameters) as stream:
                streaming = True
                async for event in stream:
                    for delta in reader.read(event):
                        yield delta
                reply = reader.reply(stream.get())
        except ModelError:
            raise
        except Exception as error:  # noqa: BLE001 - bytes from outside can fail anywhere
            # Without the cause: its text is the vendor's, and may repeat the key.
            raise failure_of(error, streaming=streaming, secret=self._secret) from None
        yield reply

    def _rendered(self, request: ModelRequest) -> Rendered:
        model = self._model(request.model)
        settings = settings_of(request, model.profile)
        parameters = parameters_of(request, model.profile)
        if not request.tools and parameters.function_tools:
            settings["tool_choice"] = "none"
        return model, messages_of(request, VENDOR), settings, parameters

    async def count_tokens(self, request: ModelRequest) -> int:
        """Have Anthropic count a request. Raises whatever goes wrong."""
        model, messages, settings, parameters = self._rendered(request)
        counted = await model.count_tokens(messages, settings, parameters)
        return counted.input_tokens

    async def models(self) -> list[ModelInfo]:
        """Ask Anthropic for its models, the newest first. Raises when it cannot be reached."""
        listed = self._client.models.list(limit=100, timeout=LIST_TIMEOUT_S)
        # Gateways that speak the protocol leave out what is newer than they are.
        return [model async for model in listed if getattr(model, "lifecycle", "") != "retired"]

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()


async def wire_of(request: ModelRequest, base_url: str, timeout_s: float) -> Wire:
    """Render a request by the very code that sends one, and keep it. Raises `ModelError`."""
    keeping = Keeping()
    claude = Claude(UNUSED_KEY, base_url, timeout_s, keeping)
    try:
        async with aclosing(claude.complete(request)) as reply:
            await anext(reply)
    except ModelError:
        if keeping.wire is None:
            raise
        return keeping.wire
    finally:
        await claude.close()
    raise ValueError("a request that nobody was sent has been answered")


def _client(
    api_key: str, base_url: str, timeout_s: float, keeping: Keeping | None
) -> AsyncAnthropic:
    timeout = httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
    if keeping is None:
        limits = httpx2.Limits(
            max_connections=CONNECTIONS_MAX, max_keepalive_connections=IDLE_CONNECTIONS_MAX
        )
        http_client = DefaultAsyncHttpxClient(limits=limits, timeout=timeout)
    else:
        # Proxies of the environment do not stand in for a transport that is given.
        http_client = DefaultAsyncHttpxClient(transport=keeping, timeout=timeout)
    return AsyncAnthropic(
        api_key=api_key,
        base_url=base_url,
        timeout=timeout,
        max_retries=0,  # whether to try again is the worker's decision, and a fact of the run
        http_client=http_client,
    )


def settings_of(request: ModelRequest, profile: AnthropicModelProfile) -> AnthropicModelSettings:
    """Render the caller's settings, refusing by name what the model would not honour.

    Of the settings that are as they are by default, the model is only told to think, and only if
    that goes with the others and with what was said: the API takes no temperature while a model
    thinks, no less than 1024 tokens to think with, and no beginning in the middle of a reply. The
    other defaults are Anthropic's own, or another vendor's.
    """
    said, given = request.settings, asked_for(request.settings)
    for name in sorted(given.keys() - _SETTINGS):
        raise _refused(name, given[name], "is not a setting of Anthropic's API")
    settings = AnthropicModelSettings(max_tokens=_max_tokens(given, profile))
    if (parallel := said.get("parallel_tool_calls")) is not None:
        settings["parallel_tool_calls"] = parallel
    if "effort" in given:
        settings["anthropic_effort"] = given["effort"]
    if "thinking" in given:
        _set_thinking(settings, given, profile)
    elif _thinks_by_default(said) and "temperature" not in given:
        _set_usual_thinking(settings, request, profile)
    if given.get("temperature", USUAL_TEMPERATURE) != USUAL_TEMPERATURE:
        _set_temperature(settings, given["temperature"], profile)
    return settings


def _max_tokens(given: Mapping[str, Any], profile: AnthropicModelProfile) -> int:
    asked = given.get("max_output_tokens", MAX_OUTPUT_TOKENS)
    if not isinstance(asked, int):
        raise _refused("max_output_tokens", asked, "is not a whole number")
    most = profile.get("anthropic_max_output_tokens")
    if most is not None and asked > most:
        raise _refused("max_output_tokens", asked, f"is more than the model's {most}")
    return asked


def _set_thinking(
    settings: AnthropicModelSettings, given: Mapping[str, Any], profile: AnthropicModelProfile
) -> None:
    thinking = given["thinking"]
    match thinking:
        case {"type": "enabled"} if profile.get("anthropic_disallows_budget_thinking"):
            raise _refused("thinking", thinking, "is not for this model: set `effort` instead")
        case {"type": "enabled"}:
            budget = thinking.get("budget_tokens", THINKING_BUDGET_TOKENS)
            settings["anthropic_thinking"] = {"type": "enabled", "budget_tokens": budget}
            settings["max_tokens"] = _room_beside(budget, given, profile)
        case {"type": "disabled"}:
            settings["anthropic_thinking"] = {"type": "disabled"}
        case _:
            raise _refused("thinking", thinking, "has a type other than enabled or disabled")


def _room_beside(budget: Any, given: Mapping[str, Any], profile: AnthropicModelProfile) -> int:
    """Give the most tokens of a reply, thoughts included; who says nothing of it has enough."""
    room = _max_tokens(given, profile)
    if not isinstance(budget, int):
        raise _refused("budget_tokens", budget, "is not a whole number")
    if "max_output_tokens" not in given and budget >= room:
        room = budget + MAX_OUTPUT_TOKENS
        room = min(room, profile.get("anthropic_max_output_tokens") or room)
    if budget >= room:
        raise _refused("budget_tokens", budget, f"leaves no room in a reply of {room} tokens")
    return room


def _thinks_by_default(said: Mapping[str, Any]) -> bool:
    return said.get("provider_type") == VENDOR and said.get("thinking") is not None


def _set_usual_thinking(
    settings: AnthropicModelSettings, request: ModelRequest, profile: AnthropicModelProfile
) -> None:
    """Have a model think that was not told otherwise, if it can, in the way that it takes."""
    if request.model.startswith(NEVER_THINKING):
        return
    if profile.get("anthropic_disallows_budget_thinking"):
        settings["anthropic_thinking"] = {"type": "adaptive"}
        return
    room = settings.get("max_tokens", MAX_OUTPUT_TOKENS)
    if room > THINKING_BUDGET_TOKENS and not _replies_without_thought(request.turns):
        budget = THINKING_BUDGET_TOKENS
        settings["anthropic_thinking"] = {"type": "enabled", "budget_tokens": budget}


def _replies_without_thought(turns: Sequence[Turn]) -> bool:
    """Tell whether a reply goes on with what its calls gave that did not begin with a thought."""
    began: list[TurnPart] = []
    for role, spoken in groupby(reversed(turns), key=attrgetter("role")):
        parts = [part for turn in spoken for part in turn.parts]
        if role == "assistant":
            began = parts
        elif not any(isinstance(part, ToolResult) for part in parts):
            break
    return bool(began) and not any(_is_thought(part) for part in began)


def _is_thought(part: TurnPart) -> bool:
    return isinstance(part, Redacted) or (isinstance(part, Reasoning) and bool(part.signature))


def _set_temperature(
    settings: AnthropicModelSettings, temperature: Any, profile: AnthropicModelProfile
) -> None:
    if profile.get("anthropic_disallows_sampling_settings"):
        raise _refused("temperature", temperature, f"is not {USUAL_TEMPERATURE}, the model's only")
    if settings.get("anthropic_thinking", {}).get("type") == "enabled":
        raise _refused("temperature", temperature, "is not for a model that thinks")
    settings["temperature"] = temperature
    settings["extra_headers"] = {"anthropic-version": VERSION_WITH_TEMPERATURE}


def parameters_of(request: ModelRequest, profile: AnthropicModelProfile) -> ModelRequestParameters:
    """Render the tools, and the schema that a reply must have."""
    given = asked_for(request.settings)
    strict = bool(given.get("strict"))
    if strict and not profile.get("supports_json_schema_output"):
        raise _refused("strict", strict, "is not for this model")
    tools = tools_of(request.tools or mentioned_tools(request), strict=strict)
    output = _output_of(given.get("response_format"), profile)
    if output is None:
        return ModelRequestParameters(function_tools=tools)
    return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=output)


def _output_of(wanted: Any, profile: AnthropicModelProfile) -> OutputObjectDefinition | None:
    supported = profile.get("supports_json_schema_output")
    match wanted:
        case None | {"type": "text"}:
            return None
        case {"type": "json_schema", "json_schema": {"schema": schema}} if supported:
            return OutputObjectDefinition(json_schema=schema)
        case _:
            raise _refused("response_format", wanted, "is not for this model")


def _refused(name: str, value: object, why: str) -> ModelError:
    return ModelError("llm_bad_request", f"The setting `{name}` ({value!r}) {why}.")
