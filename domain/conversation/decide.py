"""Commands answered with facts, or refused."""

from collections.abc import Callable
from typing import Any, Final

from domain.conversation import compacting, consolidating, importing, queueing, working
from domain.conversation.commands import (
    AppendDeltas,
    CancelRuns,
    ChangeConversation,
    ClaimRun,
    ConversationCommand,
    DeleteConversation,
    FailCompaction,
    FinishConsolidation,
    FinishRun,
    FinishStep,
    FinishTool,
    HideRun,
    JoinSteers,
    PinMessage,
    QueueConsolidation,
    QueueRun,
    RecompileSystem,
    RecordCallback,
    RecordCompaction,
    RedoCompaction,
    ResetWindow,
    SettleProposal,
    StartCompaction,
    StartConversation,
    StartStep,
    StartTool,
    SupersedeStep,
    UndoCompaction,
)
from domain.conversation.ending import cancel, denied, return_of, stopped
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import (
    ConversationChanged,
    ConversationDeleted,
    ConversationStarted,
)
from domain.conversation.import_commands import (
    ImportCompaction,
    ImportMessages,
)
from domain.conversation.lineage import ANCESTORS_MAX, stored_facts
from domain.conversation.records import Orphan
from domain.conversation.state import Conversation
from domain.errors import NotFound, Refused
from domain.run import RunCalledBack, RunHidden

Facts = list[ConversationEvent]
FORKED: Final = "The conversation was forked before this call had a return."


def decide(state: Conversation, command: ConversationCommand) -> Facts:
    """Answer a command with facts. Raises a DomainError: NotFound, Refused, Stale and the like."""
    if state.agent_id is None and not isinstance(command, StartConversation):
        raise NotFound("Conversation", "")
    if state.deleted and isinstance(command, OF_THE_LIVING):
        raise NotFound("Conversation", "")
    return stored_facts(state.lineage, _DECISIONS[type(command)](state, command))


def _start(state: Conversation, command: StartConversation) -> Facts:
    if state.agent_id is not None:
        raise Refused("The conversation has started already.")
    started = ConversationStarted(
        agent_id=command.agent_id, system=command.system, settings=command.settings
    )
    if len(state.lineage.ancestors) > ANCESTORS_MAX:
        raise Refused(f"A fork has at most {ANCESTORS_MAX} conversations behind it.")
    more: dict[str, Any] = {}
    if command.parent is not None:
        more["parent"] = command.parent
    if command.isolated:
        more["isolated"] = dict(command.isolated)
    if command.consolidates is not None:
        more["consolidates"] = command.consolidates
    orphaned = [_orphaned(one) for one in state.orphans]
    return [started.model_copy(update=more), *orphaned]


def _orphaned(one: Orphan) -> ConversationEvent:
    return return_of(one.call, one.run_id, "cancelled", FORKED, "system")


def _change(state: Conversation, command: ChangeConversation) -> Facts:
    now = {**state.settings.model_dump(), "archived": state.archived}
    sent = command.changes.model_dump(exclude_unset=True, exclude={"type"})
    changed = {key: value for key, value in sent.items() if key not in now or now[key] != value}
    return [ConversationChanged(**changed)] if changed else []


def _delete(state: Conversation, _: DeleteConversation) -> Facts:
    ended = [*stopped(state, state.runs.values(), "deleted"), *denied(state, "deleted")]
    by_hand = state.window.compacting is not None and state.window.compacting.run_id is None
    given_up = compacting.given_up(state, "cancelled") if by_hand else []
    return [*given_up, *ended, ConversationDeleted()]


def _hide(state: Conversation, command: HideRun) -> Facts:
    if command.run_id in state.runs:
        raise Refused(f"{command.run_id} is not over; cancel it first.")
    return [RunHidden(run_id=command.run_id)]


def _called_back(_: Conversation, command: RecordCallback) -> Facts:
    told = RunCalledBack(run_id=command.run_id, attempts=command.attempts)
    optional = {"status_code": command.status_code, "error": command.error}
    given = {name: value for name, value in optional.items() if value is not None}
    return [told.model_copy(update=given)]


# What is asked of a deleted conversation is answered as if it had never been.
OF_THE_LIVING: Final = (
    ChangeConversation,
    DeleteConversation,
    QueueRun,
    CancelRuns,
    HideRun,
    StartCompaction,
    UndoCompaction,
    RedoCompaction,
    PinMessage,
    RecompileSystem,
    ResetWindow,
    ImportMessages,
    QueueConsolidation,
    ImportCompaction,
)
_DECISIONS: Final[dict[type[Any], Callable[[Conversation, Any], Facts]]] = {
    StartConversation: _start,
    ChangeConversation: _change,
    DeleteConversation: _delete,
    QueueRun: queueing.queue,
    ImportMessages: importing.take_in,
    CancelRuns: cancel,
    HideRun: _hide,
    RecordCallback: _called_back,
    ClaimRun: working.claim,
    JoinSteers: working.join,
    StartStep: working.start_step,
    AppendDeltas: working.append_deltas,
    FinishStep: working.finish_step,
    SupersedeStep: working.supersede_step,
    StartTool: working.start_tool,
    FinishTool: working.finish_tool,
    FinishRun: working.finish_run,
    StartCompaction: compacting.start,
    ImportCompaction: compacting.take_over,
    RecordCompaction: compacting.record,
    FailCompaction: compacting.fail,
    UndoCompaction: compacting.undo,
    RedoCompaction: compacting.redo,
    PinMessage: compacting.pin,
    RecompileSystem: compacting.recompile,
    ResetWindow: compacting.reset,
    QueueConsolidation: consolidating.queue,
    FinishConsolidation: consolidating.finish,
    SettleProposal: consolidating.settle,
}
