"""An MCP server for tests: a script that speaks over stdio, or an application served on loopback.

`python -m tests.mcp_server DIRECTORY` keeps notes of what it does in DIRECTORY, for the test to read.
"""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
HUGE = 250_000


class Tools:
    """What the server can do, and a directory to keep notes in."""

    def __init__(self, notes: Path) -> None:
        self._notes = notes

    def count(self, text: str) -> str:
        """Counts the words of a text."""
        return str(len(text.split()))

    def write(self, text: str) -> str:
        """Writes a text down."""
        with (self._notes / "written").open("a") as file:
            file.write(f"{text}\n")
        return "Written."

    async def look(self, seconds: float) -> str:
        """Looks for a while, without harm."""
        return await self.slow(seconds)

    async def slow(self, seconds: float) -> str:
        """Takes its time, and notes when it is told to stop."""
        with (self._notes / "slow").open("a") as file:
            file.write(f"{os.getpid()}\n")
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            (self._notes / "cancelled").touch()
            raise
        return f"After {seconds:g} s."

    def picture(self) -> list[Any]:
        """Draws."""
        return ["A dot:", Image(data=PIXEL, format="png")]

    def broken(self) -> str:
        """Fails."""
        raise ToolError("no luck")

    def huge(self) -> str:
        """Says too much."""
        return "x" * HUGE

    def seen(self) -> str:
        """Tells which variables it sees."""
        return " ".join(sorted(os.environ))


def server_in(notes: Path) -> MCPServer:
    """Make a server with a tool of each kind."""
    server: Any = MCPServer("test")
    tools = Tools(notes)
    hints: dict[Any, ToolAnnotations] = {
        tools.count: ToolAnnotations(read_only_hint=True),
        tools.look: ToolAnnotations(idempotent_hint=True),
    }
    for tool in (tools.count, tools.look, tools.write, tools.slow, tools.broken, tools.huge):
        server.add_tool(tool, annotations=hints.get(tool))
    server.add_tool(tools.picture, structured_output=False)
    server.add_tool(tools.seen, name="seen.by/it")

    @server.tool()
    async def grow(ctx: Context[Any, Any]) -> str:  # pyright: ignore[reportUnusedFunction]
        """Adds a tool."""
        server.add_tool(tools.count, name="more", description="Came later.")
        await ctx.notify_tools_changed()
        return "Grown."

    return server


@asynccontextmanager
async def on_loopback(notes: Path, port: int = 0) -> AsyncGenerator[str]:
    """Serve over streamable HTTP; give the URL. Leaving cuts every connection."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    config = uvicorn.Config(
        server_in(notes).streamable_http_app(),
        log_config=None,
        timeout_graceful_shutdown=0,
        ws="none",
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await serving


if __name__ == "__main__":
    server_in(Path(sys.argv[1])).run()
