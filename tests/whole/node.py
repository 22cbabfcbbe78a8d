"""One of several Everlogs on one database, each with a clock of its own: `-m tests.whole.node`.

The product gives a file to one process. Here the lock is left out, so that what keeps several nodes
of one database apart can be watched with nothing but a file. A Postgres is opened as it always is.
"""

import os
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from app import wiring
from app.cli import main
from app.log import Log, utc_now
from app.settings import sqlite_path
from app.storage.databases import opened
from app.storage.sqlite import SQLiteStore
from app.storage.store import Store

SKEW_VARIABLE: Final = "CLOCK_SKEW_S"


class SharedStore(SQLiteStore):
    """A file that other processes write to as well."""

    exclusive = False

    def _own(self) -> int:
        return os.open(os.devnull, os.O_RDONLY)


def skewed() -> datetime:
    """Read a clock that is wrong."""
    return utc_now() + timedelta(seconds=float(os.environ.get(SKEW_VARIABLE, "0")))


def shared(settings: wiring.Settings) -> Store:
    """Open a file without taking it."""
    path = sqlite_path(settings.database_url)
    return opened(settings) if path is None else SharedStore(path)


if __name__ == "__main__":
    wiring.opened = shared
    wiring.Log = partial(Log, clock=skewed)  # type: ignore[assignment, misc]
    main()
