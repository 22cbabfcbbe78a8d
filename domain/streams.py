"""Which id names which stream, and which ids follow from others."""

import hashlib
import re
from typing import Final
from uuid import UUID

# RFC 9562 version 4, in lower case: the only form of id on the wire.
_UUID4: Final = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"

# More than any stream will hold, and within a database's 64-bit integers.
VERSION_MAX: Final = 2**62

CONVERSATION: Final = "conv"
AGENT: Final = "agent"
BLOCK: Final = "block"
ARCHIVE: Final = "archive"
PASSAGE: Final = "passage"
MESSAGE: Final = "message"
RUN: Final = "run"
STEP: Final = "step"
PING: Final = "ping"
USER: Final = "user"
COMPACTION: Final = "compaction"
TOOL: Final = "tool"
MCP_SERVER: Final = "mcp_server"
CONSOLIDATION: Final = "consolidation"

_PATTERNS: Final = {
    prefix: re.compile(f"{prefix}-{_UUID4}")
    for prefix in (
        *(CONVERSATION, AGENT, BLOCK, ARCHIVE, MESSAGE, RUN, STEP, USER),
        *(COMPACTION, CONSOLIDATION, TOOL, MCP_SERVER),
    )
}


def pattern_of(prefix: str) -> str:
    """Give the regular expression, anchored, of ids with this prefix."""
    return f"^{prefix}-{_UUID4}$"


def is_id(prefix: str, text: str) -> bool:
    """Tell whether `text` is a well-formed id with this prefix."""
    return _PATTERNS[prefix].fullmatch(text) is not None


def kind_of(stream: str) -> str:
    """Give the prefix of a stream's id, which names its aggregate."""
    return stream.split("-", 1)[0]


def id_of(prefix: str, uuid: UUID) -> str:
    """Spell an id from a version 4 UUID that the caller has drawn."""
    return f"{prefix}-{uuid}"


def default_conversation(agent_id: str) -> str:
    """Give the stream of an agent's own conversation, which no client sees under this id."""
    return f"{CONVERSATION}-{agent_id.split('-', 1)[1]}"


def is_default(conversation_id: str, agent_id: str) -> bool:
    """Tell whether a conversation is an agent's own."""
    return conversation_id == default_conversation(agent_id)


def archive_of(agent_id: str) -> str:
    """Give the stream of an agent's own archive, which begins with its first passage."""
    return f"{ARCHIVE}-{agent_id.split('-', 1)[1]}"


def owner_of(archive_id: str) -> str:
    """Give the agent whose own archive this is."""
    return f"{AGENT}-{archive_id.split('-', 1)[1]}"


def derived_id(prefix: str, source: str) -> str:
    """Give the id that follows from `source` alone: the same one at every replay, in uuid4 form."""
    return f"{prefix}-{UUID(bytes=hashlib.sha256(source.encode()).digest()[:16], version=4)}"


def system_message_id(conversation_id: str) -> str:
    """Give the id of a conversation's system message: one for life, whatever is recompiled."""
    return derived_id(MESSAGE, f"{conversation_id}/system")


def otid_of(message_id: str, part: int) -> str:
    """Give the otid of a message's part: its id with the last 7 bits replaced by the index.

    More than 128 parts wrap around, as the rule leaves no room for them (letta-client 1.12.1
    joins by id and otid, and no vendor sends that many).
    """
    uuid = UUID(message_id.split("-", 1)[1])
    return str(UUID(int=uuid.int & ~0x7F | part & 0x7F))
