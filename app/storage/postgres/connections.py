"""Connections to Postgres: one a thread, replaced when it is lost, and none that waits for ever.

The log's threads are few and known, so they are the pool: nothing is checked out, and a lost
connection costs one failed try.
"""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, LiteralString, TypeAlias

import psycopg
from eventsourcing import persistence
from psycopg import Connection, errors
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import _WaitTimeout as WaitTimeout  # pyright: ignore[reportPrivateUsage] - it has no public name

from app.storage.postgres import arrays
from app.storage.store import Terms

logger = logging.getLogger(__name__)
# It speaks of every connection that breaks; we do, once.
logging.getLogger("psycopg").setLevel(logging.ERROR)
TupleConnection: TypeAlias = Connection[tuple[Any, ...]]

# What is waited for beyond the server's own limit, so that the server's word comes first.
PATIENCE_MARGIN_S: Final = 1.0
MS_PER_S: Final = 1000
# A session's settings. A transaction whose client the network has swallowed lets go of its locks
# before others give up waiting for them. Whoever has turned `synchronous_commit` off would lose what
# we acknowledge; a stronger one than the usual is left as it is.
_SETTINGS: Final[LiteralString] = """
SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false),
       set_config('idle_in_transaction_session_timeout', %s, false),
       set_config('synchronous_commit', CASE current_setting('synchronous_commit')
                  WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""
# A transaction that the network has cut off in the middle of a message idles by no limit's rule: the
# server notices a peer that is gone within some 11 s, and from version 17 on ends any long transaction.
_PEER: Final[LiteralString] = """
SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_count', '3', false),
       set_config('tcp_keepalives_interval', '2', false)
"""
_WHOLE: Final[LiteralString] = "SELECT set_config('transaction_timeout', %s, false)"
WHOLE_SINCE: Final = 170_000
STATEMENTS_MAX: Final = 2
# Heads are locked in the order in which they are given, which only these plans keep: two processes
# that lock in two orders deadlock.
NESTED_LOOPS: Final = ("enable_hashjoin", "enable_mergejoin", "enable_seqscan")


class ConnectionLost(persistence.OperationalError):
    """The connection had died; another may do."""


class PatientConnection(Connection[tuple[Any, ...]]):
    """A connection that gives up waiting: the network may swallow an answer without a word."""

    patience_s: float | None = None
    pooled: bool = False
    ordered: bool = False

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """Wait for an answer, no longer than `patience_s`; then hang up, or others would wait again."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except WaitTimeout:
            if timeout is None:
                self.pgconn.finish()
            raise


