"""`everlog serve`: the server as a process, from its address to its end."""

import asyncio
import errno
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import typer
import uvicorn
from starlette.applications import Starlette

from app.commands import MISUSED, CommandFailed
from app.commands.database import in_words, settings_of
from app.commands.protocol import Protocol
from app.settings import Settings
from app.wiring import application

# Both together stay below 8 s: the time that a supervisor can count on.
DRAIN_S: Final = 5.0
GRACE_S: Final = 2
# Longer than clients keep an idle connection, so that none is closed as it is used again.
KEEP_ALIVE_S: Final = 75
# The log's writer commits beside a loop that parses models' streams. At Python's default of 5 ms each
# of a commit's few needs of the interpreter waits that long, and an acknowledgement several times it.
SWITCH_INTERVAL_S: Final = 0.0005
LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
ALONE: Final = "There is no authentication, so only this machine can reach it."
EXPOSED: Final = (
    "WARNING: there is no authentication, and other machines can reach this address: "
    "whoever does can read and change every conversation."
)


def run(host: str | None, port: int | None, database: str | None, *, insecure_public: bool) -> None:
    """Serve until told to stop. Raises CommandFailed."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    settings = settings_of(host=host, port=port, database_url=database)
    listener = bound(settings.host, settings.port, public=insecure_public)
    with in_words(settings.database):
        app = application(settings)
        server = Server(app, settings)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_serve(app, server, listener))


async def _serve(app: Starlette, server: "Server", listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    # Entered here rather than by uvicorn, which would answer an error with its traceback.
    async with app.router.lifespan_context(app):
        await server.serve(sockets=[listener])


class Server(uvicorn.Server):
    """Uvicorn, but it says when it is ready, sends followers home, and dies of no signal."""

    def __init__(self, app: Starlette, settings: Settings) -> None:
        super().__init__(_config(app))
        self._app = app
        self._settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, then say so."""
        (listener,) = sockets or []
        try:
            await super().startup(sockets)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise _unusable(host, port, error) from error
        if not self.should_exit:
            _announce(listener, self._settings)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish or hand over what is under way, then end open streams, which uvicorn waits for."""
        for server in self.servers:
            server.close()
        await self._app.state.drain(DRAIN_S)
        self._app.state.begin_shutdown()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave signals to the loop: uvicorn would raise them again and not exit with 0."""
        yield


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def _announce(listener: socket.socket, settings: Settings) -> None:
    host, port = listener.getsockname()[:2]
    typer.echo(f"Everlog listening on {_url(host, port)} (database {settings.database})")
    typer.echo(ALONE if ipaddress.ip_address(host).is_loopback else EXPOSED, err=True)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(host: str, port: int, *, public: bool) -> socket.socket:
    """Take the address, not listening yet. Raises CommandFailed."""
    family, address = _resolved(host, port)
    if not (public or ipaddress.ip_address(address[0]).is_loopback):
        raise CommandFailed(
            f"Everlog has no authentication, so it does not listen on {host}, where other machines "
            "could reach it, unless --insecure-public says that they may.",
            MISUSED,
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _unusable(address[0], port, error) from error
    return listener


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE, proto=socket.IPPROTO_TCP
        )
    except (OSError, UnicodeError) as error:
        raise CommandFailed(f"There is no address {host!r}: {error}", MISUSED) from error
    family, _, _, _, address = found[0]
    return family, (str(address[0]), port)


def _unusable(host: str, port: int, error: OSError) -> CommandFailed:
    if error.errno == errno.EADDRINUSE:
        return CommandFailed(
            f"Port {port} of {host} is in use by another program; choose another with --port."
        )
    return CommandFailed(f"Cannot listen on {_url(host, port)}: {error.strerror}")
