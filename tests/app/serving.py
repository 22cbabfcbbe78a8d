"""A whole server in this process: its worker runs, and a client speaks to it without a socket.

It can be stopped, or killed with nothing more reaching the disk, and started again on its file.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import uuid4

import httpx2
import orjson
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Scope

from app.log import Log
from app.mapper import revive
from app.providers import Delta, ModelCard, Provider, Reply, Wire
from app.providers.catalogue import ROWS, Catalogue, ProviderSettings
from app.providers.catalogue import Row as ProviderRow
from app.settings import load
from app.tail import Tail
from app.web import routes
from app.web.errors import EXCEPTION_HANDLERS
from app.web.limits import BodyLimit
from app.web.services import Services
from app.wiring import consolidations_of, services_of, worker_of
from app.worker import Worker
from domain.agent import AgentSettings, CreateAgent
from domain.conversation import ConversationSettings, StartConversation
from domain.event import Event, Recorded
from domain.streams import AGENT, CONVERSATION, id_of
from projections.request import ModelRequest, canonical
from tests.app.faults import BreakableStore
from tests.databases import opened, url_at
from tests.examples import SYSTEM

GUARD_S: Final = 30.0

Said: TypeAlias = AsyncGenerator[Delta | Reply, None]
Script: TypeAlias = Callable[[ModelRequest], Said]


class Scripted:
    """A provider that plays its scripts in turn, the last one for ever."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> Said:
        script = self._scripts[min(len(self.requests), len(self._scripts) - 1)]
        self.requests.append(request)
        async for said in script(request):
            yield said

    async def models(self) -> tuple[ModelCard, ...]:
        return ()

    async def wire_of(self, request: ModelRequest) -> Wire | None:
        return Wire("POST", "/script", canonical(request).decode())

    async def count_tokens(self, request: ModelRequest) -> int | None:
        return len(canonical(request))

    async def close(self) -> None:
        pass


