"""The seam to an embedding model: texts in, vectors out."""

from collections.abc import Sequence
from typing import Protocol

from projections.vectors import Vector


class EmbeddingFailed(Exception):
    """The model did not answer; it may do so later. The message holds no text and no key."""


class EmbeddingRefused(Exception):
    """The model does not take these texts, and never will."""


class Embedder(Protocol):
    """An embedding model. `handle` is `provider/name`."""

    handle: str

    @property
    def space(self) -> str:
        """What vectors of this model can be compared with: those of the same space only."""
        ...

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has, 0 while that is not known."""
        ...

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """Give a vector of length 1 for each text. Raises EmbeddingFailed or EmbeddingRefused."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
