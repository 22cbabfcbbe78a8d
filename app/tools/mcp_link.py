"""A connection to an MCP server, as whoever keeps one sees it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from app.mcp_config import McpServer
from domain.content import Content


class Lost(Exception):
    """The connection is gone. `sent` is whether a call may have reached the server before."""

    def __init__(self, why: str, *, sent: bool = True) -> None:
        super().__init__(why)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server lists it."""

    name: str
    description: str | None
    parameters: dict[str, Any]
    idempotent: bool


class Link(Protocol):
    """A connection to a server."""

    @property
    def ended(self) -> bool:
        """Tell whether the server has gone."""
        ...

    async def listed(self) -> Sequence[Listed]:
        """List the server's tools. Raises Lost."""
        ...

    async def call(self, name: str, arguments: dict[str, Any]) -> Content:
        """Call a tool; being cancelled is to tell the server. Raises ToolFailed or Lost."""
        ...


# Connects to a server; the second argument is to be called when there may be news.
Connect: TypeAlias = Callable[[McpServer, Callable[[], None]], AbstractAsyncContextManager[Link]]
