"""What can be asked of a conversation."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from domain.content import Content
from domain.conversation.facts import ConversationChanged, ConversationSettings, System
from domain.event import Command
from domain.run import (
    EndRun,
    FinishReason,
    Manifest,
    OnBusy,
    RunRequest,
    StepDelta,
    StepPart,
    Usage,
)


@dataclass(frozen=True, slots=True)
class StartConversation(Command):
    """Begin."""

    agent_id: str
    system: System
    settings: ConversationSettings


@dataclass(frozen=True, slots=True)
class ChangeConversation(Command):
    """Set what `changes` sets."""

    changes: ConversationChanged


@dataclass(frozen=True, slots=True)
class DeleteConversation(Command):
    """Put an end to it and to its runs."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message of a request, with the id that the caller of `decide` has drawn for it."""

    message_id: str
    otid: str
    role: Literal["user", "system", "assistant"]
    content: Content


@dataclass(frozen=True, slots=True)
class QueueRun(Command):
    """Take in a request and its messages."""

    run_id: str
    request: RunRequest
    messages: tuple[NewMessage, ...]
    on_busy: OnBusy
    body_hash: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClaimRun(Command):
    """Make a run a worker's own, under the next epoch."""

    run_id: str
    epoch: int
    node: str
    agent_version: int
    model: str
    settings: dict[str, Any]
    context_window: int


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
class FinishRun(Command):
    """End a run."""

    ending: EndRun


ConversationCommand: TypeAlias = (
    StartConversation
    | ChangeConversation
    | DeleteConversation
    | QueueRun
    | ClaimRun
    | StartStep
    | AppendDeltas
    | FinishStep
    | FinishRun
)
