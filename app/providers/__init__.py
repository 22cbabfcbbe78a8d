"""The seam to a model: take a request, yield deltas, end with what it came to."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from domain.content import OutputPart
from domain.run import DeltaKind, FinishReason, Usage
from projections.turns import ModelRequest

ErrorType: TypeAlias = Literal[
    "llm_timeout",
    "llm_rate_limit",
    "llm_authentication",
    "llm_insufficient_credits",
    "llm_bad_request",
    "llm_empty_response",
    "llm_error",
    "stream_incomplete",
    "context_window_overflow",
]


@dataclass(frozen=True, slots=True)
class Delta:
    """What one part grew by: `index` counts the reply's parts from 0, each of one kind.

    A reasoning part grows by `reasoning` and `signature` deltas. The first `arguments` delta of a
    tool call carries `call_id` and `call_name`; its `text` may be empty.
    """

    index: int
    kind: DeltaKind
    text: str
    call_id: str | None = None
    call_name: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a reply. Its deltas of a part, joined, equal that part byte for byte."""

    parts: tuple[OutputPart, ...]
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason = "stop"


class ModelError(Exception):
    """A model call that failed. `detail` may hold the vendor's words, never a secret."""

    def __init__(
        self,
        error_type: ErrorType,
        message: str,
        *,
        detail: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model on offer. `handle` is `provider/name`; `source` tells where its window is from."""

    handle: str
    name: str
    display_name: str
    provider_type: str
    context_window: int
    max_output_tokens: int
    source: Literal["library", "vendor", "setting", "default"] = "default"


@dataclass(frozen=True, slots=True)
class Wire:
    """A request as its vendor's server receives it; `path` is the whole target, the query too.

    Of its headers there are those that say how the body is meant: not the key, nor the SDK's words
    about itself.
    """

    method: str
    path: str
    body: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Provider(Protocol):
    """A way to reach models of one kind."""

    def complete(self, request: ModelRequest) -> AsyncGenerator[Delta | Reply, None]:
        """Stream one reply: deltas, then exactly one `Reply`. Raises `ModelError`.

        Cancelling the task that iterates, or closing the generator, closes the connection to the
        vendor at once.
        """
        ...

    async def models(self) -> tuple[ModelCard, ...]:
        """List the models on offer; never raises for a vendor that cannot be reached."""
        ...

    async def wire_of(self, request: ModelRequest) -> Wire | None:
        """Tell what the vendor would receive for a request, byte for byte; None without a vendor.

        Nothing is sent, and no key is needed. Raises `ModelError` for what would not be sent.
        """
        ...

    async def count_tokens(self, request: ModelRequest) -> int | None:
        """Have the vendor count a request's tokens; None where it cannot or does not do so soon."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
