"""Commands by which history comes in that was made elsewhere."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from domain.content import Content
from domain.conversation.compaction_facts import (
    WindowCompacted,
    WindowCompactionStarted,
)
from domain.event import Command
from domain.run import (
    StepPart,
    ToolSource,
    ToolStatus,
)


@dataclass(frozen=True, slots=True)
class SaidMessage:
    """A message that was said elsewhere, and that needs no call of a model to be told."""

    role: Literal["user", "system", "assistant"]
    content: Content
    said_at: datetime | None = None
    otid: str | None = None


@dataclass(frozen=True, slots=True)
class SaidReturn:
    """What a tool call came to elsewhere; `source` is who ran it, the client if nobody is named."""

    tool_call_id: str
    content: Content
    status: ToolStatus = "ok"
    said_at: datetime | None = None
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None
    source: ToolSource | None = None


@dataclass(frozen=True, slots=True)
class SaidReply:
    """A model's reply of elsewhere in its parts, with the returns of the calls among them.

    What `parts` say of their step is not looked at: it begins where the reply is put.
    """

    parts: tuple[StepPart, ...]
    returns: tuple[SaidReturn, ...] = ()
    interrupted: bool = False
    said_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ImportMessages(Command):
    """Take in what was said elsewhere, as a run that is over; nothing happens if its key is known."""

    run_id: str
    key: str
    body_hash: str
    said: tuple[SaidMessage | SaidReply, ...]


@dataclass(frozen=True, slots=True)
class ImportCompaction(Command):
    """Have leave the window what had left it elsewhere; nothing happens if that is known."""

    started: WindowCompactionStarted
    compacted: WindowCompacted
