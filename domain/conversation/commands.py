"""What can be asked of a conversation."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from domain.compaction import CompactionTrigger
from domain.content import Approval, Content, ToolAnswer, ToolSchema
from domain.conversation.compaction_facts import (
    WindowCompacted,
    WindowCompactionFailed,
)
from domain.conversation.facts import (
    ConversationChanged,
    ConversationSettings,
    Parent,
    System,
)
from domain.conversation.import_commands import (
    ImportCompaction,
    ImportMessages,
)
from domain.conversation.memory_facts import ConsolidationFinished
from domain.event import Command
from domain.run import (
    CancelReason,
    EndRun,
    FinishReason,
    Manifest,
    OfferedTool,
    OnBusy,
    RunRequest,
    StepDelta,
    StepPart,
    ToolSource,
    ToolStatus,
    Usage,
)
from domain.sleeptime import Consolidates, Sleeptime


@dataclass(frozen=True, slots=True)
class StartConversation(Command):
    """Begin; as a fork of `parent` in a state that was seeded with the parent's."""

    agent_id: str
    system: System
    settings: ConversationSettings
    parent: Parent | None = None
    isolated: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    consolidates: Consolidates | None = None


@dataclass(frozen=True, slots=True)
class ChangeConversation(Command):
    """Set what `changes` sets."""

    changes: ConversationChanged


@dataclass(frozen=True, slots=True)
class DeleteConversation(Command):
    """Put an end to it and to its runs."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message of a request, with the id that the caller of `decide` has drawn for it.

    `name` and `sender_id` are what the client says of who said it.
    """

    message_id: str
    otid: str
    role: Literal["user", "system", "assistant"]
    content: Content
    name: str | None = None
    sender_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewApproval:
    """A client's answers to the tool calls that wait for it."""

    message_id: str
    otid: str
    answers: tuple[Approval | ToolAnswer, ...]


@dataclass(frozen=True, slots=True)
class QueueRun(Command):
    """Take in a request and its messages; nothing happens if its keys are known.

    `tools` are those that the client runs itself.
    """

    run_id: str
    request: RunRequest
    messages: tuple[NewMessage, ...]
    on_busy: OnBusy
    body_hash: str
    keys: tuple[str, ...] = ()
    tools: tuple[ToolSchema, ...] = ()
    approval: NewApproval | None = None


@dataclass(frozen=True, slots=True)
class CancelRuns(Command):
    """Have runs stop, all that are not over if `run_ids` is None, and pending approvals denied."""

    run_ids: tuple[str, ...] | None = None
    reason: CancelReason = "user"


@dataclass(frozen=True, slots=True)
class HideRun(Command):
    """Take a run that is over out of lists and lookups."""

    run_id: str


@dataclass(frozen=True, slots=True)
class RecordCallback(Command):
    """Note what came of a run's callback."""

    run_id: str
    attempts: int
    status_code: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimRun(Command):
    """Make a run a worker's own, under the next epoch.

    A `forgetful` agent's new turn begins in an empty window.
    """

    run_id: str
    epoch: int
    node: str
    agent_version: int
    model: str
    settings: dict[str, Any]
    context_window: int
    tools: tuple[OfferedTool, ...] = ()
    forgetful: bool = False
    sleeptime: Sleeptime | None = None


@dataclass(frozen=True, slots=True)
class JoinSteers(Command):
    """Let the messages that came to steer a run into the window."""

    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class StartStep(Command):
    """Note that the model is about to be called."""

    run_id: str
    epoch: int
    step_id: str
    index: int
    attempt: int
    message_id: str
    model: str
    settings: dict[str, Any]
    manifest: Manifest
    gated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AppendDeltas(Command):
    """Keep what the model has said since last time."""

    run_id: str
    epoch: int
    deltas: tuple[StepDelta, ...]


