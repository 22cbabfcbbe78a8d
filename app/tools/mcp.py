"""Tools of MCP servers: which there are, kept up to date, and called.

Each server has a task of its own that connects, lists, lists again when told of changes and once a
minute, and connects again whenever the connection is lost. The package that speaks the protocol is
heavy, so it is imported when a server is configured, off the event loop.
"""

import asyncio
import hashlib
import importlib
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from anyio import CancelScope

from app.mcp_config import McpServer
from app.tools import SEPARATOR, Call, Tool, ToolFailed
from app.tools.mcp_link import Connect, Link, Listed, Lost
from domain.content import Content, ToolSchema

NAME_CHARS_MAX: Final = 64
DIGEST_CHARS: Final = 8
DESCRIPTION_CHARS_MAX: Final = 8192
REFRESH_S: Final = 60.0
SPACING_S: Final = 0.05
PAUSE_S_MIN, PAUSE_S_MAX = 0.5, 60.0
# A call that finds no connection waits so long for each of so many tries: the first may have begun
# before, and be about to fail.
TRIES: Final = 3
PATIENCE_S: Final = 3.0
CLOSE_S_MAX: Final = 10.0
# What every vendor takes in a tool's name.
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]")
logger = logging.getLogger(__name__)


class McpTool:
    """A tool of a server, under the name that models are told."""

    def __init__(self, connection: "Connection", listed: Listed) -> None:
        self.idempotent = listed.idempotent
        self.schema = ToolSchema(
            name=exposed(connection.name, listed.name),
            description=(listed.description or "")[:DESCRIPTION_CHARS_MAX] or None,
            parameters=listed.parameters,
        )
        self.server = connection.name
        self.listed_name = listed.name
        self._connection = connection

    async def run(self, arguments: dict[str, Any], call: Call) -> Content:  # noqa: ARG002 - what tools are given
        """Call it."""
        return await self._connection.call(self, arguments)


def exposed(server: str, tool: str) -> str:
    """Name a server's tool for models: safe for every vendor, and no two alike."""
    plain = f"{server}{SEPARATOR}{tool}"
    safe = _UNSAFE.sub("_", plain)
    if safe == plain and len(safe) <= NAME_CHARS_MAX:
        return safe
    digest = hashlib.sha256(tool.encode()).hexdigest()[:DIGEST_CHARS]
    return f"{safe[: NAME_CHARS_MAX - DIGEST_CHARS - 1]}_{digest}"


