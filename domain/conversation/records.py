"""Small things that a conversation's state remembers."""

from dataclasses import dataclass
from typing import NamedTuple

from domain.conversation.facts import MessageQueued
from domain.run import OpenCall, Turn


@dataclass(frozen=True, slots=True)
class WaitingMessage:
    """A message that waits, and where."""

    offset: int
    message: MessageQueued


class Orphan(NamedTuple):
    """A call without a return, of a parent's run that was under way when its fork began."""

    run_id: str
    call: OpenCall


class KeyUse(NamedTuple):
    """What an idempotency key stands for."""

    run_id: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Asked:
    """Tool calls of a finished run that wait for the client's word, and the turn they are in."""

    run_id: str
    calls: tuple[OpenCall, ...]
    turn: Turn

    @property
    def gated(self) -> list[str]:
        """Name the calls that an answer must name, all of them."""
        return [call.id for call in self.calls if call.gated]


@dataclass(frozen=True, slots=True)
class Answered:
    """Tool calls that the client has answered, and the run in which it did."""

    tool_call_ids: frozenset[str]
    run_id: str
    failed: bool = False
