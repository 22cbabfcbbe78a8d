"""What may be done to a window, and when: compactions, their undoing, pins, the system prompt."""

from collections.abc import Iterable
from typing import Final

from domain.conversation.commands import (
    FailCompaction,
    PinMessage,
    RecompileSystem,
    RecordCompaction,
    RedoCompaction,
    ResetWindow,
    StartCompaction,
    UndoCompaction,
)
from domain.conversation.compaction_facts import (
    MessageChanged,
    WindowCompactionFailed,
    WindowCompactionRedone,
    WindowCompactionStarted,
    WindowCompactionUndone,
    WindowRecompiled,
)
from domain.conversation.ending import denied, given_up
from domain.conversation.events import ConversationEvent
from domain.conversation.facts import WindowRolledBack
from domain.conversation.import_commands import (
    ImportCompaction,
)
from domain.conversation.state import Conversation
from domain.conversation.window_state import Compacted
from domain.errors import Busy, Full, NotFound, Refused, Stale
from domain.run import Span

PINNED_MAX: Final = 1000
Facts = list[ConversationEvent]


def start(state: Conversation, command: StartCompaction) -> Facts:
    """Begin to compact; nothing if a compaction is under way already. Raises Stale.

    One that was under way is given up as lost if the caller knows that nobody is at it.
    """
    _check_run(state, command.run_id, command.epoch)
    under_way = state.window.compacting
    if under_way is not None and under_way.compaction_id != command.instead_of:
        return []
    started = WindowCompactionStarted(
        compaction_id=command.compaction_id,
        trigger=command.trigger,
        event_id=command.event_id,
        tokens=command.tokens,
        context_window=command.context_window,
    )
    about = {name: value for name in ("run_id", "s") if (value := getattr(command, name))}
    return [*given_up(state, "lost"), started.model_copy(update=about)]


def _check_run(state: Conversation, run_id: str | None, epoch: int) -> None:
    """Check that the run is still its worker's, and still wants the window smaller."""
    if run_id is None:
        return
    run = state.runs.get(run_id)
    if run is None or run.epoch != epoch or run.cancelled:
        raise Stale(f"{run_id} is over, cancelled, or another worker's.")
    if run.crowded is None:
        raise Stale(f"{run_id} has room: somebody else has made it.")


def record(state: Conversation, command: RecordCompaction) -> Facts:
    """Have items leave the window, if they may still.

    Raises Stale if it is not under way, or if its run was cancelled meanwhile.
    """
    event = command.event
    _check_under_way(state, event.compaction_id)
    _check_wanted(state, event.run_id)
    if obstacle := _overtaken(state, event.evicted.ranges, event.audit.planned_at):
        return [
            WindowCompactionFailed(
                compaction_id=event.compaction_id,
                reason="overtaken",
                detail=obstacle,
                attempts=event.audit.attempts,
            )
        ]
    return [event]


def _check_under_way(state: Conversation, compaction_id: str) -> None:
    under_way = state.window.compacting
    if under_way is None or under_way.compaction_id != compaction_id:
        raise Stale(f"{compaction_id} is not under way.")


def _check_wanted(state: Conversation, run_id: str | None) -> None:
    """Check that the run which wanted it goes on: after a cancellation nothing changes."""
    run = None if run_id is None else state.runs.get(run_id)
    if run is not None and run.cancelled:
        raise Stale(f"{run_id} is cancelled.")


def _overtaken(state: Conversation, ranges: tuple[Span, ...], planned_at: int) -> str | None:
    """Say what has happened since a plan was made that it does not fit any more.

    Messages that came meanwhile are no obstacle: they are behind everything that was planned on.
    """
    if state.window.changed_at > planned_at:
        return f"the window was changed at offset {state.window.changed_at}"
    asked = [offset for run in state.runs.values() for offset in run.asked]
    if taken := _within(ranges, asked):
        return f"offset {taken} is what a run under way was asked"
    calls = [call.s for run in state.runs.values() for call in run.calls]
    waiting = [] if state.asked is None else [call.s for call in state.asked.calls]
    if taken := _within(ranges, [*calls, *waiting]):
        return f"step {taken} has calls without a return"
    return None


