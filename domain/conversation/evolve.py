"""How each fact changes what decisions about a conversation need to know."""

from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias, assert_never

from domain.conversation.compaction_facts import (
    WindowCompacted,
    WindowCompactionFailed,
    WindowEvent,
)
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import (
    ConversationChanged,
    ConversationDeleted,
    ConversationStarted,
    MessageAppended,
    MessageQueued,
    MessageWithdrawn,
    WindowRolledBack,
)
from domain.conversation.memory_facts import MemoryEvent
from domain.conversation.memory_state import evolve_memory, turn_over
from domain.conversation.records import Answered, Asked, KeyUse, WaitingMessage
from domain.conversation.state import Conversation, digest_of
from domain.conversation.window_state import evolve_window, rolled_back
from domain.run import (
    OpenCall,
    Run,
    RunCalledBack,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    RunHidden,
    RunQueued,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolFinished,
    ToolStarted,
    Turn,
    answer_taken,
    call_begun,
    call_returned,
    calls_approved,
    made_no_room,
    made_room,
    message_taken,
    step_lost,
    step_of,
    step_taken,
)

StepFact: TypeAlias = (
    StepStarted | StepPart | StepFinished | StepSuperseded | ToolStarted | ToolFinished
)
KEYS_MAX: Final = 1000
ANSWERS_MAX: Final = 10
TOOL_LISTS_MAX: Final = 8
# Failures of a compaction after which the same step is worth another try.
PASSING: Final = frozenset({"lost", "overtaken"})


def evolve(  # noqa: C901 - one case a fact
    state: Conversation, event: ConversationEvent, version: int
) -> Conversation:
    """Give the state after `event`, which is at `version`."""
    if not isinstance(event, StepDelta):
        state = replace(state, version=version)
    if state.lineage.ancestors:
        event = state.lineage.placed_event(event)
    if isinstance(event, StepFact):
        return _stepped(state, event, version)
    if isinstance(event, WindowEvent | WindowRolledBack):
        return _window_changed(state, event, version)
    if isinstance(event, MemoryEvent):
        return replace(state, memory=evolve_memory(state.memory, event, version))
    match event:
        case ConversationStarted():
            return _started(state, event)
        case ConversationChanged():
            return _changed(state, event)
        case ConversationDeleted():
            return replace(state, deleted=True)
        case MessageQueued():
            return replace(state, waiting=(*state.waiting, WaitingMessage(version, event)))
        case MessageAppended():
            return _appended(state, event, version)
        case MessageWithdrawn():
            return _withdrawn(state, event)
        case RunQueued():
            return _queued(state, event, version)
        case RunFinished():
            return _finished(state, event)
        case RunClaimed():
            return _on(state, event.run_id, lambda run: replace(run, claimed=event))
        case RunCancelRequested():
            return _cancelled(state, event)
        case StepDelta() | RunHidden() | RunCalledBack():
            return state
        case _:
            assert_never(event)


def _started(state: Conversation, event: ConversationStarted) -> Conversation:
    isolated = MappingProxyType(event.isolated or {})
    return replace(
        state,
        agent_id=event.agent_id,
        settings=event.settings,
        isolated=isolated,
        consolidates=event.consolidates,
        orphans=(),
    )


def _changed(state: Conversation, event: ConversationChanged) -> Conversation:
    changes = event.model_dump(exclude_unset=True, exclude={"type", "last_message_at"})
    archived = changes.pop("archived", state.archived)
    return replace(
        state, settings=state.settings.model_copy(update=changes), archived=bool(archived)
    )


# --- messages ---------------------------------------------------------------------------------


def _appended(state: Conversation, event: MessageAppended, version: int) -> Conversation:
    if event.approvals is not None:
        state = _on(state, event.run_id, lambda run: answer_taken(run, event.message_id))
        return _answered(state, event.run_id, event.approvals)
    state = _on(state, event.run_id, lambda run: message_taken(run, event.message_id, version))
    return state if event.queued is None else _let_in(state, event, event.queued)