class Guarded(httpx2.ASGITransport):
    """Speaks to the application directly; a test that would hang fails instead."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        async with asyncio.timeout(GUARD_S):
            return await super().handle_async_request(request)


class Reader:
    """A client that reads a stream as it comes, which the client above cannot."""

    def __init__(self, app: ASGIApp, path: str, body: bytes = b"") -> None:
        self.begun = asyncio.Event()
        self.content = b""
        self._request: list[Message] = [{"type": "http.request", "body": body}]
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [],
        }
        self._reading = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if not self._request:
            await asyncio.Event().wait()
        return self._request.pop()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            self.begun.set()
        else:
            self.content += message["body"]

    async def whole(self) -> bytes:
        """Read to the end."""
        async with asyncio.timeout(GUARD_S):
            await self._reading
        return self.content


class Server:
    """A server on one file. `services` and `http` are those of its present life."""

    services: Services
    http: httpx2.AsyncClient
    store: BreakableStore
    tail: Tail
    worker: Worker

    def __init__(self, database: Path, provider: Provider | None, settings: dict[str, Any]) -> None:
        self.database = database
        self._settings = load(
            **{
                "database_url": url_at(database),
                "demo_word_delay_s": 0.01,
                "delta_pace_ms": 5,
                "model_retry_pause_s": 0.01,
                "node": "node-1",
            }
            | settings
        )
        self._provider = provider
        self._open = AsyncExitStack()

    async def start(self) -> None:
        self.store = BreakableStore(opened(self.database))
        log = await self._open.enter_async_context(Log(self.store))
        self.services = self._services(log)
        self.tail = self.services.tail
        self.worker = worker_of(self.services)
        self.http = await self._open.enter_async_context(self._client())
        self.services.mcp.start()
        await self.worker.start()
        self.consolidations = consolidations_of(self.services)
        await self.consolidations.start()

    def _services(self, log: Log) -> Services:
        provider = self._provider
        if provider is None:
            return services_of(self._settings, log)
        row = ProviderRow("script", None, None, lambda _: provider, lambda _: None)
        settings = ProviderSettings(
            word_delay_s=self._settings.demo_word_delay_s,
            context_windows=self._settings.context_windows,
        )
        return services_of(self._settings, log, Catalogue(settings, (*ROWS, row)))

    def _client(self) -> httpx2.AsyncClient:
        transport = Guarded(self.app, raise_app_exceptions=False)
        return httpx2.AsyncClient(transport=transport, base_url="http://test")

    @property
    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=routes(lambda: self.services),
            exception_handlers=EXCEPTION_HANDLERS,
            middleware=[Middleware(BodyLimit, bytes_max=self._settings.body_bytes_max)],
        )

    async def stop(self) -> None:
        """Go down in the order of a shutdown."""
        self.tail.close()
        await self.consolidations.stop()
        await self.worker.stop()
        await self.services.mcp.stop()
        await self.services.catalogue.close()
        await self._open.aclose()

    async def kill(self) -> None:
        """Go down as by a power cut: nothing more is stored."""
        self.store.broken = True
        await self.stop()

    # --- what tests begin with and look at ------------------------------------------------------

    async def agent(self, model: str = "demo/echo", **settings: Any) -> str:
        """Make an agent; give its id."""
        agent_id = id_of(AGENT, uuid4())
        command = CreateAgent(AgentSettings(name="guide", model=model, **settings))
        await self.services.execute(agent_id, command, "user")
        return agent_id

    async def conversation(
        self, agent_id: str | None = None, *, model: str = "demo/echo", **settings: Any
    ) -> str:
        """Make a conversation, with an agent of its own unless one is given; give its id."""
        conversation_id = id_of(CONVERSATION, uuid4())
        command = StartConversation(
            agent_id or await self.agent(model), SYSTEM, ConversationSettings(**settings)
        )
        await self.services.execute(conversation_id, command, "user")
        return conversation_id

    async def post(
        self, conversation_id: str, words: str = "Hello!", **more: Any
    ) -> httpx2.Response:
        """Send a message and wait for the whole answer, a stream unless `streaming=False`."""
        path = f"/v1/conversations/{conversation_id}/messages"
        return await self.http.post(path, json={"input": words, **more})

    async def reader(self, path: str, body: bytes = b"") -> Reader:
        """Post, and come back when the answer, which must be a stream, has begun."""
        reader = Reader(self.app, path, body)
        async with asyncio.timeout(GUARD_S):
            await reader.begun.wait()
        return reader

    async def get(self, path: str, **params: Any) -> Any:
        """Get JSON, which must be there."""
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def facts(self, stream: str) -> list[Recorded[Any]]:
        """Read a stream's facts."""
        return [revive(row) for row in await self.services.log.read(stream)]

    async def events(self, stream: str) -> list[Any]:
        """Read a stream's facts without where and when."""
        return [fact.event for fact in await self.facts(stream)]

    async def until(
        self, stream: str, true: Callable[[list[Recorded[Any]]], object]
    ) -> list[Recorded[Any]]:
        """Wait until `true` of a stream's facts; give them."""
        facts: list[Recorded[Any]] = []
        async with asyncio.timeout(GUARD_S):
            with self.tail.follow(stream, 0) as follower:
                while not true(facts):
                    facts += [revive(row) for row in await follower.next()]
        return facts

    async def until_there_is(self, stream: str, *kinds: type[Event]) -> list[Recorded[Any]]:
        """Wait until a stream holds a fact of each kind."""
        return await self.until(
            stream, lambda facts: set(kinds) <= {type(fact.event) for fact in facts}
        )


@asynccontextmanager
async def serving(
    database: Path, provider: Provider | None = None, **settings: Any
) -> AsyncGenerator[Server]:
    """Serve the file `database`; a `provider` is reached by handles that begin with `script/`."""
    server = Server(database, provider, settings)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def frames_of(body: bytes | str) -> list[dict[str, Any]]:
    """Parse a run's stream, which must be whole; the end mark is not among the frames."""
    text = body.decode() if isinstance(body, bytes) else body
    *blocks, rest = text.split("\n\n")
    assert rest == ""
    assert blocks[-1] == "data: [DONE]"
    return [orjson.loads(block.split("data: ", 1)[1]) for block in blocks[:-1]]


def kinds_of(frames: Sequence[dict[str, Any]]) -> list[str]:
    """Name the frames' types, neighbours of one type once."""
    kinds: list[str] = []
    for frame in frames:
        if not kinds or kinds[-1] != frame["message_type"]:
            kinds.append(frame["message_type"])
    return kinds
