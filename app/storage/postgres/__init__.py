"""The store on Postgres: any number of processes on one database.

Its tables are those of SQLite. The eventsourcing library's names and errors are kept, its recorder
is not: that one takes no connection URL, and its insert costs several times the CPU.
"""

from app.storage.postgres.schema import migrate
from app.storage.postgres.store import PostgresStore
from app.storage.store import Terms

__all__ = ["PostgresStore", "Terms", "migrate"]
