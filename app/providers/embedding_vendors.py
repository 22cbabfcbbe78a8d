"""Embedding models, each behind its vendor's SDK.

That is imported when it is first needed, as importing it costs seconds.
"""

import asyncio
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from projections.vectors import Vector

if TYPE_CHECKING:
    from app.providers.embedding_openai import OpenAI

# Our module that imports the SDK.
SDK: Final = "app.providers.embedding_openai"
OPENAI_URL: Final = "https://api.openai.com/v1"
# How many numbers a vector of a model has, where somebody asks before there was any.
_DIMENSIONS: Final = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}


class OpenAIEmbedder:
    """A model behind OpenAI's embeddings protocol, OpenAI's own or any server's that speaks it."""

    def __init__(
        self,
        handle: str,
        api_key: str | None,
        base_url: str | None,
        *,
        dimensions: int | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self.handle = handle
        self._name = handle.partition("/")[2]
        self._api_key = api_key
        self._base_url = base_url or OPENAI_URL
        self._asked = dimensions
        self._seen = 0
        self._timeout_s = timeout_s
        self._client: OpenAI | None = None
        self._importing = asyncio.Lock()

    @property
    def space(self) -> str:
        """The handle, with the number of dimensions if the operator chose it."""
        return self.handle if self._asked is None else f"{self.handle}@{self._asked}"

    @property
    def dimensions(self) -> int:
        """As chosen, as seen, or as known."""
        return self._asked or self._seen or _DIMENSIONS.get(self._name, 0)

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Give a vector of length 1 for each text. Raises EmbeddingFailed or EmbeddingRefused."""
        client = await self._first_use()
        vectors = await client.embed(self._name, texts, self._asked)
        self._seen = len(vectors[0]) if vectors else self._seen
        return vectors

    async def close(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.close()

    async def _first_use(self) -> "OpenAI":
        async with self._importing:
            if self._client is None:
                self._client = await asyncio.to_thread(self._import)
        return self._client

    def _import(self) -> "OpenAI":
        module = importlib.import_module(SDK)
        return module.OpenAI(self._api_key, self._base_url, self._timeout_s)
