"""Consolidations of memory as requests and answers hold them."""

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from app.web.block_bodies import Label
from app.web.bodies import OFFSET_MAX, Answer, Body, Cursor, Handle, Limit, Order
from app.web.message_bodies import AnyConversationId
from domain.sleeptime import (
    FREQUENCY_MAX,
    MAX_STEPS_MAX,
    ConsolidationOutcome,
    ConsolidationTrigger,
)

Status: TypeAlias = ConsolidationOutcome | Literal["running", "accepted", "rejected"]
MaxSteps: TypeAlias = Annotated[int, Field(ge=1, le=MAX_STEPS_MAX)]
Frequency: TypeAlias = Annotated[int, Field(ge=1, le=FREQUENCY_MAX)]


class SleeptimeIn(Body):
    """How an agent's memory is consolidated; what is not said stays as it is.

    `model` is the agent's own if it is never said; `block_label` is `human`, else the first block
    that may be written. With `require_acceptance` a change is proposed and waits for a person.
    """

    after_compaction: bool | None = None
    block_label: Label | None = None
    max_steps: MaxSteps | None = None
    require_acceptance: bool | None = None
    model: Handle | None = None


class SleeptimeAnswer(Answer):
    """How an agent's memory is consolidated: after `frequency` turns, and after a compaction."""

    frequency: int
    after_compaction: bool
    block_label: str | None
    max_steps: int
    require_acceptance: bool
    model: str | None


class ConsolidateBody(Body):
    """What to consolidate, into which block.

    `conversation_id` null is the agent's own conversation. What was said after offset `since` is
    gone through; null is where the last consolidation ended. What is null is as the agent has it.
    """

    conversation_id: AnyConversationId | None = None
    block_label: Label | None = None
    max_steps: MaxSteps | None = None
    require_acceptance: bool | None = None
    since: Annotated[int, Field(ge=0, le=OFFSET_MAX)] | None = None
    model: Handle | None = None


class ListConsolidations(Body):
    """Which consolidations of an agent, newest first. Cursors follow the sort order."""

    conversation_id: AnyConversationId | None = None
    status: Status | None = None
    before: Cursor | None = None
    after: Cursor | None = None
    limit: Limit = 50
    order: Order = "desc"


class AcceptBody(Body):
    """`base_version` is the block's version that is to be replaced; the proposal's own if null."""

    base_version: Annotated[int, Field(ge=1, le=OFFSET_MAX)] | None = None


class ConsolidationAnswer(Answer):
    """A consolidation. It is done by `run_id`, in the hidden conversation `conversation_id`.

    `source` is the conversation that was gone through, after offset `after` up to `upto`. `stored`
    counts new archival memories. `value` is what the block is to be or has become, `diff` what that
    changes in it as it was at `base_version`.
    """

    consolidation_id: str
    agent_id: str
    source: str
    run_id: str
    conversation_id: str
    status: Status
    trigger: ConsolidationTrigger
    after: int
    upto: int | None = None
    queued_at: int
    stored: int = 0
    block_id: str | None = None
    base_version: int | None = None
    version: int | None = None
    value: str | None = None
    diff: str | None = None
    detail: str | None = None
    created_at: datetime
    completed_at: datetime | None = None
