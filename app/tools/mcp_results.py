"""What an MCP tool's result is to a model: words, and pictures if there are any."""

from collections.abc import Iterator
from typing import Final

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic_core import to_json

from domain.content import Base64Source, Content, Image, InputPart, Text

WORDS_CHARS_MAX: Final = 200_000
IMAGES_MAX: Final = 8
IMAGE_CHARS_MAX: Final = 5 * 1024 * 1024  # base64, all of them together
IMAGE_TYPES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
NOTHING: Final = "The tool returned nothing."


def content_of(result: CallToolResult) -> Content:
    """Give a result as a tool's return: words alone as a text. What is too much is left out."""
    parts: list[InputPart] = []
    words, images, image_chars = 0, 0, 0
    for block in result.content or _structured(result):
        shown = _shown(block)
        if isinstance(shown, Image):
            size = len(block.data) if isinstance(block, ImageContent) else 0
            if images == IMAGES_MAX or image_chars + size > IMAGE_CHARS_MAX:
                shown = Text(text=_note("image, too large to be shown", size))
            else:
                images, image_chars = images + 1, image_chars + size
        if isinstance(shown, Text):
            shown = Text(text=_cut(shown.text, WORDS_CHARS_MAX - words))
            words += len(shown.text)
        parts.append(shown)
    if any(isinstance(part, Image) for part in parts):
        return tuple(part for part in parts if not isinstance(part, Text) or part.text)
    return "\n".join(part.text for part in parts if isinstance(part, Text) and part.text) or NOTHING


def words_of(result: CallToolResult) -> str:
    """Give the words of a result: of an error there is nothing else to tell."""
    texts = (_shown(block) for block in result.content)
    words = "\n".join(one.text for one in texts if isinstance(one, Text))
    return _cut(words, WORDS_CHARS_MAX) or "The tool failed and did not say why."


def _structured(result: CallToolResult) -> Iterator[ContentBlock]:
    """Give what has no other form; else the words say the same, as the protocol asks."""
    if result.structured_content is not None:
        yield TextContent(text=to_json(result.structured_content).decode())


def _shown(block: ContentBlock) -> Text | Image:
    match block:
        case TextContent():
            return Text(text=block.text)
        case ImageContent() if block.mime_type in IMAGE_TYPES:
            return Image(source=Base64Source(media_type=block.mime_type, data=block.data))
        case ImageContent() | AudioContent():
            return Text(text=_note(block.mime_type, len(block.data)))
        case ResourceLink():
            return Text(text=f"[{block.title or block.name}: {block.uri}]")
        case EmbeddedResource(resource=found) if isinstance(found, TextResourceContents):
            return Text(text=found.text)
        case EmbeddedResource(resource=found):
            size = len(found.blob) if isinstance(found, BlobResourceContents) else 0
            return Text(text=_note(found.mime_type or "file", size))


def _note(what: str, base64_chars: int) -> str:
    return f"[{what}: about {base64_chars * 3 // 4} bytes, not shown]"


def _cut(text: str, chars_max: int) -> str:
    if len(text) <= chars_max:
        return text
    kept = max(chars_max, 0)
    return f"{text[:kept]}\n[{len(text) - kept} more characters are left out]"