def _let_in(state: Conversation, event: MessageAppended, offset: int) -> Conversation:
    """Take a message from those that wait; into another run than its own, both go on as one."""
    for item in state.waiting:
        own = item.message.run_id
        if item.offset == offset and own != event.run_id:
            state = _on(state, own, lambda run: replace(run, joined=event.run_id))
    return replace(state, waiting=tuple(one for one in state.waiting if one.offset != offset))


def _answered(
    state: Conversation, run_id: str, answers: tuple[dict[str, Any], ...]
) -> Conversation:
    ids = frozenset(str(one["tool_call_id"]) for one in answers)
    approved = frozenset(str(one["tool_call_id"]) for one in answers if one.get("approve"))
    state = _on(state, run_id, lambda run: calls_approved(run, approved))
    known = (*state.answered, Answered(ids, run_id))
    return replace(state, answered=known[-ANSWERS_MAX:])


def _withdrawn(state: Conversation, event: MessageWithdrawn) -> Conversation:
    kept = (one for one in state.waiting if one.message.message_id not in event.message_ids)
    return replace(state, waiting=tuple(kept))


# --- runs -------------------------------------------------------------------------------------


def _queued(state: Conversation, event: RunQueued, version: int) -> Conversation:
    run = Run(
        event.run_id,
        version,
        event.request,
        on_busy=event.on_busy,
        continues=event.continues,
        host=_host(state, event),
        tools_at=version if event.tools else event.tools_at,
        calls=_taken_on(state, event),
        turn=_turn(state, event),
    )
    state = _with_keys(_with_tools(_in_order(state, run), event, version), event)
    asked = state.asked
    return state if asked is None or asked.run_id != event.continues else replace(state, asked=None)


def _host(state: Conversation, event: RunQueued) -> str | None:
    under_way = state.first_run
    return under_way.run_id if under_way is not None and event.on_busy == "steer" else None


def _taken_on(state: Conversation, event: RunQueued) -> tuple[OpenCall, ...]:
    asked = state.asked
    return asked.calls if asked is not None and asked.run_id == event.continues else ()


def _turn(state: Conversation, event: RunQueued) -> Turn:
    asked = state.asked
    before = state.last_turn
    if asked is not None and asked.run_id == event.continues:
        before = asked.turn
    elif event.continues not in before.run_ids:
        before = Turn()
    return replace(before, run_ids=(*before.run_ids, event.run_id))


def _in_order(state: Conversation, run: Run) -> Conversation:
    """Put a run where its turn is: an answer first, an interruption next, others last."""
    others = list(state.runs.items())
    place = len(others)
    if run.continues is not None:
        place = 0
    elif run.on_busy in ("interrupt", "rollback"):
        place = 0 if state.asked else 1
    others.insert(place, (run.run_id, run))
    return replace(state, runs=MappingProxyType(dict(others)))


def _with_keys(state: Conversation, event: RunQueued) -> Conversation:
    if not event.keys:
        return state
    use = KeyUse(event.run_id, event.body_hash)
    known = {**state.keys, **dict.fromkeys(event.keys, use)}
    forgotten = list(known)[: max(0, len(known) - KEYS_MAX)]
    for key in forgotten:
        del known[key]
    return replace(
        state,
        keys=MappingProxyType(known),
        keys_forgotten=state.keys_forgotten or bool(forgotten),
    )


def _with_tools(state: Conversation, event: RunQueued, version: int) -> Conversation:
    if not event.tools:
        return state
    known = (*state.tool_lists, (digest_of(event.tools), version))
    return replace(state, tool_lists=known[-TOOL_LISTS_MAX:])


