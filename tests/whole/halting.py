"""An Everlog that stands still before writes that it was told of: `-m tests.whole.halting`.

`HALTS` has a place for each consolidation that is asked for while it runs, in their order, such as
`InsertPassage:2`: before it writes that command for the second time, nothing more is done for this
consolidation. All else goes on. Where one stands still is told in a file, so that whoever reads it
can kill the process at just that moment.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from app.cli import main
from app.execute import Execute
from domain.conversation import ConsolidationQueued
from domain.event import Command
from domain.streams import BLOCK, derived_id

HALTS_VARIABLE: Final = "HALTS"
TOLD_VARIABLE: Final = "HALTS_TOLD"


@dataclass(slots=True)
class Halt:
    """A consolidation of the conversation `source`, and the place where it is to stand still."""

    source: str
    asked: ConsolidationQueued
    place: str
    written: Counter[str] = field(default_factory=Counter[str])

    def reached(self, stream: str, command: Command) -> bool:
        """Count a command of this consolidation; tell whether it is the one."""
        if not self._mine(stream, command):
            return False
        name = type(command).__name__
        self.written[name] += 1
        return self.place == f"{name}:{self.written[name]}"

    def _mine(self, stream: str, command: Command) -> bool:
        inner = self.asked.conversation_id
        made = derived_id(BLOCK, self.asked.consolidation_id)
        cause = getattr(command, "cause", None)
        return (
            stream in (self.source, inner, made)
            or getattr(command, "block_id", None) == made
            or (cause is not None and cause.stream == inner)
        )


class Halting:
    """What is done before and after each command of a process."""

    def __init__(self, places: list[str], told: Path) -> None:
        self._places = places
        self._told = told
        self._halts: list[Halt] = []
        self._write = Execute.__call__

    async def __call__(self, execute: Execute, stream: str, command: Command, by: str) -> list[Any]:
        for one in self._halts:
            if one.reached(stream, command):
                with self._told.open("a") as file:
                    file.write(f"{one.source}\n")
                await asyncio.Event().wait()
        facts = await self._write(execute, stream, command, by)
        for asked in (fact.event for fact in facts if isinstance(fact.event, ConsolidationQueued)):
            place = self._places[len(self._halts)] if len(self._halts) < len(self._places) else ""
            self._halts.append(Halt(stream, asked, place))
        return facts


if __name__ == "__main__":
    halting = Halting(
        os.environ.pop(HALTS_VARIABLE).split(","), Path(os.environ.pop(TOLD_VARIABLE))
    )

    async def written(self: Execute, stream: str, command: Command, by: str) -> list[Any]:
        """Stand in for `Execute.__call__`."""
        return await halting(self, stream, command, by)

    Execute.__call__ = written
    main()