def take_over(state: Conversation, command: ImportCompaction) -> Facts:
    """Have leave the window what had left it elsewhere; nothing if that is known.

    Raises Busy while a run is under way, or Stale if the window is not as it was planned on.
    """
    event = command.compacted
    if event.compaction_id in state.window.compactions:
        return []
    if state.first_run is not None:
        raise Busy(state.first_run.run_id)
    if obstacle := _overtaken(state, event.evicted.ranges, event.audit.planned_at):
        raise Stale(f"{event.compaction_id} cannot be imported: {obstacle}.")
    return [*given_up(state, "lost"), command.started, event]


def _within(ranges: tuple[Span, ...], offsets: Iterable[int]) -> int | None:
    return next(
        (one for one in offsets if any(span.first <= one <= span.last for span in ranges)), None
    )


def fail(state: Conversation, command: FailCompaction) -> Facts:
    """Record that a compaction came to nothing. Raises Stale if it is not under way."""
    _check_under_way(state, command.event.compaction_id)
    return [command.event]


def undo(state: Conversation, command: UndoCompaction) -> Facts:
    """Bring back what a compaction evicted; nothing if it is back. Raises NotFound."""
    known = _known(state, command.compaction_id)
    if not known.active:
        return []
    return [WindowCompactionUndone(compaction_id=command.compaction_id)]


def redo(state: Conversation, command: RedoCompaction) -> Facts:
    """Have a compaction hold again; nothing if it does. Raises NotFound or Refused."""
    known = _known(state, command.compaction_id)
    if known.active:
        return []
    if known.rolled_back:
        raise Refused(f"{command.compaction_id} was rolled back with its turn.")
    if other := state.window.overlapping(known.ranges):
        raise Refused(
            f"{command.compaction_id} cannot be redone: {other} has evicted some of the same "
            "messages since; undo that one first."
        )
    if pinned := sorted(state.window.pinned.intersection(command.message_ids)):
        raise Refused(
            f"{command.compaction_id} cannot be redone: {', '.join(pinned)} has been pinned since; "
            "let it go first."
        )
    return [WindowCompactionRedone(compaction_id=command.compaction_id)]


def _known(state: Conversation, compaction_id: str) -> Compacted:
    known = state.window.compactions.get(compaction_id)
    if known is None:
        raise NotFound("Compaction", compaction_id)
    return known


def pin(state: Conversation, command: PinMessage) -> Facts:
    """Pin a message or let it go; nothing if it is so already. Raises Full."""
    if command.pinned == (command.message_id in state.window.pinned):
        return []
    if command.pinned and len(state.window.pinned) >= PINNED_MAX:
        raise Full(f"{PINNED_MAX} messages are pinned already; let one go first.")
    return [MessageChanged(message_id=command.message_id, pinned=command.pinned)]


def recompile(state: Conversation, command: RecompileSystem) -> Facts:
    """Have the system prompt be another one. Raises Refused where memory is consolidated."""
    if state.consolidates is not None:
        raise Refused("The prompt of a consolidation is not compiled from its agent's memory.")
    return [WindowRecompiled(system=command.system, reason=command.reason)]


def reset(state: Conversation, command: ResetWindow) -> Facts:
    """Have all leave the window but the system prompt. Raises Busy while a run is not over."""
    if state.first_run is not None:
        raise Busy(state.first_run.run_id)
    closed = [*given_up(state, "cancelled"), *denied(state, "user")]
    emptied = emptied_through(state, state.version + len(closed))
    return [*closed, emptied, WindowRecompiled(system=command.system, reason="reset")]


def emptied_through(state: Conversation, offset: int) -> WindowRolledBack:
    """Give the fact by which all leaves the window that came up to an offset."""
    held = tuple(key for key, one in state.window.compactions.items() if not one.rolled_back)
    event = WindowRolledBack(run_ids=(), message_ids=(), through=offset)
    return event.model_copy(update={"compaction_ids": held}) if held else event