def _finished(state: Conversation, event: RunFinished) -> Conversation:
    run = state.runs.get(event.run_id)
    if run is None:
        return state
    runs = {key: one for key, one in state.runs.items() if key != event.run_id}
    waiting = tuple(one for one in state.waiting if one.message.run_id != event.run_id)
    state = replace(state, runs=MappingProxyType(runs), waiting=waiting)
    if run.joined is not None:
        return state
    failed = event.status == "failed"
    answered = (
        replace(one, failed=failed) if one.run_id == event.run_id else one for one in state.answered
    )
    asks = event.stop_reason == "requires_approval" and run.calls
    return replace(
        state,
        last_turn=run.turn,
        memory=turn_over(state.memory, event),
        answered=tuple(answered),
        asked=Asked(run.run_id, run.calls, run.turn) if asks else state.asked,
    )


def _cancelled(state: Conversation, event: RunCancelRequested) -> Conversation:
    for run_id in event.run_ids:
        state = _on(state, run_id, lambda run: replace(run, cancelled=event.reason))
    return state


# --- steps and tools --------------------------------------------------------------------------


def _stepped(state: Conversation, event: StepFact, version: int) -> Conversation:
    match event:
        case StepStarted():
            step = step_of(event, version)
            return _on(state, event.run_id, lambda run: replace(run, step=step))
        case StepPart():
            return _said(state, event)
        case StepFinished():
            return _on_step(state, event.s, lambda run: step_taken(run, event))
        case StepSuperseded():
            return _on_step(state, event.s, lambda run: step_lost(run, event))
        case ToolStarted():
            return _on(state, event.run_id, lambda run: call_begun(run, event, version))
        case ToolFinished():
            return _returned(state, event)


def _said(state: Conversation, event: StepPart) -> Conversation:
    call = event.call
    if call is None or event.interrupted:
        return state
    return _on_step(
        state,
        event.s,
        lambda run: run if run.step is None else replace(run, step=run.step.calling(call)),
    )


def _returned(state: Conversation, event: ToolFinished) -> Conversation:
    state = _on(state, event.run_id, lambda run: call_returned(run, event))
    asked = state.asked
    if asked is None:
        return state
    calls = tuple(one for one in asked.calls if (one.s, one.id) != (event.s, event.tool_call_id))
    turn = asked.turn.with_message(event.message_id)
    return replace(state, asked=replace(asked, calls=calls, turn=turn) if calls else None)


# --- the window -------------------------------------------------------------------------------


def _window_changed(
    state: Conversation, event: WindowEvent | WindowRolledBack, version: int
) -> Conversation:
    match event:
        case WindowCompacted() | WindowCompactionFailed():
            return _compaction_over(state, event, version)
        case WindowRolledBack():
            window = rolled_back(state.window, event.compaction_ids, version)
            if event.through is not None:
                window = replace(window, pinned=frozenset())
            return replace(state, window=window)
        case _:
            return replace(state, window=evolve_window(state.window, event, version))


def _compaction_over(
    state: Conversation, event: WindowCompacted | WindowCompactionFailed, version: int
) -> Conversation:
    under_way = state.window.compacting
    state = replace(state, window=evolve_window(state.window, event, version))
    if isinstance(event, WindowCompacted):
        tokens, system = event.audit.tokens_after, event.audit.system_tokens
        runs = {key: made_room(run, tokens, system) for key, run in state.runs.items()}
        memory = replace(state.memory, compacted=True)
        return replace(state, runs=MappingProxyType(runs), memory=memory)
    if under_way is None or under_way.run_id is None:
        return state
    retry = event.reason in PASSING
    return _on(state, under_way.run_id, lambda run: made_no_room(run, retry=retry))


def _on(state: Conversation, run_id: str, change: Callable[[Run], Run]) -> Conversation:
    run = state.runs.get(run_id)
    if run is None:
        return state
    return replace(state, runs=MappingProxyType({**state.runs, run_id: change(run)}))


def _on_step(state: Conversation, s: int, change: Callable[[Run], Run]) -> Conversation:
    for run in state.runs.values():
        if run.step is not None and run.step.s == s:
            return _on(state, run.run_id, change)
    return state
