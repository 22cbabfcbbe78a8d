"""When memory is consolidated, and what may be said of a consolidation."""

from domain.conversation.commands import FinishConsolidation, QueueConsolidation, SettleProposal
from domain.conversation.events import ConversationEvent
from domain.conversation.memory_facts import ConsolidationQueued, ProposalSettled
from domain.conversation.state import Conversation
from domain.errors import Busy, Refused
from domain.run import EndRun, Run
from domain.sleeptime import (
    ConsolidationTrigger,
    Sleeptime,
    conversation_of,
    run_of,
)
from domain.streams import CONSOLIDATION, derived_id


def due(state: Conversation, run: Run, ending: EndRun) -> list[ConversationEvent]:
    """Ask for a consolidation if it is time for one: in the very append that ends the turn.

    So it is asked for once, whoever works on the run, and a crash comes before both or after both.
    """
    terms = None if run.claimed is None else run.claimed.sleeptime
    if terms is None or state.memory.under_way is not None:
        return []
    if ending.status != "completed" or ending.stop_reason == "requires_approval":
        return []
    trigger = _trigger(state, terms)
    if trigger is None:
        return []
    consolidation_id = derived_id(CONSOLIDATION, f"{run.run_id}/consolidation")
    queued = _queued(consolidation_id, trigger, state.memory.upto, terms)
    return [queued.model_copy(update={"after_run": run.run_id})]


def _trigger(state: Conversation, terms: Sleeptime) -> ConsolidationTrigger | None:
    if terms.after_compaction and state.memory.compacted:
        return "compaction"
    return "turns" if state.memory.turns + 1 >= terms.frequency else None


def _queued(
    consolidation_id: str, trigger: ConsolidationTrigger, after: int, terms: Sleeptime
) -> ConsolidationQueued:
    return ConsolidationQueued(
        consolidation_id=consolidation_id,
        conversation_id=conversation_of(consolidation_id),
        run_id=run_of(consolidation_id),
        trigger=trigger,
        after=after,
        terms=terms,
    )


def queue(state: Conversation, command: QueueConsolidation) -> list[ConversationEvent]:
    """Ask for a consolidation; nothing happens if it was asked for before. Raises Busy, Refused."""
    if state.consolidates is not None:
        raise Refused("This conversation is itself a consolidation.")
    if command.consolidation_id in state.memory.known:
        return []
    if state.memory.under_way is not None:
        raise Busy(state.memory.under_way.event.run_id)
    after = state.memory.upto if command.after is None else command.after
    return [_queued(command.consolidation_id, "user", after, command.terms)]


def finish(state: Conversation, command: FinishConsolidation) -> list[ConversationEvent]:
    """Note what a consolidation came to, once."""
    under_way = state.memory.under_way
    mine = command.event.consolidation_id
    if under_way is None or under_way.event.consolidation_id != mine:
        return []
    return [command.event]


def settle(state: Conversation, command: SettleProposal) -> list[ConversationEvent]:
    """Note what became of a proposal. Raises Refused if there is none to settle."""
    if command.consolidation_id not in state.memory.proposals:
        raise Refused(f"{command.consolidation_id} has no proposal that waits for a decision.")
    settled = ProposalSettled(consolidation_id=command.consolidation_id, accepted=command.accepted)
    if command.version is None:
        return [settled]
    return [settled.model_copy(update={"version": command.version})]
