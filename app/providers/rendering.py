"""Our request in the words of the vendor library. Imported on first use: the library is slow."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, assert_never

from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.messages import ModelRequest as VendorRequest
from pydantic_ai.tools import ToolDefinition

from app.providers import ModelError
from domain.content import (
    Base64Source,
    Image,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    ToolResult,
    ToolSchema,
    UrlSource,
)
from projections.turns import ModelRequest, Turn

# What the library calls a thinking part whose signature is all there is.
REDACTED_ID = "redacted_thinking"


def messages_of(request: ModelRequest, vendor: str) -> list[ModelMessage]:
    """Render the turns; `vendor` is whose signatures the reasoning among them carries."""
    names = dict(_names_of_calls(request.turns))
    messages: list[ModelMessage] = []
    if request.system:
        messages.append(VendorRequest(parts=[SystemPromptPart(content=request.system)]))
    for turn in request.turns:
        if turn.role == "user":
            messages.append(VendorRequest(parts=list(_user_parts(turn, names))))
        else:
            parts = list(_assistant_parts(turn, vendor))
            messages.append(ModelResponse(parts=parts, provider_name=vendor))
    return messages


def tools_of(tools: tuple[ToolSchema, ...], *, strict: bool) -> list[ToolDefinition]:
    """Render the tools on offer."""
    return [
        ToolDefinition(
            name=tool.name,
            description=tool.description,
            parameters_json_schema=tool.parameters or _no_parameters(),
            strict=strict,
        )
        for tool in tools
    ]


def mentioned_tools(request: ModelRequest) -> tuple[ToolSchema, ...]:
    """Name the tools that were called before, where none is on offer now.

    A vendor refuses calls and results among the messages of a request that declares no tool.
    """
    names = dict.fromkeys(name for _, name in _names_of_calls(request.turns))
    return () if request.tools else tuple(ToolSchema(name=name) for name in names)


def _no_parameters() -> dict[str, Any]:
    return {"type": "object", "properties": {}}


def _names_of_calls(turns: tuple[Turn, ...]) -> Iterator[tuple[str, str]]:
    for turn in turns:
        for part in turn.parts:
            if isinstance(part, ToolCall):
                yield part.id, part.name


def _user_parts(turn: Turn, names: dict[str, str]) -> Iterator[ModelRequestPart]:
    # Vendors want the results of a turn before anything else said in it.
    for part in turn.parts:
        if isinstance(part, ToolResult):
            yield _tool_return(part, names.get(part.tool_call_id, ""))
    content = [_content(part) for part in turn.parts if isinstance(part, Text | Image)]
    if content:
        yield UserPromptPart(content=content)


def _tool_return(result: ToolResult, name: str) -> ToolReturnPart:
    return ToolReturnPart(
        tool_name=name,
        # No content at all is allowed, a block of empty text is not.
        content=result.content
        if isinstance(result.content, str) and result.content
        else _contents(result),
        tool_call_id=result.tool_call_id,
        outcome="success" if result.status == "ok" else "failed",
    )


def _contents(result: ToolResult) -> list[str | ImageUrl | BinaryContent]:
    parts = () if isinstance(result.content, str) else result.content
    return [_content(part) for part in parts]


def _content(part: Text | Image) -> str | ImageUrl | BinaryContent:
    if isinstance(part, Text):
        return part.text
    source = part.source
    match source:
        case UrlSource():
            return ImageUrl(url=source.url)
        case Base64Source():
            return BinaryContent(data=_bytes_of(source), media_type=source.media_type)
        case _:
            assert_never(source)


def _bytes_of(source: Base64Source) -> bytes:
    if not source.media_type.startswith("image/"):
        raise ModelError("llm_bad_request", f"{source.media_type} is not a kind of image.")
    try:
        return base64.b64decode(source.data, validate=True)
    except binascii.Error as error:
        raise ModelError("llm_bad_request", f"An image is not base64: {error}.") from None


def _assistant_parts(turn: Turn, vendor: str) -> Iterator[ModelResponsePart]:
    for part in turn.parts:
        match part:
            case Text():
                yield TextPart(content=part.text)
            case Reasoning():
                # Reasoning without a signature (another vendor's, or interrupted) no vendor takes
                # back as reasoning; as plain text it would teach the model to think aloud.
                if part.signature:
                    yield ThinkingPart(
                        content=part.text, signature=part.signature, provider_name=vendor
                    )
            case Redacted():
                yield ThinkingPart(
                    content="", id=REDACTED_ID, signature=part.data, provider_name=vendor
                )
            case ToolCall():
                yield ToolCallPart(tool_name=part.name, args=part.arguments, tool_call_id=part.id)
            case Image() | ToolResult():
                raise ModelError("llm_bad_request", f"An assistant's turn holds a {part.type}.")
            case _:
                assert_never(part)
