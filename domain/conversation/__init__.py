"""A conversation: its settings, its messages, its runs; who may write what when."""

from typing import Final

from domain.conversation.commands import (
    AppendDeltas,
    ChangeConversation,
    ClaimRun,
    ConversationCommand,
    DeleteConversation,
    FinishRun,
    FinishStep,
    NewMessage,
    QueueRun,
    StartConversation,
    StartStep,
)
from domain.conversation.decide import (
    WAITING_RUNS_MAX,
    decide,
)
from domain.conversation.facts import (
    ConversationChanged,
    ConversationDeleted,
    ConversationEvent,
    ConversationSettings,
    ConversationStarted,
    Counts,
    MessageAppended,
    MessageQueued,
    Parent,
    System,
)
from domain.conversation.state import (
    Conversation,
    Waiting,
    evolve,
)
from domain.event import Decider

conversation: Final[Decider[Conversation, ConversationCommand, ConversationEvent]] = Decider(
    initial=Conversation(), evolve=evolve, decide=decide
)

__all__ = [
    "WAITING_RUNS_MAX",
    "AppendDeltas",
    "ChangeConversation",
    "ClaimRun",
    "Conversation",
    "ConversationChanged",
    "ConversationCommand",
    "ConversationDeleted",
    "ConversationEvent",
    "ConversationSettings",
    "ConversationStarted",
    "Counts",
    "DeleteConversation",
    "FinishRun",
    "FinishStep",
    "MessageAppended",
    "MessageQueued",
    "NewMessage",
    "Parent",
    "QueueRun",
    "StartConversation",
    "StartStep",
    "System",
    "Waiting",
    "conversation",
    "decide",
    "evolve",
]
