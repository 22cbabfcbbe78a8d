"""What whoever holds a run may write: the epoch is the fence."""

from collections.abc import Callable
from dataclasses import replace

from domain.conversation.commands import (
    AppendDeltas,
    ClaimRun,
    FinishRun,
    FinishStep,
    FinishTool,
    JoinSteers,
    StartStep,
    StartTool,
    SupersedeStep,
)
from domain.conversation.compacting import emptied_through
from domain.conversation.ending import given_up_by, over, return_of
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import MessageAppended
from domain.conversation.queueing import words_of
from domain.conversation.state import Conversation, WaitingMessage
from domain.errors import Stale
from domain.run import (
    ATTEMPTS_MAX,
    OpenCall,
    Run,
    RunClaimed,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    ToolStarted,
    ending_of,
    step_taken,
)


def claim(state: Conversation, command: ClaimRun) -> list[ConversationEvent]:
    """Give a run to a worker, under the next epoch. Raises Stale."""
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
    lost = given_up_by(state, run.run_id, "lost")
    if command.tools:
        claimed = claimed.model_copy(update={"tools": command.tools})
    if command.sleeptime is not None:
        claimed = claimed.model_copy(update={"sleeptime": command.sleeptime})
    emptied = _emptied(state, run) if command.forgetful else []
    return [claimed, *lost, *_taken_over(run), *emptied, *_let_in(state, run.run_id, _own(run))]


def _emptied(state: Conversation, run: Run) -> list[ConversationEvent]:
    """Have all leave the window that came before a turn; it is listed nevertheless."""
    if run.epoch > 0 or run.continues is not None:
        return []
    through = min(run.asked, default=state.version + 1) - 1
    return [emptied_through(state, through).model_copy(update={"listed": True})]


def _taken_over(run: Run) -> list[ConversationEvent]:
    if run.step is None or run.cancelled:
        return []
    return [StepSuperseded(s=run.step.s, reason="taken_over", attempt=run.step.attempt)]


def _own(run: Run) -> Callable[[WaitingMessage], bool]:
    return lambda item: item.message.run_id == run.run_id


def _let_in(
    state: Conversation, run_id: str, wanted: Callable[[WaitingMessage], bool]
) -> list[ConversationEvent]:
    return [
        MessageAppended(**words_of(item.message), run_id=run_id, queued=item.offset)
        for item in state.waiting
        if wanted(item)
    ]


def join(state: Conversation, command: JoinSteers) -> list[ConversationEvent]:
    """Let messages that came to steer a run into the window. Raises Stale."""
    run = _working(state, command.run_id, command.epoch)
    return _let_in(state, run.run_id, lambda item: item in state.steers)


def _held(state: Conversation, run_id: str, epoch: int) -> Run:
    """Give the run if `epoch` still owns it: this check is the fence."""
    run = state.runs.get(run_id)
    if run is None or run.epoch != epoch:
        now = "is over" if run is None else f"is at epoch {run.epoch}"
        raise Stale(f"{run_id} {now}; epoch {epoch} may not write.")
    return run


def _working(state: Conversation, run_id: str, epoch: int) -> Run:
    run = _held(state, run_id, epoch)
    if run.cancelled:
        raise Stale(f"{run_id} is cancelled.")
    return run


def _at_step(state: Conversation, run_id: str, epoch: int, s: int) -> Run:
    run = _held(state, run_id, epoch)
    if run.step is None or run.step.s != s:
        raise Stale(f"Step {s} of {run_id} is not open.")
    return run


# --- steps ------------------------------------------------------------------------------------


def start_step(state: Conversation, command: StartStep) -> list[ConversationEvent]:
    """Record that the model is about to be called. Raises Stale."""
    run = _working(state, command.run_id, command.epoch)
    if run.step is not None or run.calls:
        raise Stale(f"{run.run_id} has an open step or an open tool call.")
    started = StepStarted(
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
    if command.gated:
        started = started.model_copy(update={"gated": command.gated})
    return [started]


def append_deltas(state: Conversation, command: AppendDeltas) -> list[ConversationEvent]:
    """Record what the model has said since last time. Raises Stale."""
    run = _at_step(state, command.run_id, command.epoch, command.deltas[0].s)
    if run.cancelled:
        raise Stale(f"{run.run_id} is cancelled.")
    return list(command.deltas)


def finish_step(state: Conversation, command: FinishStep) -> list[ConversationEvent]:
    """Record the end of a reply, and of the run if that is what it comes to. Raises Stale."""
    run = _at_step(state, command.run_id, command.epoch, command.s)
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
    run = step_taken(_called(run, command.parts), finished)
    ending = ending_of(run)
    return facts if ending is None else [*facts, *over(state, run, ending)]


def _called(run: Run, parts: tuple[StepPart, ...]) -> Run:
    for part in parts:
        if run.step is not None and part.call is not None and not part.interrupted:
            run = replace(run, step=run.step.calling(part.call))
    return run


def supersede_step(state: Conversation, command: SupersedeStep) -> list[ConversationEvent]:
    """Drop an attempt that failed, so that the step is taken again. Raises Stale."""
    run = _at_step(state, command.run_id, command.epoch, command.s)
    if run.cancelled:
        raise Stale(f"{run.run_id} is cancelled.")
    attempt = 0 if run.step is None else run.step.attempt
    return [
        StepSuperseded(
            s=command.s,
            reason=command.reason,
            attempt=attempt,
            attempts_max=ATTEMPTS_MAX,
            delay_ms=command.delay_ms,
        )
    ]


# --- tools ------------------------------------------------------------------------------------


def _at_call(state: Conversation, command: StartTool | FinishTool) -> tuple[Run, OpenCall]:
    run = _working(state, command.run_id, command.epoch)
    call = run.open_call(command.s, command.tool_call_id)
    if call is None or call.gated:
        raise Stale(f"{command.tool_call_id} of step {command.s} is not to be run now.")
    return run, call


def start_tool(state: Conversation, command: StartTool) -> list[ConversationEvent]:
    """Record that a tool is about to run. Raises Stale."""
    _, call = _at_call(state, command)
    return [
        ToolStarted(
            s=command.s,
            run_id=command.run_id,
            epoch=command.epoch,
            tool_call_id=call.id,
            message_id=call.return_id,
            name=call.name,
            idempotent=command.idempotent,
        )
    ]


def finish_tool(state: Conversation, command: FinishTool) -> list[ConversationEvent]:
    """Record what a call came to. Raises Stale."""
    _, call = _at_call(state, command)
    finished = return_of(call, command.run_id, command.status, command.content, command.source)
    optional = {
        "stdout": command.stdout,
        "stderr": command.stderr,
        "effects": command.effects or None,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    return [finished.model_copy(update=given)]


def finish_run(state: Conversation, command: FinishRun) -> list[ConversationEvent]:
    """Record the end of a run. Raises Stale."""
    run = _held(state, command.ending.run_id, command.ending.epoch)
    if run.cancelled and command.ending.status != "cancelled":
        raise Stale(f"{run.run_id} is cancelled: it can end in no other way.")
    if run.step is None:
        # Messages that waited for a run that never began are let in all the same: none is lost.
        return [*_let_in(state, run.run_id, _own(run)), *over(state, run, command.ending)]
    failed = StepFinished(s=run.step.s, outcome="failed", parts=0, error=command.ending.error)
    return [failed, *over(state, step_taken(run, failed), command.ending)]
