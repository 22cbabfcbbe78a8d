"""The database that commands work on, and what is wrong with it in one line."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from eventsourcing.persistence import PersistenceError

from app.commands import MISUSED, CommandFailed
from app.settings import BadSetting, Settings, load
from app.sqlite import DatabaseInUse, NewerSchema, SQLiteStore


@contextmanager
def in_words(settings: Settings) -> Generator[None]:
    """Turn what an operator can mend into one line. Raises CommandFailed."""
    try:
        yield
    except (DatabaseInUse, NewerSchema) as error:
        raise CommandFailed(str(error)) from error
    except (PersistenceError, sqlite3.Error, OSError) as error:
        raise CommandFailed(f"Cannot use {settings.database_path}: {error}") from error


def settings_of(**given: str | int | None) -> Settings:
    """Read the settings. Raises CommandFailed."""
    try:
        return load(**given)
    except BadSetting as error:
        raise CommandFailed(str(error), MISUSED) from error


@contextmanager
def opened(database: str | None) -> Generator[SQLiteStore]:
    """Open a database that exists and that no server has open. Raises CommandFailed."""
    settings = settings_of(database_url=database)
    if not settings.database_path.is_file():
        raise CommandFailed(f"There is no database {settings.database_path}.")
    with in_words(settings):
        store = SQLiteStore(settings.database_path)
        try:
            yield store
        finally:
            store.close()
