"""What decisions about a conversation need to know, and how each fact changes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import assert_never

from domain.conversation.facts import (
    ConversationChanged,
    ConversationDeleted,
    ConversationEvent,
    ConversationSettings,
    ConversationStarted,
    MessageAppended,
    MessageQueued,
)
from domain.run import (
    OpenStep,
    Run,
    RunCancelRequested,
    RunClaimed,
    RunFinished,
    RunQueued,
    StepDelta,
    StepFinished,
    StepPart,
    StepStarted,
    StepSuperseded,
    step_lost,
    step_taken,
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that waits, and where."""

    offset: int
    message: MessageQueued


@dataclass(frozen=True, slots=True)
class Conversation:
    """What decisions need: bounded by the runs that are not over, which are in queue order."""

    agent_id: str | None = None
    deleted: bool = False
    settings: ConversationSettings = field(default_factory=ConversationSettings)
    archived: bool = False
    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))
    waiting: tuple[Waiting, ...] = ()

    @property
    def next_run(self) -> Run | None:
        """The run whose turn it is."""
        return next(iter(self.runs.values()), None)


def evolve(  # noqa: C901 - one case a fact
    state: Conversation, event: ConversationEvent, version: int
) -> Conversation:
    """Give the state after `event`, which is at `version`."""
    match event:
        case ConversationStarted():
            return replace(state, agent_id=event.agent_id, settings=event.settings)
        case ConversationChanged():
            return _changed(state, event)
        case ConversationDeleted():
            return replace(state, deleted=True)
        case MessageQueued():
            return replace(state, waiting=(*state.waiting, Waiting(version, event)))
        case MessageAppended():
            return _appended(state, event)
        case RunQueued():
            return _with(state, Run(event.run_id, version, event.request))
        case RunFinished():
            return _without(state, event.run_id)
        case RunClaimed():
            return _on(state, event.run_id, lambda run: replace(run, claimed=event))
        case RunCancelRequested():
            return _cancelled(state, event.run_ids)
        case StepStarted():
            step = OpenStep(version, event.index, event.attempt)
            return _on(state, event.run_id, lambda run: replace(run, step=step))
        case StepDelta() | StepPart():
            return state
        case StepFinished():
            return _on_step(state, event.s, lambda run: step_taken(run, event))
        case StepSuperseded():
            return _on_step(state, event.s, step_lost)
        case _:
            assert_never(event)


def _changed(state: Conversation, event: ConversationChanged) -> Conversation:
    changes = event.model_dump(exclude_unset=True, exclude={"type", "last_message_at"})
    archived = changes.pop("archived", state.archived)
    return replace(
        state, settings=state.settings.model_copy(update=changes), archived=bool(archived)
    )


def _appended(state: Conversation, event: MessageAppended) -> Conversation:
    if event.queued is None:
        return state
    return replace(
        state, waiting=tuple(item for item in state.waiting if item.offset != event.queued)
    )


def _with(state: Conversation, run: Run) -> Conversation:
    return replace(state, runs=MappingProxyType({**state.runs, run.run_id: run}))


def _without(state: Conversation, run_id: str) -> Conversation:
    runs = {key: run for key, run in state.runs.items() if key != run_id}
    waiting = tuple(item for item in state.waiting if item.message.run_id != run_id)
    return replace(state, runs=MappingProxyType(runs), waiting=waiting)


def _on(state: Conversation, run_id: str, change: Callable[[Run], Run]) -> Conversation:
    run = state.runs.get(run_id)
    return state if run is None else _with(state, change(run))


def _on_step(state: Conversation, s: int, change: Callable[[Run], Run]) -> Conversation:
    for run in state.runs.values():
        if run.step is not None and run.step.s == s:
            return _with(state, change(run))
    return state


def _cancelled(state: Conversation, run_ids: tuple[str, ...]) -> Conversation:
    for run_id in run_ids:
        state = _on(state, run_id, lambda run: replace(run, cancelled=True))
    return state
