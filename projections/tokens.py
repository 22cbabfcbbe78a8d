"""How many tokens something is: what vendors reported, an estimate for the rest."""

from collections.abc import Iterable, Iterator
from typing import Final, assert_never

import orjson

from domain.content import (
    Image,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    ToolResult,
    ToolSchema,
    parts_of,
)
from projections.turns import ModelRequest, TurnPart

# The original's approximate counter (contract section 8.4): four bytes a token, then a margin.
BYTES_PER_TOKEN: Final = 4
MARGIN: Final = 1.3
# What the largest picture costs that a vendor does not make smaller first: about 1.15 megapixels at
# 750 pixels a token. A smaller one costs less, but its size is known only to who decodes it.
IMAGE_TOKENS: Final = 1600


def estimate(text: str) -> int:
    """Estimate the tokens of a text from its size in UTF-8."""
    return _estimated(len(text) if text.isascii() else len(text.encode()))


def tokens_of_request(request: ModelRequest) -> int:
    """Estimate the tokens of all that a model is told: system prompt, turns and tools."""
    pieces = [piece for turn in request.turns for piece in _pieces(turn.parts)]
    texts = [piece for piece in pieces if isinstance(piece, str)]
    size = len(request.system.encode())
    size += sum(len(text.encode()) for text in texts)
    size += sum(map(_size_of, request.tools))
    return _estimated(size) + IMAGE_TOKENS * (len(pieces) - len(texts))


def _estimated(size: int) -> int:
    return round(size / BYTES_PER_TOKEN * MARGIN)


def _size_of(tool: ToolSchema) -> int:
    """Give the bytes of a tool as a vendor reads it: what it is called, for, and given."""
    return len(orjson.dumps(tool.model_dump(mode="json", exclude_none=True)))


def _pieces(parts: Iterable[TurnPart]) -> Iterator[str | Image]:
    """Give what is counted of a turn: texts, and pictures wherever they are."""
    for part in parts:
        match part:
            case Text() | Reasoning():
                yield part.text
            case Redacted():
                yield part.data
            case ToolCall():
                yield part.name
                yield part.arguments
            case ToolResult():
                yield from _pieces(parts_of(part.content))
            case Image():
                yield part
            case _:
                assert_never(part)
