"""OpenAI's embeddings through its SDK. Importing this takes seconds: see `embedding_vendors`."""

from collections.abc import Sequence
from typing import Final

from openai import (
    AsyncOpenAI,
    BadRequestError,
    Omit,
    OpenAIError,
    UnprocessableEntityError,
    omit,
)

from app.providers.embedding import EmbeddingFailed, EmbeddingRefused
from projections.vectors import Vector, unit

# A server of one's own may want no key; the SDK wants one.
UNUSED_KEY: Final = "unused"
RETRIES_MAX: Final = 1


class OpenAI:
    """One client for all calls: what `OpenAIEmbedder` becomes on its first use."""

    def __init__(self, api_key: str | None, base_url: str, timeout_s: float) -> None:
        self._client = AsyncOpenAI(
            api_key=api_key or UNUSED_KEY,
            base_url=base_url,
            timeout=timeout_s,
            max_retries=RETRIES_MAX,
        )

    async def embed(self, model: str, texts: Sequence[str], dimensions: int | None) -> list[Vector]:
        """Give a vector for each text. Raises EmbeddingFailed or EmbeddingRefused."""
        asked: int | Omit = omit if dimensions is None else dimensions
        try:
            answer = await self._client.embeddings.create(
                # Not every server that speaks the protocol knows the SDK's own default, base64.
                model=model,
                input=[*texts],
                dimensions=asked,
                encoding_format="float",
            )
            vectors = {one.index: unit(one.embedding) for one in answer.data}
            return [vectors[number] for number in range(len(texts))]
        except (BadRequestError, UnprocessableEntityError) as error:
            raise EmbeddingRefused(f"status {error.status_code}") from None
        except OpenAIError as error:
            # Without its words: they are the vendor's, and may repeat what was sent.
            status = getattr(error, "status_code", None)
            words = type(error).__name__ if status is None else f"status {status}"
            raise EmbeddingFailed(words) from None
        except Exception as error:  # noqa: BLE001 - bytes from outside can fail anywhere
            raise EmbeddingFailed(f"not an answer: {type(error).__name__}") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
