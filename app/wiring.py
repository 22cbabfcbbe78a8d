"""The composition root: settings in, an ASGI application out."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from app.execute import Execute
from app.log import Log
from app.providers.catalogue import Catalogue, ProviderSettings
from app.settings import Settings
from app.sqlite import SQLiteStore
from app.step import Steps
from app.tail import Tail
from app.web import routes
from app.web.errors import EXCEPTION_HANDLERS
from app.web.limits import BodyLimit
from app.web.services import Services
from app.windows import Windows
from app.worker import Worker

MS_PER_S = 1000


def application(settings: Settings) -> Starlette:
    """Make the application. Its lifespan opens the database and starts the worker.

    `app.state.begin_shutdown` sends every open stream home; call it before waiting for them.
    """
    running: list[Services] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        async with Log(SQLiteStore(settings.database_path)) as log:
            services = services_of(settings, log)
            worker = worker_of(services)
            running.append(services)
            app.state.begin_shutdown = services.tail.close
            await worker.start()
            try:
                yield
            finally:
                services.tail.close()
                await worker.stop()
                await services.catalogue.close()

    app = Starlette(
        routes=routes(lambda: running[-1]),
        lifespan=lifespan,
        exception_handlers=EXCEPTION_HANDLERS,
        middleware=[Middleware(BodyLimit, bytes_max=settings.body_bytes_max)],
    )
    app.state.begin_shutdown = _nothing
    return app


def _nothing() -> None:
    """Shut nothing down: nothing has been started."""


def services_of(settings: Settings, log: Log) -> Services:
    """Make what handlers work with."""
    return Services(
        settings=settings,
        log=log,
        execute=Execute(log),
        tail=Tail(log),
        windows=Windows(log),
        catalogue=Catalogue(_provider_settings(settings)),
    )


def worker_of(services: Services) -> Worker:
    """Make the worker of this process."""
    settings = services.settings
    steps = Steps(
        services.log,
        services.execute,
        services.windows,
        services.catalogue,
        by=f"worker:{settings.node}",
        pace_s=settings.delta_pace_ms / MS_PER_S,
    )
    return Worker(
        services.log,
        services.execute,
        steps,
        services.catalogue,
        node=settings.node,
        runs_at_once_max=settings.runs_at_once_max,
    )


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
