"""Parts of messages as an agent's file holds them, and back."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, cast

import orjson

from domain.content import (
    Base64Source,
    Content,
    Image,
    InputPart,
    OutputPart,
    Reasoning,
    Redacted,
    Text,
    ToolCall,
    UrlSource,
    parts_of,
)
from projections.agent_file import BadFile

LEFT_OUT_MAX: Final = 100
NO_PICTURE: Final = "[a picture that was not in the file]"

Part: TypeAlias = OutputPart | Image


class LeftOut:
    """What was not taken: so many remarks, and how many more there are."""

    def __init__(self) -> None:
        self._told: list[str] = []
        self._more = 0

    def add(self, place: str, words: str) -> None:
        """Tell that something at a place was not taken, and why."""
        if len(self._told) < LEFT_OUT_MAX:
            self._told.append(f"{place}: {words}")
        else:
            self._more += 1

    @property
    def told(self) -> list[str]:
        """All of it in words."""
        return [*self._told, *([f"and {self._more} more"] if self._more else [])]


# --- from a file ------------------------------------------------------------------------------


def parts_in(place: str, content: Any, left_out: LeftOut) -> list[Part]:
    """Read words or parts. Raises BadFile for what is neither."""
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(text=content)]
    if not isinstance(content, list | tuple):
        return [Text(text=orjson.dumps(content).decode())]
    listed = cast("Sequence[Any]", content)
    found = (_part(f"{place}[{n}]", one, left_out) for n, one in enumerate(listed))
    return [one for one in found if one is not None]


def content_in(place: str, content: Any, left_out: LeftOut) -> Content:
    """Read what somebody put in, or what a tool gave back: words, or words and pictures."""
    parts = parts_in(place, content, left_out)
    kept = [one for one in parts if isinstance(one, Text | Image)]
    if len(kept) < len(parts):
        left_out.add(place, "reasoning, or a call, in what no model said")
    return plain(kept)


def plain(parts: Sequence[InputPart]) -> Content:
    """Give parts as content; one part of words is the words."""
    match parts:
        case []:
            return ""
        case [Text(text=text)]:
            return text
        case _:
            return tuple(parts)


def _part(place: str, part: Any, left_out: LeftOut) -> Part | None:
    match part:
        case {"type": "text", "text": str(text)}:
            return Text(text=text)
        case {"type": "image", "source": dict()}:
            return _picture(place, part["source"], left_out)
        case {"type": "reasoning", "reasoning": str(text), "signature": str(signature)}:
            return Reasoning(text=text, signature=signature)
        case {"type": "reasoning", "reasoning": str(text)}:
            return Reasoning(text=text)
        case {"type": "redacted_reasoning", "data": str(data)}:
            return Redacted(data=data)
        case {"type": "summarized_reasoning", "summary": list()}:
            return Reasoning(text="\n\n".join(_texts(part["summary"])))
        case {"type": "tool_call", "id": str(key), "name": str(name), "input": dict()}:
            spelled = orjson.dumps(part["input"]).decode()
            return ToolCall(id=key, name=name, arguments=spelled)
        case {"type": str(kind)}:
            left_out.add(place, f"a part of the type {kind[:64]!r}, or not in that type's form")
            return None
        case _:
            raise BadFile(place, "a part is an object with a type, such as text")


def _texts(pieces: Iterable[Any]) -> Iterable[str]:
    for piece in pieces:
        match piece:
            case {"text": str(text)}:
                yield text
            case _:
                pass


def _picture(place: str, source: dict[str, Any], left_out: LeftOut) -> Image | Text:
    match source:
        case {"media_type": str(media_type), "data": str(data)} if data:
            return Image(source=Base64Source(media_type=media_type, data=data))
        case {"type": "url", "url": str(url)}:
            return Image(source=UrlSource(url=url))
        case _:
            left_out.add(place, "a picture that is not in the file itself")
            return Text(text=NO_PICTURE)


# --- to a file --------------------------------------------------------------------------------


def written(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Give parts as a file holds them; calls have a place of their own and are left out."""
    return [_written(part) for part in parts if not isinstance(part, ToolCall)]


def written_content(content: Content) -> list[dict[str, Any]]:
    """Give what somebody put in as a file holds it."""
    return written(parts_of(content)) if content else []


def response_of(content: Content) -> str | list[dict[str, Any]]:
    """Give what a call came to: words alone as a text."""
    return content if isinstance(content, str) else written(content)


def _written(part: Text | Image | Reasoning | Redacted) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text, "signature": None}
        case Image():
            return {"type": "image", "source": part.source.model_dump(mode="json")}
        case Reasoning():
            return {
                "type": "reasoning",
                "is_native": True,
                "reasoning": part.text,
                "signature": part.signature,
            }
        case Redacted():
            return {"type": "redacted_reasoning", "data": part.data}
