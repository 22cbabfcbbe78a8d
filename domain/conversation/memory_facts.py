"""What can happen between a conversation and its agent's memory."""

from typing import Literal, TypeAlias

from domain.event import Event
from domain.run import Cause
from domain.sleeptime import ConsolidationOutcome, ConsolidationTrigger, Sleeptime


class ConsolidationQueued(Event):
    """What was said after offset `after`, up to here, is to be worked into memory.

    It is done by `run_id`, in a conversation of its own. `after_run` is the run whose end led to it.
    """

    type: Literal["memory.consolidation_queued"] = "memory.consolidation_queued"
    consolidation_id: str
    conversation_id: str
    run_id: str
    trigger: ConsolidationTrigger
    after: int
    terms: Sleeptime
    after_run: str | None = None


class ConsolidationFinished(Event):
    """A consolidation is over. What was said up to offset `upto` has been dealt with.

    `value` is what its block is to be, or has become at `version`; `base_version` is what it was
    made from, and `cause` the tool call that wrote it. `stored` counts new archival memories.
    """

    type: Literal["memory.consolidation_finished"] = "memory.consolidation_finished"
    consolidation_id: str
    outcome: ConsolidationOutcome
    upto: int | None = None
    stored: int = 0
    block_id: str | None = None
    base_version: int | None = None
    value: str | None = None
    cause: Cause | None = None
    version: int | None = None
    detail: str | None = None


class ProposalSettled(Event):
    """Somebody accepted what a consolidation had proposed, or turned it down.

    `version` is the block's since then.
    """

    type: Literal["memory.proposal_settled"] = "memory.proposal_settled"
    consolidation_id: str
    accepted: bool
    version: int | None = None


MemoryEvent: TypeAlias = ConsolidationQueued | ConsolidationFinished | ProposalSettled