class Connections:
    """Each thread's connection to one database."""

    def __init__(self, url: str, terms: Terms) -> None:
        """Use the database that a URL names. Raises eventsourcing's DatabaseError for no URL."""
        self._terms = terms
        try:
            self.conninfo = _conninfo(url, terms)
        except psycopg.Error as error:
            raise persistence.DatabaseError(said(error)) from error
        self.name = terms.name
        self._mine = threading.local()
        self._all: set[PatientConnection] = set()
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        # Why the database could not be reached when it was last tried.
        self._down: str | None = None
        self._closed = False

    @contextmanager
    def connection(self) -> Generator[PatientConnection]:
        """Give this thread's connection. Raises eventsourcing's PersistenceError, as it documents.

        OperationalError is what may go away by itself; whatever was asked may have been done.
        """
        try:
            yield self._usable()
        except psycopg.Error as error:
            lost = self._let_go_after(error)
            raise (ConnectionLost(said(error)) if lost else _translated(error)) from error

    @contextmanager
    def writing(self) -> Generator[PatientConnection]:
        """Give this thread's connection, which locks rows in the order they are given."""
        with self.connection() as connection:
            if not connection.ordered:
                for name in NESTED_LOOPS:
                    connection.execute("SELECT set_config(%s, 'off', false)", (name,))
                connection.ordered = True
            yield connection

    def _usable(self) -> PatientConnection:
        connection: PatientConnection | None = getattr(self._mine, "connection", None)
        if connection is not None and not connection.closed:
            return connection
        self._mine.connection = None
        connection = self._mine.connection = self._connected()
        with self._lock:
            self._all = {one for one in self._all if not one.closed} | {connection}
        return connection

    def _connected(self) -> PatientConnection:
        """Connect. While the database is away one thread tries, and the others fail at once."""
        if self._closed:
            raise errors.OperationalError("the database was closed")
        if self._down is None:
            return self._tried()
        if not self._probing.acquire(blocking=False):
            raise errors.OperationalError(self._down)
        try:
            return self._tried()
        finally:
            self._probing.release()

    def _tried(self) -> PatientConnection:
        try:
            connection = PatientConnection.connect(self.conninfo, autocommit=True)
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            if self._down is None:
                logger.warning("the database cannot be reached: %s", said(error))
            self._down = said(error)
            raise
        if self._down is not None:
            logger.warning("the database can be reached again")
        self._down = None
        return connection

    def _set_up(self, connection: PatientConnection) -> None:
        terms = self._terms
        if terms.statement_timeout_s:
            connection.patience_s = terms.statement_timeout_s + PATIENCE_MARGIN_S
        arrays.register(connection)
        found = connection.execute("SELECT pg_backend_pid()").fetchone()
        # A pooler makes up the number that it gives to its clients.
        connection.pooled = found is None or found[0] != connection.info.backend_pid
        if connection.pooled:
            # Behind one, each transaction may be on another session: none can be set up or prepared.
            connection.prepare_threshold = None
            connection.ordered = True
            return
        idle_s = terms.lock_timeout_s / 2
        limits = (terms.statement_timeout_s, terms.lock_timeout_s, idle_s)
        connection.execute(_SETTINGS, [_ms(one) for one in limits])
        connection.execute(_PEER)
        if connection.info.server_version >= WHOLE_SINCE:
            connection.execute(_WHOLE, (_ms(STATEMENTS_MAX * terms.statement_timeout_s),))

    def _let_go_after(self, error: psycopg.Error) -> bool:
        """Close a connection that cannot be trusted any more; tell whether another may do."""
        connection: PatientConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            return False  # there is none to be had
        # After a failover, what we are connected to may only be a standby.
        if connection.closed or isinstance(error, errors.ReadOnlySqlTransaction):
            self._mine.connection = None
            connection.close()
            return not isinstance(error, WaitTimeout | errors.ReadOnlySqlTransaction)
        return False

    def close(self) -> None:
        """Close every thread's connection."""
        self._closed = True
        with self._lock:
            for connection in self._all:
                connection.close()


def _ms(seconds: float) -> str:
    return f"{int(seconds * MS_PER_S)}ms"


def _conninfo(url: str, terms: Terms) -> str:
    """Add what the URL leaves open. Raises psycopg.ProgrammingError for one that is none."""
    given = conninfo_to_dict(url)
    ours = {
        "connect_timeout": max(1, round(terms.connect_timeout_s)),
        "application_name": terms.name,
    }
    return make_conninfo(url, **{name: one for name, one in ours.items() if name not in given})


def _translated(error: psycopg.Error) -> persistence.PersistenceError:
    """Give an error in the words that the log knows."""
    # The internal ones are of the system below the database, or of a standby: they pass, too.
    passing = (
        psycopg.OperationalError,
        psycopg.InterfaceError,
        psycopg.InternalError,
        errors.InsufficientPrivilege,
    )
    if isinstance(error, passing):
        return persistence.OperationalError(said(error))
    if isinstance(error, psycopg.IntegrityError):
        return persistence.IntegrityError(said(error))
    return persistence.DatabaseError(said(error))


def said(error: BaseException) -> str:
    """Give what an error says in one line; Postgres says more, for people at a prompt."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
