"""What can happen to a conversation's window beside messages coming into it."""

from typing import Literal, TypeAlias

from domain.compaction import CompactionMode, CompactionSettings, CompactionTrigger
from domain.conversation.facts import System
from domain.event import Event, Value
from domain.retention import Retention
from domain.run import Span, Usage

CompactionFailure: TypeAlias = Literal[
    "nothing_to_evict",
    "unsafe_plan",
    "summariser_failed",
    "context_window_overflow",
    "empty_summary",
    "refused_summary",
    "not_smaller",
    "retention_too_low",
    "overtaken",
    "cancelled",
    "lost",
]


class Evicted(Value):
    """Which items left the window: all that stood there with an offset in one of the ranges."""

    ranges: tuple[Span, ...]


class Try(Value):
    """A place that was tried for a cut: `share` of the messages to evict, tokens left after it.

    `cut` counts from the system message, which is 0; null if no reply begins at or before it.
    """

    share: float
    cut: int | None = None
    tokens: int | None = None


class Attempt(Value):
    """A mode that was tried: where it looked for a cut, which model it asked, what came of it.

    `given` is how the summariser got the messages: whole, with its tool returns clamped, or with
    the middle of the transcript taken out. `sha256` names its request.
    """

    mode: CompactionMode
    goal: int | None = None
    tries: tuple[Try, ...] = ()
    model: str | None = None
    given: Literal["whole", "clamped", "cut"] | None = None
    sha256: str | None = None
    usage: Usage | None = None
    failure: CompactionFailure | None = None
    detail: str | None = None


class CompactionAudit(Value):
    """How a compaction was done, for whoever asks later why something is gone.

    `planned_at` is the offset of the window that was planned on. Messages are counted as they stood
    in the window, the system message and summaries among them. `tokens_after` is an estimate, in
    proportion to what the vendor reported before, unless `tokens_counted` says that the vendor
    has counted; `system_tokens` is the part of it that no compaction can take away. In a fork a
    cutoff of 0 or less is inherited: 0 is the offset at which the fork left its parent.
    """

    trigger: CompactionTrigger
    settings: CompactionSettings
    mode: CompactionMode
    model: str
    attempts: tuple[Attempt, ...]
    planned_at: int
    cutoff_before: int | None
    cutoff_after: int | None
    messages_before: int
    messages_after: int
    tokens_before: int
    tokens_after: int
    tokens_counted: bool = False
    system_tokens: int
    context_window: int
    retention: Retention
    duration_ms: int


class WindowCompactionStarted(Event):
    """Messages are being summarised; nothing has left the window yet. `s` is the step before it."""

    type: Literal["window.compaction_started"] = "window.compaction_started"
    compaction_id: str
    trigger: CompactionTrigger
    run_id: str | None = None
    s: int | None = None
    event_id: str
    tokens: int
    context_window: int


class WindowCompacted(Event):
    """Items left the window; `summary` stands for them, just before offset `before`.

    `before_stream` is there only where that offset is a fork's ancestor's.
    `system` is there if the system prompt was compiled anew with it.
    """

    type: Literal["window.compacted"] = "window.compacted"
    compaction_id: str
    summary_message_id: str
    run_id: str | None = None
    evicted: Evicted
    before: int
    before_stream: str | None = None
    summary: str
    system: System | None = None
    audit: CompactionAudit


class WindowCompactionFailed(Event):
    """A compaction came to nothing; the window is what it was."""

    type: Literal["window.compaction_failed"] = "window.compaction_failed"
    compaction_id: str
    reason: CompactionFailure
    detail: str | None = None
    attempts: tuple[Attempt, ...] = ()


class WindowCompactionUndone(Event):
    """What a compaction had evicted is back, and its summary is gone."""

    type: Literal["window.compaction_undone"] = "window.compaction_undone"
    compaction_id: str


class WindowCompactionRedone(Event):
    """A compaction that was undone holds again."""

    type: Literal["window.compaction_redone"] = "window.compaction_redone"
    compaction_id: str


class WindowRecompiled(Event):
    """The system prompt was compiled anew."""

    type: Literal["window.recompiled"] = "window.recompiled"
    system: System
    reason: str


class MessageChanged(Event):
    """A message was pinned, so that no compaction evicts it, or let go."""

    type: Literal["message.changed"] = "message.changed"
    message_id: str
    pinned: bool


WindowEvent: TypeAlias = (
    WindowCompactionStarted
    | WindowCompacted
    | WindowCompactionFailed
    | WindowCompactionUndone
    | WindowCompactionRedone
    | WindowRecompiled
    | MessageChanged
)
