"""All that can happen in a conversation."""

from typing import TypeAlias

from domain.conversation.compaction_facts import WindowEvent
from domain.conversation.facts import (
    ConversationChanged,
    ConversationDeleted,
    ConversationStarted,
    MessageAppended,
    MessageQueued,
    MessageWithdrawn,
    WindowRolledBack,
)
from domain.conversation.memory_facts import MemoryEvent
from domain.run import RunEvent

ConversationEvent: TypeAlias = (
    ConversationStarted
    | ConversationChanged
    | ConversationDeleted
    | MessageQueued
    | MessageAppended
    | MessageWithdrawn
    | WindowRolledBack
    | WindowEvent
    | MemoryEvent
    | RunEvent
)
