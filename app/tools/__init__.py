"""Tools that the server runs itself: the seam, and the box that holds them."""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from domain.content import ToolSchema
from domain.run import OfferedTool


class ToolFailed(Exception):
    """A tool that could not do what it was asked; the words are for the model."""


@dataclass(frozen=True, slots=True)
class Call:
    """Which call it is: enough for a tool to know one that it has carried out before."""

    conversation_id: str
    run_id: str
    tool_call_id: str
    started_at: int


class Tool(Protocol):
    """Something that the server does for a model.

    One that is `idempotent` may be run again for the same call after a crash.
    """

    schema: ToolSchema
    idempotent: bool

    async def run(self, arguments: dict[str, Any], call: Call) -> str:
        """Do it and say what came of it. Raises ToolFailed; being cancelled is to stop at once."""
        ...


class Toolbox:
    """The tools there are, by name."""

    def __init__(self, tools: Iterable[Tool], *, timeout_s: float) -> None:
        self._tools = {tool.schema.name: tool for tool in tools}
        self._timeout_s = timeout_s

    @property
    def names(self) -> list[str]:
        """Name the tools there are."""
        return sorted(self._tools)

    def offered(self, names: Iterable[str], gated: Collection[str]) -> tuple[OfferedTool, ...]:
        """Give those of `names` that there are, as they are offered to a model."""
        found = (self._tools[name] for name in names if name in self._tools)
        return tuple(_offered(tool, gated) for tool in found)

    def get(self, name: str) -> Tool | None:
        """Give a tool."""
        return self._tools.get(name)

    async def run(self, tool: Tool, arguments: dict[str, Any], call: Call) -> str:
        """Run a tool for as long as it may take. Raises ToolFailed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await tool.run(arguments, call)
        except TimeoutError:
            raise ToolFailed(f"The tool took longer than {self._timeout_s:g} s.") from None


def _offered(tool: Tool, gated: Collection[str]) -> OfferedTool:
    given: dict[str, Any] = tool.schema.model_dump(exclude_none=True)
    if tool.schema.name in gated:
        given["gated"] = True
    if tool.idempotent:
        given["idempotent"] = True
    return OfferedTool(**given)
