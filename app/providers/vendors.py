"""Vendors' models behind the seam. A vendor's SDK is imported when it is first needed, not before.

The import costs seconds of CPU and tens of megabytes, so it happens in a thread, and a server that
only ever runs the demo never pays for it.
"""

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from app.providers import Delta, ModelCard, Reply, Wire
from projections.turns import ModelRequest

if TYPE_CHECKING:
    from anthropic.types import ModelInfo

    from app.providers.claude import Claude

ANTHROPIC_URL: Final = "https://api.anthropic.com"
# Our module that imports Anthropic's SDK.
SDK: Final = "app.providers.claude"
LIST_TIMEOUT_S: Final = 5.0
# A count is asked for where somebody waits for an answer, and an estimate is at hand.
COUNT_TIMEOUT_S: Final = 2.0
LIST_KEPT_S: Final = 300.0
FALLBACK_KEPT_S: Final = (
    30.0  # a vendor that is back is seen soon, one that is down not asked often
)

# From the vendor library's data; the prefixes of the models that see a million tokens.
LARGE_WINDOW: Final = 1_000_000
USUAL_WINDOW: Final = 200_000
_LARGE: Final = (
    "claude-fable-5",
    "claude-haiku-5-5",
    "claude-mythos-5",
    "claude-opus-4-6",
    "claude-opus-4-7",
    "claude-opus-4-8",
    "claude-opus-5",
    "claude-sonnet-4-6",
    "claude-sonnet-5",
)
_CURRENT: Final = (
    ("claude-opus-5-5", "Claude Opus 5.5", 128_000),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5", 128_000),
    ("claude-haiku-5-5", "Claude Haiku 5.5", 128_000),
    ("claude-haiku-4-5", "Claude Haiku 4.5", 64_000),
)
_MAX_OUTPUT_TOKENS: Final = 64_000

logger = logging.getLogger(__name__)


class AnthropicProvider:
    """Anthropic's models. The first call imports its SDK; all calls share one client."""

    def __init__(
        self,
        api_key: str,
        base_url: str | None = None,
        *,
        timeout_s: float = 120.0,
        count_timeout_s: float = COUNT_TIMEOUT_S,
    ) -> None:
        self._api_key = api_key
        self._base_url = base_url or ANTHROPIC_URL
        self._timeout_s = timeout_s
        self._count_timeout_s = count_timeout_s
        self._claude: Claude | None = None
        self._importing = asyncio.Lock()
        self._listing = asyncio.Lock()
        self._cards: tuple[ModelCard, ...] = ()
        self._listed_until_s = 0.0

    async def complete(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Stream one reply: deltas, then the `Reply`. Raises `ModelError`."""
        claude = await self._first_use()
        async with aclosing(claude.complete(request)) as deltas:
            async for delta in deltas:
                yield delta

    async def models(self) -> tuple[ModelCard, ...]:
        """List Anthropic's models as last told, or the current ones if it cannot be reached."""
        clock = asyncio.get_running_loop()
        async with self._listing:
            if clock.time() >= self._listed_until_s:
                self._cards, kept_s = await self._list()
                self._listed_until_s = clock.time() + kept_s
        return self._cards

    async def wire_of(self, request: ModelRequest) -> Wire | None:
        """Tell what Anthropic would receive, without a key. Raises `ModelError`."""
        claude = await asyncio.to_thread(importlib.import_module, SDK)
        return await claude.wire_of(request, self._base_url, self._timeout_s)

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Have Anthropic count a request's tokens; None if it does not do so soon."""
        claude = await self._first_use()
        try:
            async with asyncio.timeout(self._count_timeout_s):
                return await claude.count_tokens(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is an estimate
            logger.warning("Anthropic did not count tokens: %s", type(error).__name__)
            return None

    async def close(self) -> None:
        """Close all connections."""
        if self._claude is not None:
            await self._claude.close()

    async def _first_use(self) -> "Claude":
        async with self._importing:
            if self._claude is None:
                self._claude = await asyncio.to_thread(self._import)
        return self._claude

    def _import(self) -> "Claude":
        module = importlib.import_module(SDK)
        return module.Claude(self._api_key, self._base_url, self._timeout_s)

    async def _list(self) -> tuple[tuple[ModelCard, ...], float]:
        claude = await self._first_use()
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                return tuple(_card_of(info) for info in await claude.models()), LIST_KEPT_S
        except Exception as error:  # noqa: BLE001 - whatever it is, a list is still owed
            logger.warning("Anthropic did not list its models: %s", type(error).__name__)
            return tuple(_card(*row) for row in _CURRENT), FALLBACK_KEPT_S


def claude_window(name: str) -> int | None:
    """Tell a Claude model's context window without asking anybody; None for other names."""
    if name.startswith(_LARGE):
        return LARGE_WINDOW
    return USUAL_WINDOW if name.startswith("claude") else None


def _card_of(info: "ModelInfo") -> ModelCard:
    card = _card(info.id, info.display_name, info.max_tokens or _MAX_OUTPUT_TOKENS)
    if info.max_input_tokens is None:
        return card
    return replace(card, context_window=info.max_input_tokens, source="vendor")


def _card(name: str, display_name: str, max_output_tokens: int) -> ModelCard:
    return ModelCard(
        handle=f"anthropic/{name}",
        name=name,
        display_name=display_name,
        provider_type="anthropic",
        context_window=claude_window(name) or USUAL_WINDOW,
        max_output_tokens=max_output_tokens,
        source="library",
    )
