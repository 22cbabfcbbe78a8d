"""An agent: its model, its system prompt, its memory blocks, its limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, assert_never

from domain.errors import NotFound, Refused
from domain.event import Command, Decider, Event, Value
from domain.sleeptime import Sleeptime

TOOLS_MAX: Final = 128


class AgentSettings(Value):
    """What an agent is, beside its history. `model` is a handle, `provider/name`.

    `block_ids` are the blocks in its system prompt, in the order they were attached; `tools` are
    names of the server's, `approval_tools` those of them that run only if the client approves, and
    `terminal_tools` those whose success ends the turn.
    With `enable_sleeptime` its memory is consolidated as `sleeptime` says, or by default.
    """

    name: str
    model: str
    agent_type: str = "letta_v1_agent"
    system: str = ""
    description: str | None = None
    block_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    timezone: str | None = None
    context_window_limit: int | None = None
    model_settings: dict[str, Any] | None = None
    compaction_settings: dict[str, Any] | None = None
    embedding: str | None = None
    message_buffer_autoclear: bool = False
    enable_sleeptime: bool | None = None
    hidden: bool | None = None
    tools: tuple[str, ...] = ()
    approval_tools: tuple[str, ...] = ()
    terminal_tools: tuple[str, ...] = ()
    sleeptime: Sleeptime | None = None


class AgentCreated(Event):
    """An agent came to be."""

    type: Literal["agent.created"] = "agent.created"
    settings: AgentSettings


class AgentChanged(Event):
    """An agent changed; only what did is there."""

    type: Literal["agent.changed"] = "agent.changed"
    name: str | None = None
    model: str | None = None
    agent_type: str | None = None
    system: str | None = None
    description: str | None = None
    block_ids: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    metadata: dict[str, Any] | None = None
    timezone: str | None = None
    context_window_limit: int | None = None
    model_settings: dict[str, Any] | None = None
    compaction_settings: dict[str, Any] | None = None
    embedding: str | None = None
    message_buffer_autoclear: bool | None = None
    enable_sleeptime: bool | None = None
    hidden: bool | None = None
    tools: tuple[str, ...] | None = None
    approval_tools: tuple[str, ...] | None = None
    terminal_tools: tuple[str, ...] | None = None
    sleeptime: Sleeptime | None = None


class AgentDeleted(Event):
    """The agent is gone; its history stays."""

    type: Literal["agent.deleted"] = "agent.deleted"


AgentEvent: TypeAlias = AgentCreated | AgentChanged | AgentDeleted


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent as it stands; `settings` is None before it is created."""

    settings: AgentSettings | None = None
    version: int = 0
    deleted: bool = False


def evolve(state: Agent, event: AgentEvent, version: int) -> Agent:
    """Give the state after `event`, which is at `version`."""
    match event:
        case AgentCreated():
            return replace(state, settings=event.settings, version=version)
        case AgentChanged():
            return replace(state, settings=_after(state, event), version=version)
        case AgentDeleted():
            return replace(state, deleted=True, version=version)
        case _:
            assert_never(event)


def _after(state: Agent, event: AgentChanged) -> AgentSettings | None:
    changes = {name: getattr(event, name) for name in changed_fields(event)}
    return None if state.settings is None else state.settings.model_copy(update=changes)


def changed_fields(event: AgentChanged) -> set[str]:
    """Name the settings that a change carries."""
    return event.model_fields_set - {"type"}


@dataclass(frozen=True, slots=True)
class CreateAgent(Command):
    """Make an agent."""

    settings: AgentSettings


