"""The composition root: settings in, an ASGI application out."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.callbacks import Callbacks, Terms
from app.compaction.compactor import Compactor
from app.compaction.summariser import Summariser
from app.conditions import Conditions
from app.effects import Effects
from app.execute import Execute
from app.leases import Leases
from app.listening import Listener
from app.log import Log
from app.memory.archival import Archival
from app.memory.consolidating import Consolidating
from app.memory.consolidations import Consolidations
from app.memory.edits import Remembering
from app.memory.embeddings import Embeddings
from app.memory.renewing import Renewing
from app.memory.turns import Turns
from app.providers.catalogue import Catalogue, ProviderSettings
from app.providers.embedding_vendors import OpenAIEmbedder
from app.recall.search import Search
from app.retries import Retries
from app.settings import Settings
from app.step import Steps
from app.storage.databases import opened
from app.tail import Tail
from app.toolrun import ToolRunner
from app.tools import Tool, Toolbox
from app.tools.archival import ArchivalMemoryInsert, ArchivalMemorySearch
from app.tools.demo import DemoCount, DemoWait
from app.tools.mcp import McpServers
from app.tools.memory import MemoryInsert, MemoryReplace, MemoryRethink
from app.tools.recall import ConversationSearch, Recall
from app.tools.sleeptime import FinishRethinking, RethinkMemory, StoreMemories
from app.wakeups import Wakeups
from app.web import routes
from app.web.errors import EXCEPTION_HANDLERS
from app.web.hosts import KnownHosts
from app.web.limits import BodyLimit
from app.web.services import Services
from app.windows import Windows
from app.worker import Worker

MS_PER_S = 1000


def application(settings: Settings) -> Starlette:
    """Make the application. Its lifespan opens the database and starts the worker.

    `app.state.drain(grace_s)` finishes what is under way or hands it over, `app.state.begin_shutdown`
    sends every open stream home; call both before waiting for connections to end.
    """
    running: list[Services] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with log_of(settings) as log:
            services = services_of(settings, log)
            worker = worker_of(services)
            running.append(services)
            app.state.begin_shutdown = services.tail.close
            app.state.drain = _draining(worker, services.mcp)
            async with _at_work(services, worker):
                yield

    app = Starlette(
        routes=routes(lambda: running[-1]),
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[
            Middleware(KnownHosts, allowed=settings.allowed_hosts),
            Middleware(BodyLimit, bytes_max=settings.body_bytes_max),
        ],
    )
    app.state.begin_shutdown = _nothing
    app.state.drain = _idle
    return app


@asynccontextmanager
async def _at_work(services: Services, worker: Worker) -> AsyncGenerator[None]:
    """Have all that works in the background begin; what has begun is stopped, whatever fails.

    Stopped in the reverse order: the worker after those that have leases, as it lets go of all.
    """
    wakeups = Wakeups(services.log, services.tail.look, services.tail.heard, worker.heard)
    with_leases = (services.archival, consolidations_of(services), callbacks_of(services))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(services.catalogue.close)
        services.mcp.start()
        stack.push_async_callback(services.mcp.stop)
        for one in (wakeups, worker, *with_leases):
            stack.push_async_callback(one.stop)
            await one.start()
        stack.callback(services.tail.close)
        yield


def _draining(worker: Worker, mcp: McpServers) -> Callable[[float], Awaitable[None]]:
    async def drain(grace_s: float) -> None:
        await worker.drain(grace_s)
        mcp.begin_stop()  # no run uses them any more, and children may be slow to end

    return drain


def _nothing() -> None:
    """Shut nothing down: nothing has been started."""


async def _idle(_grace_s: float) -> None:
    """Finish nothing: nothing has been started."""


def log_of(settings: Settings) -> Log:
    """Open the log. A file that does not answer will not soon do so; a Postgres may come back."""
    store = opened(settings)
    patience_s = 0.0 if store.exclusive else settings.database_patience_s
    return Log(store, patience_s=patience_s, readers=settings.database_readers)


def services_of(settings: Settings, log: Log, catalogue: Catalogue | None = None) -> Services:
    """Make what handlers work with; the catalogue from the settings if none is given."""
    execute, windows = Execute(log), Windows(log)
    catalogue = catalogue or Catalogue(_provider_settings(settings))
    worker = f"worker:{settings.node}"
    archival = Archival(log, execute, embeddings_of(settings, log), worker=worker)
    tools = _tools_of(Search(log), archival, Remembering(execute, by=worker))
    mcp = McpServers(settings.mcp_servers)
    toolbox = Toolbox(tools, timeout_s=settings.tool_timeout_s, sources=mcp.connections)
    conditions = Conditions(execute, catalogue, toolbox)
    renewing = Renewing(execute, windows)
    listener = Listener(silence_s=settings.model_timeout_s, reply_s=settings.reply_timeout_s)
    summariser = Summariser(catalogue, listener, Retries(settings.model_retry_pause_s))
    percentage = settings.sliding_window_percentage
    return Services(
        settings=settings,
        log=log,
        execute=execute,
        tail=Tail(log),
        windows=windows,
        catalogue=catalogue,
        toolbox=toolbox,
        mcp=mcp,
        conditions=conditions,
        listener=listener,
        compactor=Compactor(
            log, execute, windows, conditions, summariser, node=settings.node, percentage=percentage
        ),
        archival=archival,
        consolidating=Consolidating(
            log,
            execute,
            conditions=conditions,
            archive=archival,
            renewing=renewing,
            turns=Turns(log, execute, Leases(log, settings.node)),
            by=worker,
        ),
        renewing=renewing,
    )


def _tools_of(past: Search, archival: Archival, memory: Remembering) -> tuple[Tool, ...]:
    return (
        *(DemoCount(), DemoWait()),
        *(ConversationSearch(past), Recall(past)),
        *(MemoryInsert(memory), MemoryReplace(memory), MemoryRethink(memory)),
        *(ArchivalMemoryInsert(archival), ArchivalMemorySearch(archival)),
    )


def embeddings_of(settings: Settings, log: Log) -> Embeddings | None:
    """Make what knows the meaning of passages, None without a model for it."""
    if settings.embedding_model is None:
        return None
    key = settings.openai_api_key
    embedder = OpenAIEmbedder(
        settings.embedding_model,
        None if key is None else key.get_secret_value(),
        settings.openai_base_url,
        dimensions=settings.embedding_dimensions,
        timeout_s=settings.model_timeout_s,
    )
    return Embeddings(log, embedder, Leases(log, settings.node))


def worker_of(services: Services) -> Worker:
    """Make the worker of this process."""
    settings, log, execute = services.settings, services.log, services.execute
    by = f"worker:{settings.node}"
    steps = Steps(
        log,
        execute,
        services.windows,
        services.catalogue,
        Retries(settings.model_retry_pause_s),
        listener=services.listener,
        by=by,
        pace_s=settings.delta_pace_ms / MS_PER_S,
    )
    work = services.consolidating
    own = (StoreMemories(work), RethinkMemory(work), FinishRethinking(work))
    consolidation = Toolbox(own, timeout_s=settings.tool_timeout_s)
    tools = ToolRunner(execute, services.toolbox, consolidation, by=by)
    effects = Effects(
        execute,
        steps,
        tools,
        services.compactor,
        services.conditions,
        node=settings.node,
    )
    leases = Leases(log, settings.node)
    return Worker(log, execute, effects, leases, runs_at_once_max=settings.runs_at_once_max)


def callbacks_of(services: Services) -> Callbacks:
    """Make what tells callers of the ends of their runs."""
    settings, secret = services.settings, services.settings.callback_secret
    terms = Terms(
        secret=None if secret is None else secret.get_secret_value().encode(),
        private=settings.callback_private_addresses,
        pause_s=settings.callback_pause_s,
    )
    leases = Leases(services.log, settings.node)
    return Callbacks(services.log, services.execute, leases, terms, by=f"callbacks:{settings.node}")


def consolidations_of(services: Services) -> Consolidations:
    """Make what has the consolidations of memory carried out."""
    return Consolidations(services.log, services.consolidating)


def _provider_settings(settings: Settings) -> ProviderSettings:
    key = settings.anthropic_api_key
    return ProviderSettings(
        anthropic_api_key=None if key is None else key.get_secret_value(),
        anthropic_base_url=settings.anthropic_base_url,
        default_model=settings.default_model,
        model_timeout_s=settings.model_timeout_s,
        context_windows=settings.context_windows,
        word_delay_s=settings.demo_word_delay_s,
    )