class Connection:
    """One server: a source of tools, and the task that keeps the connection to it."""

    def __init__(self, name: str, server: McpServer, connect: Connect | None = None) -> None:
        self.name = name
        self.server = server
        self.problem: str | None = None
        self.there = False
        self._connect = connect
        self._tools: dict[str, Tool] = {}
        self._gated: set[str] = set()
        self._link: Link | None = None
        self._settled = asyncio.Event()
        self._woken = asyncio.Event()
        self._tried = asyncio.Event()
        self._scope: CancelScope | None = None
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._pause_s = PAUSE_S_MIN
        self._calls = 0

    # --- a source of tools ----------------------------------------------------------------

    @property
    def tools(self) -> Mapping[str, Tool]:
        """The server's tools by name, as it last listed them."""
        return self._tools

    @property
    def settled(self) -> bool:
        """Tell whether it has listed its tools, or failed to be reached."""
        return self._settled.is_set()

    @property
    def connected(self) -> bool:
        """Tell whether it is there now."""
        return self._link is not None and not self._link.ended

    async def wait(self) -> None:
        """Wait until it has settled."""
        await self._settled.wait()

    def gates(self, name: str) -> bool:
        """Tell whether the operator wants a client's approval before a tool is run."""
        return name in self._gated

    async def call(self, tool: McpTool, arguments: dict[str, Any]) -> Content:
        """Call a tool, once more if the first call did no harm. Raises ToolFailed."""
        try:
            return await self._call(tool, arguments)
        except Lost as lost:
            if lost.sent and not tool.idempotent:
                raise self._broken_off() from None
        try:
            return await self._call(tool, arguments)
        except Lost:
            raise self._broken_off() from None

    async def _call(self, tool: McpTool, arguments: dict[str, Any]) -> Content:
        link = await self._reached()
        self._calls += 1
        try:
            return await link.call(tool.listed_name, arguments)
        except Lost:
            if self._link is link:
                self._link = None  # until it has listed its tools again
            self._woken.set()
            raise
        finally:
            self._calls -= 1

    def _broken_off(self) -> ToolFailed:
        return ToolFailed(
            f"The connection to the MCP server {self.name!r} broke off during the call. Whether "
            "the tool took effect is not known."
        )

    async def _reached(self) -> Link:
        """Give the connection; see to it that one is tried first. Raises ToolFailed."""
        for _ in range(TRIES):
            if self._link is not None and not self._link.ended:
                return self._link
            await self._try()
        why = f" ({self.problem})" if self.problem else ""
        raise ToolFailed(f"The MCP server {self.name!r} is away{why}. The tool was not run.")

    async def refresh(self) -> bool:
        """Have the tools listed anew; tell whether they were.

        If not, they stay as they were listed last, and the server is away.
        """
        for _ in range(TRIES):
            if await self._try():
                return True
        return False

    async def _try(self) -> bool:
        """Have the server reached, if it is not, and its tools listed; wait a little for it."""
        self._tried.clear()
        self._woken.set()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._tried.wait()
        except TimeoutError:
            return False
        return self.connected

    # --- its task -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect; nobody waits for it."""
        self._task = asyncio.create_task(self._keep(), name=f"mcp {self.name}")

    def begin_stop(self) -> None:
        """Begin to disconnect; nobody waits for it."""
        self._stopping = True
        self._woken.set()
        if self._link is None:
            self._break_off()

    async def stop(self) -> None:
        """Disconnect; a child process has ended afterwards."""
        self.begin_stop()
        if self._task is None:
            return
        _, late = await asyncio.wait([self._task], timeout=CLOSE_S_MAX)
        if late:
            self._break_off()
            await asyncio.wait(late, timeout=CLOSE_S_MAX)

    def _break_off(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _keep(self) -> None:
        with CancelScope() as self._scope:
            while not self._stopping:
                try:
                    await self._live()
                except Exception as error:  # noqa: BLE001 - whatever it is, the server is away
                    self._missed(error)
                self._woken.clear()
                self._tried.set()
                self._settled.set()
                await self._pause()

    async def _live(self) -> None:
        connect = self._connect or await asyncio.to_thread(_session_connect)
        self._woken.clear()
        try:
            async with connect(self.server, self._woken.set) as link:
                while not (self._stopping or link.ended):
                    self._woken.clear()
                    self._took(await link.listed())
                    self._linked_by(link)
                    self._tried.set()
                    await self._stale()
        finally:
            self._link = None
        if not self._stopping:
            raise Lost("it has gone")

    async def _stale(self) -> None:
        """Wait until the tools should be listed again: a while, and not all the time."""
        await asyncio.sleep(SPACING_S)
        while not await self._news(REFRESH_S) and self._calls:
            continue  # a server may do one thing at a time, and would seem to be gone

    async def _news(self, patience_s: float) -> bool:
        try:
            async with asyncio.timeout(patience_s):
                return await self._woken.wait()
        except TimeoutError:
            return False

    def _linked_by(self, link: Link) -> None:
        if self._link is None:
            logger.info("MCP server %s: %d tools", self.name, len(self._tools))
        self._link = link
        self.problem = None
        self._pause_s = PAUSE_S_MIN
        self._settled.set()

    def _took(self, listed: Sequence[Listed]) -> None:
        tools = [McpTool(self, one) for one in listed]
        self._tools = {tool.schema.name: tool for tool in tools}
        self._gated = {one.schema.name for one in tools if self.server.gates(one.listed_name)}
        self.there = True

    def _missed(self, error: Exception) -> None:
        problem = str(error) if isinstance(error, Lost) else type(error).__name__
        if problem != self.problem:
            logger.warning("MCP server %s is away: %s; trying again", self.name, problem)
        self.problem = problem

    async def _pause(self) -> None:
        """Wait before the next try, longer each time; a call that comes in ends the wait."""
        if not self._stopping:
            await self._news(self._pause_s)
            self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX)


def _session_connect() -> Connect:
    importlib.import_module("jsonschema")  # or the package does so in the middle of a call
    return cast("Connect", importlib.import_module("app.tools.mcp_session").connected)


class McpServers:
    """All servers that the operator has configured."""

    def __init__(self, servers: Mapping[str, McpServer], connect: Connect | None = None) -> None:
        self.connections = [Connection(name, one, connect) for name, one in servers.items()]

    def start(self) -> None:
        """Begin to connect to each."""
        for one in self.connections:
            one.start()

    def begin_stop(self) -> None:
        """Begin to disconnect from all: children that must be killed take two seconds."""
        for one in self.connections:
            one.begin_stop()

    async def stop(self) -> None:
        """Disconnect from all; child processes have ended afterwards."""
        await asyncio.gather(*(one.stop() for one in self.connections))
