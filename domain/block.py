"""A memory block: a labelled text that agents keep in their system prompt."""

from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias, assert_never

from domain.block_edits import Edit, edited
from domain.errors import NotFound, Refused
from domain.event import Command, Decider, Event, Value
from domain.run import Cause

# Letta's own default (contract section 11.2); shown to the model, whose own edits keep to it.
BLOCK_LIMIT_DEFAULT: Final = 100_000
# What nobody's block may hold more of, whatever its limit.
VALUE_CHARS_MAX: Final = 1024 * 1024
# The newest tool calls that have edited the block: one that comes again after a crash is among them.
CAUSES_MAX: Final = 256


class BlockMoved(Refused):
    """The block is no longer at the version that the request is based on."""

    def __init__(self, version: int, base_version: int) -> None:
        super().__init__(f"The block is at version {version}, not at {base_version}.")
        self.version = version


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
    """A block changed; only what did is there. `base_version` is what the editor had seen.

    `reverted_to` is the version that the block was made to be like again.
    """

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
    reverted_to: int | None = None


class BlockDeleted(Event):
    """The block is gone; its history stays."""

    type: Literal["block.deleted"] = "block.deleted"


BlockEvent: TypeAlias = BlockCreated | BlockChanged | BlockDeleted


@dataclass(frozen=True, slots=True)
class Block:
    """A block as it stands; `settings` is None before it is created.

    `causes` are the tool calls that edited it last.
    """

    settings: BlockSettings | None = None
    version: int = 0
    deleted: bool = False
    causes: tuple[Cause, ...] = ()


def evolve(state: Block, event: BlockEvent, version: int) -> Block:
    """Give the state after `event`, which is at `version`."""
    match event:
        case BlockCreated():
            return replace(state, settings=event.settings, version=version)
        case BlockChanged():
            changed = replace(state, settings=_after(state, event), version=version)
            return changed if event.cause is None else _with_cause(changed, event.cause)
        case BlockDeleted():
            return replace(state, deleted=True, version=version)
        case _:
            assert_never(event)


def _after(state: Block, event: BlockChanged) -> BlockSettings | None:
    changes = {name: getattr(event, name) for name in changed_fields(event)}
    return None if state.settings is None else state.settings.model_copy(update=changes)


def _with_cause(state: Block, cause: Cause) -> Block:
    return replace(state, causes=(*state.causes, cause)[-CAUSES_MAX:])


def changed_fields(event: BlockChanged) -> set[str]:
    """Name the settings that a change carries."""
    return event.model_fields_set - {"type", "base_version", "cause", "reverted_to"}


@dataclass(frozen=True, slots=True)
class CreateBlock(Command):
    """Make a block."""

    settings: BlockSettings


@dataclass(frozen=True, slots=True)
class ChangeBlock(Command):
    """Set what `changes` names. `base_version` refuses the change if the block has moved on.

    A change with a `cause` that has had its effect is none. `reverted_to` says where it comes from.
    """

    changes: dict[str, Any]
    base_version: int | None = None
    cause: Cause | None = None
    reverted_to: int | None = None


@dataclass(frozen=True, slots=True)
class EditBlock(Command):
    """Edit the text as it is when this is decided, once for each `cause`, within the limit."""

    edit: Edit
    cause: Cause


@dataclass(frozen=True, slots=True)
class DeleteBlock(Command):
    """Put an end to a block."""


BlockCommand: TypeAlias = CreateBlock | ChangeBlock | EditBlock | DeleteBlock


def decide(state: Block, command: BlockCommand) -> list[BlockEvent]:
    """Answer a command with facts. Raises NotFound or Refused."""
    if isinstance(command, CreateBlock):
        return _create(state, command)
    if state.settings is None or state.deleted:
        raise NotFound("Block", "")
    match command:
        case ChangeBlock():
            return _change(state, state.settings, command)
        case EditBlock():
            return _edit(state, state.settings, command)
        case DeleteBlock():
            return [BlockDeleted()]
        case _:
            assert_never(command)


def _create(state: Block, command: CreateBlock) -> list[BlockEvent]:
    if state.settings is not None:
        raise Refused("The block exists already.")
    return [BlockCreated(settings=command.settings)]


def _change(state: Block, now: BlockSettings, command: ChangeBlock) -> list[BlockEvent]:
    if command.cause is not None and command.cause in state.causes:
        return []
    if command.base_version not in (None, state.version):
        raise BlockMoved(state.version, command.base_version)
    changed: dict[str, Any] = {
        name: value for name, value in command.changes.items() if getattr(now, name) != value
    }
    if not changed:
        return []
    for name in ("cause", "reverted_to"):
        if (value := getattr(command, name)) is not None:
            changed[name] = value
    return [BlockChanged(base_version=state.version, **changed)]


def _edit(state: Block, now: BlockSettings, command: EditBlock) -> list[BlockEvent]:
    if command.cause in state.causes:
        return []
    if now.read_only:
        raise Refused("The block is read-only.")
    value = edited(now.value, command.edit)
    _check_size(now, len(value))
    return _change(state, now, ChangeBlock({"value": value}, cause=command.cause))


def _check_size(now: BlockSettings, size: int) -> None:
    """Refuse what is over the limit, but not what brings a block that is over it nearer to it."""
    limit = min(now.limit, VALUE_CHARS_MAX)
    if size > limit and size >= len(now.value):
        raise Refused(
            f"With this the block would have {size} characters, and its limit is {limit}: it has "
            f"{len(now.value)} now."
        )


block: Final[Decider[Block, BlockCommand, BlockEvent]] = Decider(
    initial=Block(), evolve=evolve, decide=decide
)
