"""A block's versions as people see them, and a memory then beside what it is now."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from domain.block import Block, BlockChanged, BlockCreated, BlockDeleted, BlockEvent, changed_fields
from domain.event import Recorded, Value
from domain.run import Cause
from projections.diff import unified
from projections.system import MemoryBlock

Kind: TypeAlias = Literal["created", "changed", "reverted", "deleted"]


class CauseAnswer(Value):
    """The tool call by which an agent changed a block. What the log does not tell is null."""

    conversation_id: str
    offset: int
    agent_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    tool_call_id: str | None = None
    tool: str | None = None


class SettingChange(Value):
    """What a setting was before and is after."""

    before: Any
    after: Any


class BlockVersion(Value):
    """A fact of a block. `changes` has the settings beside the value, whose change is the `diff`.

    `diff` is in the unified format, without a header; applied one after the other, from the first
    version on, the diffs give every value. `chars` is the length of the value after it.
    """

    version: int
    at: datetime
    by: str
    kind: Kind
    base_version: int | None
    reverted_to: int | None
    cause: CauseAnswer | None
    changes: dict[str, SettingChange]
    diff: str
    chars: int


def version_of(
    before: Block, after: Block, fact: Recorded[BlockEvent], cause: CauseAnswer | None
) -> BlockVersion:
    """Show a fact of a block that made `after` of `before`."""
    event = fact.event
    changed = event if isinstance(event, BlockChanged) else None
    names = _names(event)
    old, new = _settings(before), _settings(after)
    return BlockVersion(
        version=fact.version,
        at=fact.at,
        by=fact.by,
        kind=_kind(event),
        base_version=None if changed is None else changed.base_version,
        reverted_to=None if changed is None else changed.reverted_to,
        cause=cause,
        changes={
            name: SettingChange(before=old.get(name), after=new[name])
            for name in new
            if name in names and name != "value"
        },
        diff=unified(old.get("value", ""), new.get("value", "")),
        chars=len(new.get("value", "")),
    )


def cause_of(event: BlockEvent) -> Cause | None:
    """Give the tool call that a fact names."""
    return event.cause if isinstance(event, BlockChanged) else None


def _kind(event: BlockEvent) -> Kind:
    match event:
        case BlockCreated():
            return "created"
        case BlockDeleted():
            return "deleted"
        case BlockChanged():
            return "changed" if event.reverted_to is None else "reverted"


def _names(event: BlockEvent) -> set[str]:
    match event:
        case BlockCreated():
            return event.settings.model_fields_set
        case BlockChanged():
            return changed_fields(event)
        case BlockDeleted():
            return set()


def _settings(block: Block) -> Mapping[str, Any]:
    return {} if block.settings is None else block.settings.model_dump()


# --- a conversation's memory ------------------------------------------------------------------


class BlockThen(Value):
    """A block at a version."""

    block_id: str
    version: int
    label: str
    value: str
    limit: int
    description: str | None
    read_only: bool


class RememberedBlock(Value):
    """A block in a system prompt under the name `label`, and what has become of it since.

    `now` is null for one that the conversation has no more: detached, or deleted. `diff` leads from
    the value in the prompt to the present one.
    """

    label: str
    then: BlockThen
    now: BlockThen | None
    diff: str


class ConversationMemory(Value):
    """The memory that the model saw at an offset: what the system prompt was compiled from.

    `system_at` is the offset of the fact that holds the prompt. `added` are the blocks that the
    conversation would have if its prompt were compiled now, and had not then; `stale` tells whether
    anything would be different.
    """

    conversation_id: str
    at: int
    system_at: int
    agent_version: int
    blocks: tuple[RememberedBlock, ...]
    added: tuple[BlockThen, ...]
    stale: bool


def block_then(block: MemoryBlock) -> BlockThen:
    """Show a block at a version."""
    shown = block.settings.model_dump(include=set(BlockThen.model_fields))
    return BlockThen(block_id=block.block_id, version=block.version, **shown)


def remembered(
    then: Mapping[str, MemoryBlock], now: Sequence[MemoryBlock]
) -> tuple[tuple[RememberedBlock, ...], tuple[BlockThen, ...]]:
    """Set blocks, by their names in a prompt, beside what they are now; give the new ones, too."""
    present = {one.block_id: one for one in now}
    before = {one.block_id for one in then.values()}
    blocks = tuple(_remembered(name, one, present.get(one.block_id)) for name, one in then.items())
    return blocks, tuple(block_then(one) for one in now if one.block_id not in before)


def _remembered(label: str, then: MemoryBlock, now: MemoryBlock | None) -> RememberedBlock:
    return RememberedBlock(
        label=label,
        then=block_then(then),
        now=None if now is None else block_then(now),
        diff=unified(then.settings.value, "" if now is None else now.settings.value),
    )