# What was sent, laid over what the agent is when that is decided. It is pure, as `decide` is.
Merge: TypeAlias = Callable[[AgentSettings], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class ChangeAgent(Command):
    """Set what `changes` names, and what each of `merges` gives for the settings as they are then."""

    changes: Mapping[str, Any]
    merges: tuple[Merge, ...] = ()


@dataclass(frozen=True, slots=True)
class AttachBlock(Command):
    """Put a block into the agent's memory."""

    block_id: str


@dataclass(frozen=True, slots=True)
class DetachBlock(Command):
    """Take a block out of the agent's memory."""

    block_id: str


@dataclass(frozen=True, slots=True)
class AttachTool(Command):
    """Give the agent a tool; one that is new to it runs only with approval if `gated`."""

    name: str
    gated: bool = False


@dataclass(frozen=True, slots=True)
class DetachTool(Command):
    """Take a tool away."""

    name: str


@dataclass(frozen=True, slots=True)
class GateTool(Command):
    """Have a tool run only with the client's approval, or without again."""

    name: str
    gated: bool


@dataclass(frozen=True, slots=True)
class DeleteAgent(Command):
    """Put an end to an agent."""


AgentCommand: TypeAlias = (
    CreateAgent
    | ChangeAgent
    | AttachBlock
    | DetachBlock
    | AttachTool
    | DetachTool
    | GateTool
    | DeleteAgent
)


def decide(state: Agent, command: AgentCommand) -> list[AgentEvent]:
    """Answer a command with facts. Raises NotFound or Refused."""
    if isinstance(command, CreateAgent):
        return _create(state, command)
    if state.settings is None or state.deleted:
        raise NotFound("Agent", "")
    now = state.settings
    match command:
        case ChangeAgent():
            return _change(now, _merged(now, command))
        case AttachBlock():
            others = tuple(one for one in now.block_ids if one != command.block_id)
            return _change(now, {"block_ids": (*others, command.block_id)})
        case DetachBlock():
            return _detach(now, command.block_id)
        case AttachTool():
            return _attach_tool(now, command)
        case DetachTool():
            return _detach_tool(now, command.name)
        case GateTool():
            return _change(now, {"approval_tools": _gated(now, command.name, command.gated)})
        case DeleteAgent():
            return [AgentDeleted()]
        case _:
            assert_never(command)


def _create(state: Agent, command: CreateAgent) -> list[AgentEvent]:
    if state.settings is not None:
        raise Refused("The agent exists already.")
    return [AgentCreated(settings=command.settings)]


def _merged(now: AgentSettings, command: ChangeAgent) -> dict[str, Any]:
    changes = dict(command.changes)
    for merge in command.merges:
        changes |= merge(now)
    return changes


def _change(now: AgentSettings, changes: dict[str, Any]) -> list[AgentEvent]:
    changed = {name: value for name, value in changes.items() if getattr(now, name) != value}
    return [AgentChanged(**changed)] if changed else []


def _detach(now: AgentSettings, block_id: str) -> list[AgentEvent]:
    if block_id not in now.block_ids:
        raise NotFound("Block", block_id)
    return _change(now, {"block_ids": tuple(one for one in now.block_ids if one != block_id)})


def _attach_tool(now: AgentSettings, command: AttachTool) -> list[AgentEvent]:
    if command.name in now.tools:
        return []
    if len(now.tools) >= TOOLS_MAX:
        raise Refused(f"An agent has at most {TOOLS_MAX} tools.")
    changes: dict[str, Any] = {"tools": (*now.tools, command.name)}
    if command.gated:
        changes["approval_tools"] = _gated(now, command.name, True)
    return _change(now, changes)


def _detach_tool(now: AgentSettings, name: str) -> list[AgentEvent]:
    if name not in now.tools:
        raise NotFound("Tool", name)
    return _change(
        now,
        {
            "tools": tuple(one for one in now.tools if one != name),
            "approval_tools": _gated(now, name, False),
            "terminal_tools": tuple(one for one in now.terminal_tools if one != name),
        },
    )


def _gated(now: AgentSettings, name: str, gated: bool) -> tuple[str, ...]:
    others = tuple(one for one in now.approval_tools if one != name)
    return (*others, name) if gated else others


agent: Final[Decider[Agent, AgentCommand, AgentEvent]] = Decider(
    initial=Agent(), evolve=evolve, decide=decide
)
