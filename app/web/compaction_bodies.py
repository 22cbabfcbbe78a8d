"""What is said about compactions, to us and by us."""

from typing import Annotated

from pydantic import Field

from app.compaction.settings import CompactionSettingsIn
from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor
from domain.compaction import CompactionMode, CompactionSettings
from domain.conversation import Attempt, CompactionFailure, Try
from domain.retention import Retention
from projections.audit import CompactionShown
from projections.shown_window import WindowMessage


class Audited(Body):
    """Whose conversation `default` is, and whether a deleted one may be looked at."""

    agent_id: Cursor | None = None
    deleted: bool = False


class CompactBody(Body):
    """How to compact this once; the agent's settings where nothing is said."""

    compaction_settings: CompactionSettingsIn | None = None
    agent_id: Cursor | None = None


class CompactionAnswer(Answer):
    """A compaction that was done. Messages are those in the window, system message included."""

    summary: str
    num_messages_before: int
    num_messages_after: int
    compaction_id: str


class UndoQuery(Body):
    """Whose conversation `default` is; `force` undoes even if runs then have too little room."""

    agent_id: Cursor | None = None
    force: bool = False


class RestoredAnswer(Answer):
    """The window after a compaction was undone or redone: messages and tokens at offset `at`."""

    compaction_id: str
    active: bool
    at: int
    messages: int
    tokens: int


class PreviewBody(Body):
    """A compaction that is only thought of: of the window at offset `at`, the newest if not said.

    With `summarize` the summariser is asked, too.
    """

    compaction_settings: CompactionSettingsIn | None = None
    summarize: bool = False
    at: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None


class PreviewAnswer(Answer):
    """What a compaction would do; nothing of it is recorded.

    `mode` is the first one that has a plan. `evicted` would leave the window, the messages at the
    offsets in `kept` stay. `tries` are the cuts that were looked at, `goal` the tokens to get below.
    In a fork, `kept` and `cutoff` are 0 and less for what it inherited, counting back.
    Without `summarize` there is no summary, and `tokens_after` leaves it out. `reason` tells why
    there would be no compaction.
    """

    at: int
    settings: CompactionSettings
    mode: CompactionMode | None = None
    goal: int | None = None
    tries: list[Try] = Field(default_factory=list[Try])
    evicted: list[WindowMessage] = Field(default_factory=list[WindowMessage])
    kept: list[int] = Field(default_factory=list[int])
    cutoff: int | None = None
    context_window: int
    tokens_before: int
    tokens_after: int | None = None
    messages_before: int
    messages_after: int | None = None
    summary: str | None = None
    model: str | None = None
    retention: Retention | None = None
    attempts: list[Attempt] = Field(default_factory=list[Attempt])
    reason: CompactionFailure | None = None
    detail: str | None = None


class ReplayBody(Body):
    """The settings to try; what is not said is as it was recorded."""

    compaction_settings: CompactionSettingsIn | None = None


class ReplayAnswer(Answer):
    """A compaction as it was recorded, and as it would be with other settings; nothing is recorded.

    The lists are offsets of messages that only one of the two evicts.
    """

    recorded: CompactionShown
    replayed: PreviewAnswer
    evicted_only_as_recorded: list[int]
    evicted_only_as_replayed: list[int]
