"""The compiled system prompt: the agent's own words, its memory blocks, what is around them.

The order and the names of the parts are those of the original (contract section 11.2).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from xml.sax.saxutils import escape, quoteattr

from pydantic_core import to_json

from domain.agent import AgentSettings
from domain.block import BlockSettings
from domain.conversation import Counts

CORE_MEMORY: Final = "{CORE_MEMORY}"
TAGS_SHOWN_MAX: Final = 50
DEFAULT_SYSTEM: Final = (
    "You are an assistant with a memory of your own. What you should always keep in mind is in your "
    "memory blocks, below; each has a label, a purpose and a size it should stay within. They were "
    "written down for you and may be out of date: trust what the user says now over what they say. "
    "Where you have tools to write into them, note what will matter later and correct what is wrong. "
    "Older parts of a long conversation may be replaced by a summary, so do not assume that you see "
    "everything that was ever said; if you are unsure, say so and ask. Answer in the user's language, "
    "be brief where that is enough, and never make up what you do not know."
)


class MemoryBlock(NamedTuple):
    """A block as it stands in an agent's memory."""

    block_id: str
    version: int
    settings: BlockSettings


def compiled(  # noqa: PLR0913 - what a prompt is made of
    settings: AgentSettings,
    blocks: Sequence[MemoryBlock],
    *,
    agent_id: str,
    conversation_id: str,
    at: datetime,
    counts: Counts,
    archive_tags: Sequence[str] = (),
) -> str:
    """Write the system prompt. The memory goes where `{CORE_MEMORY}` stands, else at the end."""
    about = _metadata(agent_id, conversation_id, at, counts, archive_tags)
    memory = f"{_memory(blocks)}\n\n{about}"
    if CORE_MEMORY in settings.system:
        return settings.system.replace(CORE_MEMORY, memory)
    return f"{settings.system}\n\n{memory}".lstrip()


def _memory(blocks: Sequence[MemoryBlock]) -> str:
    rows = "\n".join(_block(one.settings) for one in blocks)
    return f"<memory_blocks>\n{rows}\n</memory_blocks>" if rows else "<memory_blocks/>"


def _block(block: BlockSettings) -> str:
    """Show a block. What it contains is data: it cannot end its element, or begin another."""
    read_only = ' read_only="true"' if block.read_only else ""
    return (
        f"<memory_block label={quoteattr(block.label)}{read_only}>\n"
        f"<description>{escape(block.description or '')}</description>\n"
        f"<size>chars_current={len(block.value)} chars_limit={block.limit}</size>\n"
        f"<value>\n{escape(block.value)}\n</value>\n"
        "</memory_block>"
    )


def _metadata(
    agent_id: str, conversation_id: str, at: datetime, counts: Counts, archive_tags: Sequence[str]
) -> str:
    lines = [
        f"- AGENT_ID: {agent_id}",
        f"- CONVERSATION_ID: {conversation_id}",
        f"- Memory was last put together at {at.astimezone(UTC).isoformat(timespec='seconds')}",
        f"- Earlier messages of this conversation: {counts.messages}",
    ]
    if counts.passages:
        lines.append(f"- Archival memories: {counts.passages}")
    if archive_tags:
        lines.append(f"- Their tags: {_tags(archive_tags)}")
    return "<memory_metadata>\n{}\n</memory_metadata>".format("\n".join(lines))


def _tags(tags: Sequence[str]) -> str:
    """Name tags, as data that cannot end its element; of many the first ones."""
    more = f", and {len(tags) - TAGS_SHOWN_MAX} more" if len(tags) > TAGS_SHOWN_MAX else ""
    return escape(", ".join(to_json(tag).decode() for tag in tags[:TAGS_SHOWN_MAX])) + more
