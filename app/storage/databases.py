"""From a database's URL to its store: the one place that knows which engines there are."""

from app.settings import Settings, sqlite_path
from app.storage.integrity import rebuild_tables
from app.storage.sqlite import SQLiteStore
from app.storage.store import Store, Terms


def terms_of(settings: Settings, doing: str = "serve") -> Terms:
    """Give how long to wait for a Postgres, and what it is told of us."""
    return Terms(
        connect_timeout_s=settings.database_connect_timeout_s,
        statement_timeout_s=settings.database_statement_timeout_s,
        lock_timeout_s=settings.database_lock_timeout_s,
        name=f"everlog {doing} {settings.node}",
    )


def store_at(url: str, terms: Terms) -> Store:
    """Open a database. Raises Unusable, or eventsourcing's PersistenceError."""
    path = sqlite_path(url)
    if path is not None:
        return SQLiteStore(path)
    # Whoever serves a file need not hold its driver in memory.
    from app.storage.postgres import PostgresStore  # noqa: PLC0415 - as above

    return PostgresStore(url, terms)


def opened(settings: Settings) -> Store:
    """Open the database to serve it; a file's read tables of an older form are written anew."""
    store = store_at(settings.database_url, terms_of(settings))
    if store.outdated:
        rebuild_tables(store)
        store.up_to_date()
    return store
