"""Connections to MCP servers through the protocol's own package.

Only `app.tools.mcp` imports this, when a server is configured: it takes a third of a second and
30 MB.
"""

import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, cast

import anyio
import httpx2
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client import IncomingMessage, Transport
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp_types import (
    CONNECTION_CLOSED,
    INVALID_REQUEST,
    Implementation,
    Tool,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError
from pydantic_core import to_json

from app.mcp_config import HttpServer, McpServer, StdioServer
from app.tools import ToolFailed
from app.tools.mcp_link import Link, Listed, Lost
from app.tools.mcp_results import content_of, words_of
from domain.content import Content

ANSWER_S_MAX: Final = 30.0
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
CONNECT_S_MAX: Final = 10.0
# Calls end by the toolbox's patience, which is at most an hour; this one never comes first.
CALL_S_MAX: Final = 2 * 3600.0
TOOLS_MAX, PAGES_MAX = 512, 64
SCHEMA_BYTES_MAX: Final = 64 * 1024
WHY_CHARS_MAX: Final = 300
logger = logging.getLogger(__name__)
# Its lines hold what servers say, which may be anything.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


@asynccontextmanager
async def connected(server: McpServer, news: Callable[[], None]) -> AsyncGenerator[Link]:
    """Connect to a server and greet it. `news` is called when its tools may have changed.

    Raises Lost, also later on, for whatever befalls the connection.
    """

    async def hear(message: IncomingMessage) -> None:
        if isinstance(message, ToolListChangedNotification):
            news()

    transport = _Watched(_transport(server), news)
    client = Client(
        transport,
        read_timeout_seconds=ANSWER_S_MAX,
        message_handler=hear,
        client_info=Implementation(name="everlog", version="1"),
        cache=None,
    )
    try:
        async with client, anyio.create_task_group() as tasks:
            tasks.start_soon(_follow, client, news)
            yield _Session(client, transport)
            tasks.cancel_scope.cancel()
    except Exception as error:
        raise Lost(_why(error)) from error


def _transport(server: McpServer) -> Transport:
    match server:
        case StdioServer():
            given = StdioServerParameters(
                command=server.command, args=server.args, env=server.env, cwd=server.cwd
            )
            # What the process says on its stderr is the operator's to read, with our own.
            return stdio_client(given, errlog=sys.__stderr__ or sys.stderr)
        case HttpServer():
            return _over_http(server)


@asynccontextmanager
async def _over_http(server: HttpServer) -> AsyncGenerator[Any]:
    # Reading waits as long as a call may take: others see to it that it ends.
    timeout = httpx2.Timeout(CONNECT_S_MAX, read=None)
    async with (
        httpx2.AsyncClient(
            headers=server.headers, timeout=timeout, event_hooks={"response": [_bound]}
        ) as http,
        streamable_http_client(server.url, http_client=http) as streams,
    ):
        yield streams


async def _bound(response: httpx2.Response) -> None:
    """Have an answer that is one document end at a bound; of a stream the package bounds each event."""
    streams = response.headers.get("content-type", "").startswith("text/event-stream")
    if not streams and isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    """Bytes, so many at most."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            size += len(chunk)
            if size > ANSWER_BYTES_MAX:
                raise httpx2.StreamError(f"more than {ANSWER_BYTES_MAX} bytes")
            yield chunk

    async def aclose(self) -> None:
        """Read no more."""
        await self._stream.aclose()


async def _follow(client: Client, news: Callable[[], None]) -> None:
    """Hear of changes from a server of the newer protocol; older ones tell without being asked."""
    if client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return
    try:
        async with client.listen(tools_list_changed=True) as changes:
            async for _ in changes:
                news()
    except (MCPError, ListenNotSupportedError, SubscriptionLost, TimeoutError):
        return  # the tools are listed again once a minute


def _why(error: BaseException) -> str:
    """Say what went wrong, without what may be secret: an address, a header, a command."""
    if isinstance(error, BaseExceptionGroup):
        return _why(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    match error:
        case Lost():
            return str(error)
        case MCPError():
            return error.message[:WHY_CHARS_MAX]
        case OSError(strerror=str(words)):
            return words
        case _:
            return type(error).__name__


class _Session:
    """A connection that has been greeted."""

    def __init__(self, client: Client, transport: "_Watched") -> None:
        self._client = client
        self._transport = transport

    @property
    def ended(self) -> bool:
        """Tell whether the server has gone."""
        return self._transport.ended

    async def listed(self) -> Sequence[Listed]:
        """List the server's tools, so many at most."""
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(PAGES_MAX):
            page = await self._client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or len(found) > TOOLS_MAX:
                break
        if cursor is not None or len(found) > TOOLS_MAX:
            logger.warning("an MCP server lists too many tools; the first %d are taken", TOOLS_MAX)
        return [_listed(tool) for tool in found[:TOOLS_MAX] if _fits(tool)]

    async def call(self, name: str, arguments: dict[str, Any]) -> Content:
        """Call a tool. Raises ToolFailed or Lost."""
        try:
            result = await self._client.call_tool(name, arguments, CALL_S_MAX)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise Lost(_why(error)) from error
            if error.code == INVALID_REQUEST:  # the session has ended, most often
                raise Lost(_why(error), sent=False) from error
            raise ToolFailed(error.message[:WHY_CHARS_MAX]) from error
        except (anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
            raise Lost(_why(error), sent=False) from error
        except (RuntimeError, ValidationError) as error:
            raise ToolFailed("The tool's result was not what its server declares.") from error
        if result.is_error:
            raise ToolFailed(words_of(result))
        return content_of(result)


def _fits(tool: Tool) -> bool:
    size = len(to_json(tool.input_schema))
    if size > SCHEMA_BYTES_MAX:
        logger.warning("an MCP tool's schema is too large (%d bytes); it is left out", size)
    return size <= SCHEMA_BYTES_MAX


def _listed(tool: Tool) -> Listed:
    hints = tool.annotations
    harmless = hints is not None and bool(hints.read_only_hint or hints.idempotent_hint)
    return Listed(tool.name, tool.description or tool.title, tool.input_schema, harmless)


class _Watched:
    """A transport that tells of its end: the package does not."""

    def __init__(self, transport: Transport, news: Callable[[], None]) -> None:
        self.ended = False
        self._transport = transport
        self._news = news

    async def __aenter__(self) -> tuple[Any, Any]:
        read, write = await self._transport.__aenter__()
        return _Reading(read, self._end), write

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return await self._transport.__aexit__(kind, error, trace)

    def _end(self) -> None:
        self.ended = True
        self._news()


class _Reading:
    """A stream of messages, that says when there will be no more."""

    def __init__(self, stream: Any, end: Callable[[], None]) -> None:
        self._stream = stream
        self._end = end

    @property
    def last_context(self) -> Any:
        """In what context the last message was sent."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        """Give the next message."""
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._end()
            raise

    async def aclose(self) -> None:
        """Read no more."""
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
