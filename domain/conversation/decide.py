"""Who may write what when: commands answered with facts, or refused."""

from typing import Final, assert_never

from domain.conversation.commands import (
    AppendDeltas,
    ChangeConversation,
    ClaimRun,
    ConversationCommand,
    DeleteConversation,
    FinishRun,
    FinishStep,
    NewMessage,
    QueueRun,
    StartConversation,
    StartStep,
)
from domain.conversation.facts import (
    ConversationChanged,
    ConversationDeleted,
    ConversationEvent,
    ConversationStarted,
    MessageAppended,
    MessageQueued,
)
from domain.conversation.state import Conversation
from domain.errors import Busy, Full, NotFound, Refused, Stale
from domain.run import (
    ATTEMPTS_MAX,
    EndRun,
    Run,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    RunQueued,
    StepFinished,
    StepStarted,
    StepSuperseded,
    ending_of,
    step_taken,
)

WAITING_RUNS_MAX: Final = 100


def decide(  # noqa: C901 - one case a command
    state: Conversation, command: ConversationCommand
) -> list[ConversationEvent]:
    """Answer a command with facts. Raises NotFound, Refused, Busy, Full or Stale."""
    if isinstance(command, StartConversation):
        return _start(state, command)
    if state.agent_id is None:
        raise NotFound("Conversation", "")
    match command:
        case ChangeConversation():
            return _change(state, command)
        case DeleteConversation():
            return _delete(state)
        case QueueRun():
            return _queue(state, command)
        case ClaimRun():
            return _claim(state, command)
        case StartStep():
            return _start_step(state, command)
        case AppendDeltas():
            return _deltas(state, command)
        case FinishStep():
            return _finish_step(state, command)
        case FinishRun():
            return _finish_run(state, command)
        case _:
            assert_never(command)


def _start(state: Conversation, command: StartConversation) -> list[ConversationEvent]:
    if state.agent_id is not None:
        raise Refused("The conversation has started already.")
    return [
        ConversationStarted(
            agent_id=command.agent_id, system=command.system, settings=command.settings
        )
    ]


def _living(state: Conversation) -> None:
    if state.deleted:
        raise NotFound("Conversation", "")


def _change(state: Conversation, command: ChangeConversation) -> list[ConversationEvent]:
    _living(state)
    now = {**state.settings.model_dump(), "archived": state.archived}
    sent = command.changes.model_dump(exclude_unset=True, exclude={"type"})
    changed = {key: value for key, value in sent.items() if key not in now or now[key] != value}
    return [ConversationChanged(**changed)] if changed else []


def _delete(state: Conversation) -> list[ConversationEvent]:
    _living(state)
    if not state.runs:
        return [ConversationDeleted()]
    cancel = RunCancelRequested(run_ids=tuple(state.runs), reason="deleted")
    unclaimed = [
        RunFinished(run_id=run.run_id, status="cancelled", stop_reason="cancelled", usage=run.usage)
        for run in state.runs.values()
        if run.epoch == 0
    ]
    return [cancel, *unclaimed, ConversationDeleted()]


def _queue(state: Conversation, command: QueueRun) -> list[ConversationEvent]:
    _living(state)
    busy = state.next_run
    if busy is not None and command.on_busy == "reject":
        raise Busy(busy.run_id)
    if len(state.runs) >= WAITING_RUNS_MAX:
        raise Full(
            f"{len(state.runs)} requests are waiting already, of at most {WAITING_RUNS_MAX}."
        )
    queued = RunQueued(
        run_id=command.run_id,
        keys=command.keys,
        body_hash=command.body_hash,
        request=command.request,
        on_busy=command.on_busy,
    )
    take_in = _entered if busy is None else _wait
    return [queued, *(take_in(message, command.run_id) for message in command.messages)]


def _entered(message: NewMessage, run_id: str) -> MessageAppended:
    return MessageAppended(
        message_id=message.message_id,
        otid=message.otid,
        role=message.role,
        content=message.content,
        run_id=run_id,
    )


def _wait(message: NewMessage, run_id: str) -> MessageQueued:
    return MessageQueued(
        message_id=message.message_id,
        otid=message.otid,
        role=message.role,
        content=message.content,
        mode="enqueue",
        run_id=run_id,
    )


