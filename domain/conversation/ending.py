"""How runs end, by themselves or because somebody wants them to."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from domain.content import Content
from domain.conversation import consolidating
from domain.conversation.commands import CancelRuns
from domain.conversation.compaction_facts import CompactionFailure, WindowCompactionFailed
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import MessageWithdrawn, WindowRolledBack
from domain.conversation.state import Conversation
from domain.errors import Refused
from domain.run import (
    CancelReason,
    EndRun,
    OpenCall,
    Run,
    RunCancelRequested,
    RunFinished,
    ToolFinished,
    ToolSource,
    ToolStatus,
)

WORDS: Final[dict[ToolStatus, str]] = {
    "cancelled": "The run was cancelled before this call had a return.",
    "denied": "The user cancelled the request, so the tool call was denied.",
    "error": "The run ended before this call was carried out.",
}


def over(state: Conversation, run: Run, ending: EndRun) -> list[ConversationEvent]:
    """Give the facts that end a run, and with it those that joined it.

    Calls without a return get one, but for those that the run ends to wait for.
    """
    calls = () if ending.stop_reason == "requires_approval" else run.calls
    status: ToolStatus = "cancelled" if ending.status == "cancelled" else "error"
    reason: CompactionFailure = "cancelled" if run.cancelled else "lost"
    facts: list[ConversationEvent] = [
        *given_up_by(state, run.run_id, reason),
        *(closed(call, run.run_id, status) for call in calls),
        *consolidating.due(state, run, ending),
        _finished(run, ending),
    ]
    for other in state.runs.values():
        if other.joined == run.run_id:
            facts.append(_finished(other, ending))
    if run.cancelled == "rollback":
        messages = (*run.turn.message_ids, *(call.return_id for call in calls))
        facts.append(_rolled_back(state, run.turn.run_ids, messages))
    return facts


def _rolled_back(
    state: Conversation, run_ids: tuple[str, ...], message_ids: tuple[str, ...]
) -> WindowRolledBack:
    """Hide a turn; what its runs had compacted is in the window again, for good."""
    event = WindowRolledBack(run_ids=run_ids, message_ids=message_ids)
    compaction_ids = state.window.of_runs(run_ids)
    return event.model_copy(update={"compaction_ids": compaction_ids}) if compaction_ids else event


def closed(call: OpenCall, run_id: str, status: ToolStatus) -> ToolFinished:
    """Give a call the return that nobody else will."""
    return return_of(call, run_id, status, WORDS[status], "system")


def denial_of(reason: str | None) -> str:
    """Give what is returned for a call that its user denied, in words that clients know."""
    because = f" User reason: {reason}" if reason else ""
    return f"Error: request to call tool denied.{because}"


def return_of(
    call: OpenCall, run_id: str, status: ToolStatus, content: Content, source: ToolSource
) -> ToolFinished:
    """Give what a call came to, as a fact."""
    return ToolFinished(
        s=call.s,
        run_id=run_id,
        step_id=call.step_id,
        tool_call_id=call.id,
        message_id=call.return_id,
        name=call.name,
        status=status,
        content=content,
        source=source,
    )


def _finished(run: Run, ending: EndRun) -> RunFinished:
    return RunFinished(
        run_id=run.run_id,
        epoch=run.epoch or None,
        status=ending.status,
        stop_reason=ending.stop_reason,
        usage=run.usage,
        error=ending.error,
    )


# --- what runs and people were waiting for ---


def given_up(state: Conversation, reason: CompactionFailure) -> list[ConversationEvent]:
    """Put an end to the compaction under way, if there is one."""
    under_way = state.window.compacting
    if under_way is None:
        return []
    return [WindowCompactionFailed(compaction_id=under_way.compaction_id, reason=reason)]


def given_up_by(
    state: Conversation, run_id: str, reason: CompactionFailure
) -> list[ConversationEvent]:
    """Put an end to the compaction under way if it is a run's."""
    under_way = state.window.compacting
    return given_up(state, reason) if under_way is not None and under_way.run_id == run_id else []


# --- cancel -----------------------------------------------------------------------------------


def cancel(state: Conversation, command: CancelRuns) -> list[ConversationEvent]:
    """Answer a wish that runs stop. Raises Refused if there is nothing that could."""
    wanted = [
        run
        for run in state.runs.values()
        if command.run_ids is None or run.run_id in command.run_ids
    ]
    denied = _denied(state, command.run_ids)
    if not wanted and not denied:
        raise Refused("No active runs to cancel.")
    return [*stopped(state, wanted, command.reason), *denied]


def stopped(
    state: Conversation, runs: Iterable[Run], reason: CancelReason
) -> list[ConversationEvent]:
    """Ask runs to stop; those that nobody has begun are over at once.

    A run that joined another one stops with that one only.
    """
    fresh = [run for run in runs if _can_stop(run, reason)]
    if not fresh:
        return []
    facts: list[ConversationEvent] = [
        RunCancelRequested(run_ids=tuple(run.run_id for run in fresh), reason=reason)
    ]
    for run in fresh:
        if run.epoch == 0:
            facts += _never_begun(state, run, reason)
    return facts


def _can_stop(run: Run, reason: CancelReason) -> bool:
    if run.joined is not None:
        return False
    return run.cancelled is None or (reason == "rollback" and run.cancelled != reason)


def _never_begun(state: Conversation, run: Run, reason: CancelReason) -> list[ConversationEvent]:
    ids = tuple(one.message.message_id for one in state.waiting if one.message.run_id == run.run_id)
    withdrawn = [MessageWithdrawn(message_ids=ids, reason=reason)] if ids else []
    ending = EndRun(run.run_id, 0, "cancelled", "cancelled")
    return [*withdrawn, *over(state, replace(run, cancelled=reason), ending)]


def _denied(state: Conversation, run_ids: tuple[str, ...] | None) -> list[ConversationEvent]:
    asked = state.asked
    if asked is None or (run_ids is not None and asked.run_id not in run_ids):
        return []
    return [closed(call, asked.run_id, "denied") for call in asked.calls]


def denied(state: Conversation, reason: CancelReason) -> list[ConversationEvent]:
    """Close the calls that wait for the client; a rollback hides the turn they are in."""
    asked = state.asked
    if asked is None:
        return []
    facts = _denied(state, None)
    if reason == "rollback":
        returns = (call.return_id for call in asked.calls)
        messages = (*asked.turn.message_ids, *returns)
        facts.append(_rolled_back(state, asked.turn.run_ids, messages))
    return facts
