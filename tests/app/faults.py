"""A store whose commits fail as told: before they are done, or after, when only the reply is lost."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from eventsourcing.persistence import OperationalError

from app.sqlite import SQLiteStore
from app.store import Sealed

Fault = Literal["none", "before", "after"]


class FaultyStore(SQLiteStore):
    """SQLite with a script of faults, one per commit; without one it works."""

    def __init__(self, path: Path, faults: Iterable[Fault] = ()) -> None:
        super().__init__(path)
        self.faults: list[Fault] = list(faults)

    def store(self, batch: Sequence[Sealed]) -> list[bool]:
        """Commit, or not, and answer, or not."""
        fault = self.faults.pop(0) if self.faults else "none"
        if fault == "before":
            raise OperationalError("the connection was lost before the commit")
        won = super().store(batch)
        if fault == "after":
            raise OperationalError("the connection was lost after the commit")
        return won
