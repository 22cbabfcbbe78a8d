"""The database that commands work on, and what is wrong with it in one line."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from eventsourcing.persistence import PersistenceError

from app.commands import MISUSED, CommandFailed
from app.settings import BadSetting, Settings, load, shown, sqlite_path
from app.storage.databases import store_at, terms_of
from app.storage.store import Store, Terms, Unusable


@contextmanager
def in_words(database: str) -> Generator[None]:
    """Turn what an operator can mend into one line. Raises CommandFailed."""
    try:
        yield
    except Unusable as error:
        raise CommandFailed(str(error)) from error
    except (PersistenceError, sqlite3.Error, OSError) as error:
        raise CommandFailed(f"Cannot use {database}: {error}".rstrip()) from error


def settings_of(**given: str | int | None) -> Settings:
    """Read the settings. Raises CommandFailed."""
    try:
        return load(**given)
    except BadSetting as error:
        raise CommandFailed(str(error), MISUSED) from error


@contextmanager
def opened(database: str | None, doing: str) -> Generator[Store]:
    """Open a database that exists, to work on all of it. Raises CommandFailed."""
    settings = settings_of(database_url=database)
    with opened_at(settings.database_url, patient(settings, doing)) as store:
        yield store


@contextmanager
def opened_at(url: str, terms: Terms, *, create: bool = False) -> Generator[Store]:
    """Open a database; a file must exist unless it may be created. Raises CommandFailed."""
    path = sqlite_path(url)
    if path is not None and not (create or path.is_file()):
        raise CommandFailed(f"There is no database {path}.")
    with in_words(shown(url)):
        store = store_at(url, terms)
        try:
            yield store
        finally:
            store.close()


def patient(settings: Settings, doing: str) -> Terms:
    """Give terms for work on a whole database, in which a statement may take long."""
    terms = terms_of(settings, doing)
    return Terms(terms.connect_timeout_s, 0, terms.lock_timeout_s, terms.name)
