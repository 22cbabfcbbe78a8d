"""What scripted models say, and what is made of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from app.providers import Delta, Reply
from domain.content import OutputPart, Text, ToolCall, ToolResult
from projections.request import ModelRequest
from tests.app.serving import Said, Script


class Gate:
    """A script that says something and then waits to be let through, each time it is played."""

    def __init__(self, *before: str, after: str = "") -> None:
        self._before = before
        self._after = after
        self.opened = asyncio.Event()
        self.begun = asyncio.Event()
        self.closed = 0

    async def __call__(self, _: ModelRequest) -> Said:
        try:
            for word in self._before:
                yield Delta(0, "text", word)
            self.begun.set()
            await self.opened.wait()
            if self._after:
                yield Delta(0, "text", self._after)
            yield Reply((Text(text="".join(self._before) + self._after),))
        finally:
            self.closed += 1


def saying(*words: str, **more: Any) -> Script:
    """Say words, then the whole."""

    async def script(_: ModelRequest) -> Said:
        for word in words:
            yield Delta(0, "text", word)
        yield Reply((Text(text="".join(words)),), **more)

    return script


def calling(*names: str, arguments: str = "{}", words: str = "") -> Script:
    """Call tools, `call-0` first; of one name or several, after some words."""

    async def script(_: ModelRequest) -> Said:
        parts: list[OutputPart] = [Text(text=words)] if words else []
        if words:
            yield Delta(0, "text", words)
        for number, name in enumerate(names):
            yield Delta(len(parts), "arguments", arguments, f"call-{number}", name)
            parts.append(ToolCall(id=f"call-{number}", name=name, arguments=arguments))
        yield Reply(tuple(parts), finish_reason="tool_call")

    return script


def failing(*errors: Exception, words: Sequence[str] = ()) -> list[Script]:
    """Fail in turn, each time after the same words."""

    def script_of(error: Exception) -> Script:
        async def script(_: ModelRequest) -> Said:
            for word in words:
                yield Delta(0, "text", word)
            raise error

        return script

    return [script_of(error) for error in errors]


def told(request: ModelRequest) -> list[tuple[str, str]]:
    """Give what a model was told, turn by turn: who, and the words."""
    return [(turn.role, "|".join(map(_words, turn.parts))) for turn in request.turns]


def _words(part: Any) -> str:
    match part:
        case Text():
            return part.text
        case ToolCall():
            return f"{part.name}({part.arguments})"
        case ToolResult():
            return f"{part.status}: {part.content}"
        case _:
            return part.type
