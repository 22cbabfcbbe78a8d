"""A memory block: a labelled text that agents keep in their system prompt."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, assert_never

from domain.errors import NotFound, Refused
from domain.event import Command, Decider, Event, Value
from domain.run import Cause

# Letta's own default (contract section 11.2); shown to the model, not enforced.
BLOCK_LIMIT_DEFAULT: Final = 100_000


class BlockSettings(Value):
    """What a block is, beside its history."""

    label: str
    value: str = ""
    limit: int = BLOCK_LIMIT_DEFAULT
    description: str | None = None
    read_only: bool = False
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    hidden: bool | None = None


class BlockCreated(Event):
    """A block came to be."""

    type: Literal["block.created"] = "block.created"
    settings: BlockSettings


class BlockChanged(Event):
    """A block changed; only what did is there. `base_version` is what the editor had seen."""

    type: Literal["block.changed"] = "block.changed"
    base_version: int
    label: str | None = None
    value: str | None = None
    limit: int | None = None
    description: str | None = None
    read_only: bool | None = None
    metadata: dict[str, Any] | None = None
    tags: tuple[str, ...] | None = None
    hidden: bool | None = None
    cause: Cause | None = None


class BlockDeleted(Event):
    """The block is gone; its history stays."""

    type: Literal["block.deleted"] = "block.deleted"


BlockEvent: TypeAlias = BlockCreated | BlockChanged | BlockDeleted


@dataclass(frozen=True, slots=True)
class Block:
    """A block as it stands; `settings` is None before it is created."""

    settings: BlockSettings | None = None
    version: int = 0
    deleted: bool = False


def evolve(state: Block, event: BlockEvent, version: int) -> Block:
    """Give the state after `event`, which is at `version`."""
    match event:
        case BlockCreated():
            return replace(state, settings=event.settings, version=version)
        case BlockChanged():
            return replace(state, settings=_after(state, event), version=version)
        case BlockDeleted():
            return replace(state, deleted=True, version=version)
        case _:
            assert_never(event)


def _after(state: Block, event: BlockChanged) -> BlockSettings | None:
    changes = {name: getattr(event, name) for name in changed_fields(event)}
    return None if state.settings is None else state.settings.model_copy(update=changes)


def changed_fields(event: BlockChanged) -> set[str]:
    """Name the settings that a change carries."""
    return event.model_fields_set - {"type", "base_version", "cause"}


@dataclass(frozen=True, slots=True)
class CreateBlock(Command):
    """Make a block."""

    settings: BlockSettings


@dataclass(frozen=True, slots=True)
class ChangeBlock(Command):
    """Set what `changes` names. `base_version` refuses the change if the block has moved on."""

    changes: dict[str, Any]
    base_version: int | None = None
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class DeleteBlock(Command):
    """Put an end to a block."""


BlockCommand: TypeAlias = CreateBlock | ChangeBlock | DeleteBlock


def decide(state: Block, command: BlockCommand) -> list[BlockEvent]:
    """Answer a command with facts. Raises NotFound or Refused."""
    if isinstance(command, CreateBlock):
        return _create(state, command)
    if state.settings is None or state.deleted:
        raise NotFound("Block", "")
    match command:
        case ChangeBlock():
            return _change(state, state.settings, command)
        case DeleteBlock():
            return [BlockDeleted()]
        case _:
            assert_never(command)


def _create(state: Block, command: CreateBlock) -> list[BlockEvent]:
    if state.settings is not None:
        raise Refused("The block exists already.")
    return [BlockCreated(settings=command.settings)]


def _change(state: Block, now: BlockSettings, command: ChangeBlock) -> list[BlockEvent]:
    if command.base_version not in (None, state.version):
        raise Refused(f"The block is at version {state.version}, not at {command.base_version}.")
    changed: dict[str, Any] = {
        name: value for name, value in command.changes.items() if getattr(now, name) != value
    }
    if not changed:
        return []
    if command.cause is not None:
        changed["cause"] = command.cause
    return [BlockChanged(base_version=state.version, **changed)]


block: Final[Decider[Block, BlockCommand, BlockEvent]] = Decider(
    initial=Block(), evolve=evolve, decide=decide
)
