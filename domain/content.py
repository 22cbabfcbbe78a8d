"""Parts of a message: what people and models say, call and get back."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from domain.event import Value


class Tagged(Value):
    """One of several shapes told apart by `type`, which is stored though it is a default."""

    def model_post_init(self, _: Any) -> None:
        """Count `type` among what was set: facts are stored without their defaults."""
        self.model_fields_set.add("type")


class Text(Tagged):
    """Words."""

    type: Literal["text"] = "text"
    text: str


class UrlSource(Tagged):
    """An image that the model's vendor fetches itself."""

    type: Literal["url"] = "url"
    url: str


class Base64Source(Tagged):
    """An image carried in the message."""

    type: Literal["base64"] = "base64"
    media_type: str
    data: str


class Image(Tagged):
    """A picture in a user's message."""

    type: Literal["image"] = "image"
    source: Annotated[UrlSource | Base64Source, Field(discriminator="type")]


class Reasoning(Tagged):
    """What a model thought aloud; `signature` proves to its vendor that it is unchanged."""

    type: Literal["reasoning"] = "reasoning"
    text: str
    signature: str | None = None


class Redacted(Tagged):
    """Reasoning that the vendor gave only in encrypted form."""

    type: Literal["redacted"] = "redacted"
    data: str


class ToolCall(Tagged):
    """A model's request to run a tool; `arguments` is JSON text exactly as the model wrote it."""

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    arguments: str


class ToolSchema(Value):
    """A tool that a model may call; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


InputPart: TypeAlias = Annotated[Text | Image, Field(discriminator="type")]
OutputPart: TypeAlias = Annotated[
    Text | Reasoning | Redacted | ToolCall, Field(discriminator="type")
]
Content: TypeAlias = str | tuple[InputPart, ...]


class ToolResult(Tagged):
    """What a tool call came to."""

    type: Literal["tool_result"] = "tool_result"
    tool_call_id: str
    content: Content
    status: Literal["ok", "error", "denied", "cancelled", "unknown"] = "ok"


class Approval(Tagged):
    """A client's word on a call that waits for it."""

    type: Literal["approval"] = "approval"
    tool_call_id: str
    approve: bool
    reason: str | None = None


class ToolAnswer(Tagged):
    """What a call came to that the client ran itself."""

    type: Literal["tool"] = "tool"
    tool_call_id: str
    tool_return: Content
    status: Literal["success", "error"] = "success"
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None


def text_of(content: str | Sequence[InputPart]) -> str:
    """Give the words of a message; pictures have none."""
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, Text))


def parts_of(content: Content) -> tuple[InputPart, ...]:
    """Give a message's parts; plain text is one part."""
    return (Text(text=content),) if isinstance(content, str) else content
