"""What can happen in a conversation, beside its runs."""

from datetime import datetime
from typing import Any, Literal

from domain.content import Content
from domain.event import Event, Value
from domain.run import CancelReason
from domain.sleeptime import Consolidates


class Counts(Value):
    """Numbers that the system prompt mentioned."""

    messages: int = 0
    passages: int = 0


class System(Value):
    """A compiled system prompt and what it was compiled from: each block's (id, version)."""

    text: str
    agent_version: int
    blocks: dict[str, tuple[str, int]]
    counts: Counts = Counts()


class Parent(Value):
    """Where a fork left its parent: after offset `at`, whose chain hash is `hash` (hex)."""

    conversation_id: str
    at: int
    hash: str


class ConversationSettings(Value):
    """What a caller may set; null is "not set"."""

    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: dict[str, Any] | None = None
    context_window_limit: int | None = None
    hidden: bool | None = None


class ConversationStarted(Event):
    """A conversation began.

    `isolated` names the blocks of the agent of which it has copies of its own: each one's copy.
    """

    type: Literal["conversation.started"] = "conversation.started"
    agent_id: str
    system: System
    settings: ConversationSettings = ConversationSettings()
    parent: Parent | None = None
    isolated: dict[str, str] | None = None
    consolidates: Consolidates | None = None


class ConversationChanged(Event):
    """Settings changed; only those that did are there."""

    type: Literal["conversation.changed"] = "conversation.changed"
    summary: str | None = None
    description: str | None = None
    model: str | None = None
    model_settings: dict[str, Any] | None = None
    context_window_limit: int | None = None
    hidden: bool | None = None
    archived: bool | None = None
    last_message_at: datetime | None = None


class ConversationDeleted(Event):
    """The conversation is gone from every list; its log stays."""

    type: Literal["conversation.deleted"] = "conversation.deleted"


class MessageQueued(Event):
    """A message waits for its run; it is not in the window yet.

    `name` and `sender_id` are what its caller says of who said it.
    """

    type: Literal["message.queued"] = "message.queued"
    message_id: str
    otid: str
    role: Literal["user", "system", "assistant"]
    content: Content
    mode: Literal["enqueue", "steer", "interrupt"]
    run_id: str
    name: str | None = None
    sender_id: str | None = None


class MessageAppended(Event):
    """A message entered the window; `queued` is the offset where it had waited.

    `said_at` is when it was said, if that was elsewhere, before it came here. `name` and `sender_id`
    are what its caller says of who said it.
    """

    type: Literal["message.appended"] = "message.appended"
    message_id: str
    otid: str
    role: Literal["user", "system", "assistant", "approval"]
    content: Content | None = None
    approvals: tuple[dict[str, Any], ...] | None = None
    run_id: str
    queued: int | None = None
    said_at: datetime | None = None
    name: str | None = None
    sender_id: str | None = None


class MessageWithdrawn(Event):
    """Messages that waited were taken back before they entered the window."""

    type: Literal["message.withdrawn"] = "message.withdrawn"
    message_ids: tuple[str, ...]
    reason: CancelReason


class WindowRolledBack(Event):
    """A turn left the window and the message list as if it had not been; its runs still show it.

    `through` has all leave that came up to this offset; `listed` keeps it in lists nevertheless.
    """

    type: Literal["window.rolled_back"] = "window.rolled_back"
    run_ids: tuple[str, ...]
    message_ids: tuple[str, ...]
    compaction_ids: tuple[str, ...] = ()
    through: int | None = None
    listed: bool | None = None
