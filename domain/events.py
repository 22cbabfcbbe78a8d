"""All facts, and the closed registry that revives them by their stored type."""

from types import MappingProxyType
from typing import Annotated, Final, TypeAlias, get_args

from pydantic import Field

from domain.agent import AgentEvent
from domain.archive import ArchiveEvent
from domain.block import BlockEvent
from domain.conversation import ConversationEvent
from domain.event import Event

AnyEvent: TypeAlias = Annotated[
    ConversationEvent | AgentEvent | BlockEvent | ArchiveEvent, Field(discriminator="type")
]

DELTA: Final = "step.delta"

REGISTRY: Final = MappingProxyType(
    {
        str(fact.model_fields["type"].default): fact
        for union in (ConversationEvent, AgentEvent, BlockEvent, ArchiveEvent)
        for fact in get_args(union)
    }
)


def type_of(event: Event) -> str:
    """Give the name that a fact is stored under."""
    return str(type(event).model_fields["type"].default)
