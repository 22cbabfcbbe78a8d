"""What a provider is told: a system prompt, turns, tools and settings, as plain values."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from domain.content import Image, Reasoning, Redacted, Text, ToolCall, ToolResult, ToolSchema
from domain.event import Value

TurnPart: TypeAlias = Annotated[
    Text | Image | Reasoning | Redacted | ToolCall | ToolResult, Field(discriminator="type")
]


class Turn(Value):
    """What one side said; two neighbours never have the same role."""

    role: Literal["user", "assistant"]
    parts: tuple[TurnPart, ...]


class ModelRequest(Value):
    """All that a provider is told. `model` is the vendor's name for it, without our prefix.

    `settings` are the caller's of the contract's `model_settings`, `max_output_tokens` and the
    like, with the caller's spelling; a provider applies what it knows.
    """

    provider: str
    model: str
    system: str
    turns: tuple[Turn, ...]
    tools: tuple[ToolSchema, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)

    @property
    def handle(self) -> str:
        """The model's name with the provider's before it."""
        return f"{self.provider}/{self.model}"
