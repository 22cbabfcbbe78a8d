"""A conversation: its settings, its messages, its runs; who may write what when."""

from typing import Final

from domain.conversation.commands import (
    AppendDeltas,
    CancelRuns,
    ChangeConversation,
    ClaimRun,
    ConversationCommand,
    DeleteConversation,
    FinishRun,
    FinishStep,
    FinishTool,
    HideRun,
    JoinSteers,
    NewApproval,
    NewMessage,
    QueueRun,
    RecordCallback,
    StartConversation,
    StartStep,
    StartTool,
    SupersedeStep,
)
from domain.conversation.decide import (
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
    MessageWithdrawn,
    Parent,
    System,
    WindowRolledBack,
)
from domain.conversation.queueing import (
    WAITING_RUNS_MAX,
    known_run,
)
from domain.conversation.state import (
    Asked,
    Conversation,
    KeyUse,
    WaitingMessage,
    evolve,
)
from domain.event import Decider

conversation: Final[Decider[Conversation, ConversationCommand, ConversationEvent]] = Decider(
    initial=Conversation(), evolve=evolve, decide=decide
)

__all__ = [
    "WAITING_RUNS_MAX",
    "AppendDeltas",
    "Asked",
    "CancelRuns",
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
    "FinishTool",
    "HideRun",
    "JoinSteers",
    "KeyUse",
    "MessageAppended",
    "MessageQueued",
    "MessageWithdrawn",
    "NewApproval",
    "NewMessage",
    "Parent",
    "QueueRun",
    "RecordCallback",
    "StartConversation",
    "StartStep",
    "StartTool",
    "SupersedeStep",
    "System",
    "WaitingMessage",
    "WindowRolledBack",
    "conversation",
    "decide",
    "evolve",
    "known_run",
]
