"""The least that a server can do: relay a vendor SDK's stream as server-sent events, store nothing.

`/library` reads as our provider does, through pydantic-ai; `/sdk` through the anthropic package
alone; `/silent` reads as `/library` and sends one frame at the end: what reading alone costs.
"""

import argparse
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final, TypeAlias

import uvicorn
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from pydantic_ai.messages import (
    ModelRequest,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    UserPromptPart,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.anthropic import AnthropicModel, AnthropicModelSettings
from pydantic_ai.providers.anthropic import AnthropicProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

NAME: Final = "claude-haiku-4-5"
MAX_TOKENS: Final = 4096
DONE: Final = b"data: [DONE]\n\n"

Deltas: TypeAlias = AsyncGenerator[str, None]


class Relay:
    """One client for all requests, as a server would have it."""

    def __init__(self, model_url: str) -> None:
        self._client = AsyncAnthropic(
            api_key="sk-made-up",
            base_url=model_url,
            max_retries=0,
            http_client=DefaultAsyncHttpxClient(),
        )
        provider = AnthropicProvider(anthropic_client=self._client)
        self._model = AnthropicModel(NAME, provider=provider)

    async def through_library(self, text: str) -> Deltas:
        """Read as our provider does."""
        asked = [ModelRequest(parts=[UserPromptPart(text)])]
        settings = AnthropicModelSettings(max_tokens=MAX_TOKENS)
        parameters = ModelRequestParameters()
        async with self._model.request_stream([*asked], settings, parameters) as stream:
            async for event in stream:
                match event:
                    case PartDeltaEvent(delta=TextPartDelta(content_delta=delta)):
                        yield delta
                    case PartStartEvent(part=TextPart(content=delta)) if delta:
                        yield delta
                    case _:
                        pass

    async def through_sdk(self, text: str) -> Deltas:
        """Read with the vendor's package alone."""
        stream = await self._client.messages.create(
            model=NAME,
            max_tokens=MAX_TOKENS,
            messages=[{"role": "user", "content": text}],
            stream=True,
        )
        async with stream:
            async for event in stream:
                if event.type == "content_block_delta" and event.delta.type == "text_delta":
                    yield event.delta.text


async def each(deltas: Deltas) -> AsyncIterator[bytes]:
    """Send a frame for each delta."""
    async for delta in deltas:
        yield _frame(delta)
    yield DONE


async def at_the_end(deltas: Deltas) -> AsyncIterator[bytes]:
    """Send a frame for all of them."""
    yield _frame("".join([delta async for delta in deltas]))
    yield DONE


def _frame(text: str) -> bytes:
    shown = {"message_type": "assistant_message", "content": text}
    return b"data: " + json.dumps(shown, separators=(",", ":")).encode() + b"\n\n"


def route(
    path: str,
    read: Callable[[str], Deltas],
    send: Callable[[Deltas], AsyncIterator[bytes]],
) -> Route:
    """Make a route that answers a message with what the model says."""

    async def serve(request: Request) -> Response:
        body: dict[str, Any] = await request.json()
        return StreamingResponse(send(read(body["input"])), media_type="text/event-stream")

    return Route(path, serve, methods=["POST"])


def main() -> None:
    """Serve with the same HTTP stack as Everlog."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-url", required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    relay = Relay(asked.model_url)
    routes = [
        route("/library", relay.through_library, each),
        route("/sdk", relay.through_sdk, each),
        route("/silent", relay.through_library, at_the_end),
    ]
    uvicorn.run(
        Starlette(routes=routes),
        host="127.0.0.1",
        port=asked.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
