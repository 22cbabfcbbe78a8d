"""What decisions about a conversation need to know, bounded."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from domain.content import ToolSchema
from domain.conversation.facts import (
    ConversationSettings,
)
from domain.conversation.lineage import Lineage
from domain.conversation.memory_state import MemoryState
from domain.conversation.records import Answered, Asked, KeyUse, Orphan, WaitingMessage
from domain.conversation.window_state import WindowState
from domain.run import (
    Run,
    Turn,
)
from domain.sleeptime import Consolidates


@dataclass(frozen=True, slots=True)
class Conversation:
    """What decisions need, bounded: the runs that are not over, in the order of their turns.

    `keys` are the newest idempotency keys; `keys_forgotten` tells that there were older ones.
    `isolated` names blocks of the agent with the copies that stand for them here. `version` is the
    newest fact's, but deltas are not counted: there are none after a run's end. All other offsets in
    it are places (see `lineage`); a fork begins with its `orphans` to close.
    """

    agent_id: str | None = None
    deleted: bool = False
    settings: ConversationSettings = field(default_factory=ConversationSettings)
    archived: bool = False
    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))
    waiting: tuple[WaitingMessage, ...] = ()
    asked: Asked | None = None
    answered: tuple[Answered, ...] = ()
    last_turn: Turn = field(default_factory=Turn)
    keys: Mapping[str, KeyUse] = field(default_factory=lambda: MappingProxyType({}))
    keys_forgotten: bool = False
    tool_lists: tuple[tuple[str, int], ...] = ()
    window: WindowState = field(default_factory=WindowState)
    isolated: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    memory: MemoryState = field(default_factory=MemoryState)
    consolidates: Consolidates | None = None
    lineage: Lineage = field(default_factory=Lineage)
    orphans: tuple[Orphan, ...] = ()
    # Where a state is belongs to no comparison of what it is.
    version: int = field(default=0, compare=False)

    @property
    def next_run(self) -> Run | None:
        """The run whose turn it is; none while tool calls wait for the client."""
        return None if self.asked else self.first_run

    @property
    def first_run(self) -> Run | None:
        """The run that is active, or will be next."""
        return next((run for run in self.runs.values() if run.joined is None), None)

    @property
    def steers(self) -> tuple[WaitingMessage, ...]:
        """The messages that wait to join the run under way, not one that came before it."""
        host = self.next_run
        return tuple(
            item
            for item in self.waiting
            if host is not None and self._is_for(item.message.run_id, host.run_id)
        )

    def _is_for(self, run_id: str, host: str) -> bool:
        run = self.runs[run_id]
        return run.host == host and not run.cancelled


def digest_of(tools: Sequence[ToolSchema]) -> str:
    """Name a list of tools by its content."""
    spelled = "\n".join(one.model_dump_json(exclude_none=True) for one in tools)
    return hashlib.sha256(spelled.encode()).hexdigest()