@dataclass(frozen=True, slots=True)
class FinishStep(Command):
    """Keep the end of a reply: its last deltas, its parts, what it came to."""

    run_id: str
    epoch: int
    s: int
    outcome: Literal["ok", "interrupted"]
    deltas: tuple[StepDelta, ...] = ()
    parts: tuple[StepPart, ...] = ()
    usage: Usage | None = None
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class SupersedeStep(Command):
    """Drop an attempt at a step that failed; it is to be taken again after a pause."""

    run_id: str
    epoch: int
    s: int
    reason: Literal["provider_error", "context_exceeded", "timeout"]
    delay_ms: int = 0


@dataclass(frozen=True, slots=True)
class StartTool(Command):
    """Note that the server is about to run a tool."""

    run_id: str
    epoch: int
    s: int
    tool_call_id: str
    idempotent: bool


@dataclass(frozen=True, slots=True)
class FinishTool(Command):
    """Keep what a tool call came to."""

    run_id: str
    epoch: int
    s: int
    tool_call_id: str
    status: ToolStatus
    content: Content
    source: ToolSource = "server"
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None
    effects: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class FinishRun(Command):
    """End a run."""

    ending: EndRun


@dataclass(frozen=True, slots=True)
class StartCompaction(Command):
    """Note that messages are about to be summarised, by a run's worker or for a person.

    `instead_of` names a compaction under way that nobody is at any more.
    """

    compaction_id: str
    trigger: CompactionTrigger
    event_id: str
    tokens: int
    context_window: int
    run_id: str | None = None
    epoch: int = 0
    s: int | None = None
    instead_of: str | None = None


@dataclass(frozen=True, slots=True)
class RecordCompaction(Command):
    """Have items leave the window, with a summary in their place."""

    event: WindowCompacted


@dataclass(frozen=True, slots=True)
class FailCompaction(Command):
    """Note that a compaction came to nothing."""

    event: WindowCompactionFailed


@dataclass(frozen=True, slots=True)
class UndoCompaction(Command):
    """Bring back what a compaction evicted."""

    compaction_id: str


@dataclass(frozen=True, slots=True)
class RedoCompaction(Command):
    """Have a compaction hold again that was undone; `message_ids` are all that would leave."""

    compaction_id: str
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PinMessage(Command):
    """Keep a message in the window whatever is compacted, or let it go again."""

    message_id: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class RecompileSystem(Command):
    """Replace the system prompt in the window."""

    system: System
    reason: str


@dataclass(frozen=True, slots=True)
class ResetWindow(Command):
    """Leave nothing in the window and in lists but the system prompt, compiled anew."""

    system: System


@dataclass(frozen=True, slots=True)
class QueueConsolidation(Command):
    """Have what was said after an offset worked into memory; None is where the last one ended."""

    consolidation_id: str
    terms: Sleeptime
    after: int | None = None


@dataclass(frozen=True, slots=True)
class FinishConsolidation(Command):
    """Note what a consolidation came to."""

    event: ConsolidationFinished


@dataclass(frozen=True, slots=True)
class SettleProposal(Command):
    """Accept what a consolidation proposed, with the block's version since then, or turn it down."""

    consolidation_id: str
    accepted: bool
    version: int | None = None


ConversationCommand: TypeAlias = (
    StartConversation
    | ChangeConversation
    | DeleteConversation
    | QueueRun
    | ImportMessages
    | ImportCompaction
    | CancelRuns
    | HideRun
    | RecordCallback
    | ClaimRun
    | JoinSteers
    | StartStep
    | AppendDeltas
    | FinishStep
    | SupersedeStep
    | StartTool
    | FinishTool
    | FinishRun
    | StartCompaction
    | RecordCompaction
    | FailCompaction
    | UndoCompaction
    | RedoCompaction
    | PinMessage
    | RecompileSystem
    | ResetWindow
    | QueueConsolidation
    | FinishConsolidation
    | SettleProposal
)