def _claim(state: Conversation, command: ClaimRun) -> list[ConversationEvent]:
    run = state.next_run
    if run is None or run.run_id != command.run_id or command.epoch != run.epoch + 1:
        raise Stale(f"{command.run_id} cannot be claimed under epoch {command.epoch} now.")
    claimed = RunClaimed(
        run_id=command.run_id,
        epoch=command.epoch,
        node=command.node,
        agent_version=command.agent_version,
        model=command.model,
        settings=command.settings,
        context_window=command.context_window,
    )
    return [claimed, *_taken_over(run), *_let_in(state, run)]


def _taken_over(run: Run) -> list[ConversationEvent]:
    if run.step is None or run.cancelled:
        return []
    return [
        StepSuperseded(
            s=run.step.s,
            reason="taken_over",
            attempt=run.step.attempt,
            attempts_max=ATTEMPTS_MAX,
            delay_ms=0,
        )
    ]


def _let_in(state: Conversation, run: Run) -> list[ConversationEvent]:
    return [
        MessageAppended(
            message_id=item.message.message_id,
            otid=item.message.otid,
            role=item.message.role,
            content=item.message.content,
            run_id=run.run_id,
            queued=item.offset,
        )
        for item in state.waiting
        if item.message.run_id == run.run_id
    ]


def _held(state: Conversation, run_id: str, epoch: int) -> Run:
    """Give the run if `epoch` still owns it: this check is the fence."""
    run = state.runs.get(run_id)
    if run is None or run.epoch != epoch:
        now = "is over" if run is None else f"is at epoch {run.epoch}"
        raise Stale(f"{run_id} {now}; epoch {epoch} may not write.")
    return run


def _held_step(state: Conversation, run_id: str, epoch: int, s: int) -> Run:
    run = _held(state, run_id, epoch)
    if run.step is None or run.step.s != s:
        raise Stale(f"Step {s} of {run_id} is not open.")
    return run


def _start_step(state: Conversation, command: StartStep) -> list[ConversationEvent]:
    run = _held(state, command.run_id, command.epoch)
    if run.cancelled or run.step is not None:
        raise Stale(f"{run.run_id} is cancelled or has an open step.")
    return [
        StepStarted(
            run_id=command.run_id,
            epoch=command.epoch,
            step_id=command.step_id,
            index=command.index,
            attempt=command.attempt,
            message_id=command.message_id,
            model=command.model,
            settings=command.settings,
            manifest=command.manifest,
        )
    ]


def _deltas(state: Conversation, command: AppendDeltas) -> list[ConversationEvent]:
    run = _held_step(state, command.run_id, command.epoch, command.deltas[0].s)
    if run.cancelled:
        raise Stale(f"{run.run_id} is cancelled.")
    return list(command.deltas)


def _finish_step(state: Conversation, command: FinishStep) -> list[ConversationEvent]:
    run = _held_step(state, command.run_id, command.epoch, command.s)
    if run.cancelled and command.outcome != "interrupted":
        raise Stale(f"{run.run_id} is cancelled.")
    finished = StepFinished(
        s=command.s,
        outcome=command.outcome,
        parts=len(command.parts),
        usage=command.usage,
        finish_reason=command.finish_reason,
    )
    facts: list[ConversationEvent] = [*command.deltas, *command.parts, finished]
    run = step_taken(run, finished)
    ending = ending_of(run)
    return facts if ending is None else [*facts, _over(run, ending)]


def _finish_run(state: Conversation, command: FinishRun) -> list[ConversationEvent]:
    run = _held(state, command.ending.run_id, command.ending.epoch)
    if run.step is None:
        # Messages that waited for a run that never began are let in all the same: none is lost.
        return [*_let_in(state, run), _over(run, command.ending)]
    step = run.step
    failed = StepFinished(s=step.s, outcome="failed", parts=0, error=command.ending.error)
    return [failed, _over(step_taken(run, failed), command.ending)]


def _over(run: Run, ending: EndRun) -> RunFinished:
    return RunFinished(
        run_id=run.run_id,
        epoch=ending.epoch or None,
        status=ending.status,
        stop_reason=ending.stop_reason,
        usage=run.usage,
        error=ending.error,
    )
