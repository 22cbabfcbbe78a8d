"""The store on Postgres: any number of processes on one database.

Its tables are those of SQLite. The eventsourcing library's names and errors are kept, its recorder
is not: that one takes no connection URL, and its insert costs several times the CPU.
"""

from app.postgres.schema import migrate
from app.postgres.store import PostgresStore
from app.store import Terms

__all__ = ["PostgresStore", "Terms", "migrate"]
