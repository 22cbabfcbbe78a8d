"""The four shapes everything else has: a fact, a recorded fact, a request, and who decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """An immutable value inside a fact or a request; unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Event(Value):
    """A fact. Each subclass declares `type`, the name it is stored under for ever."""


State = TypeVar("State")
Ask = TypeVar("Ask")
Fact = TypeVar("Fact", bound=Event)


@dataclass(frozen=True, slots=True)
class Recorded(Generic[Fact]):
    """A fact where the log put it: `version` counts from 1 without gaps within its `stream`."""

    stream: str
    version: int
    at: datetime
    by: str
    event: Fact

    @property
    def id(self) -> str:
        """The fact's name everywhere: `<stream>@<offset>`."""
        return f"{self.stream}@{self.version}"


@dataclass(frozen=True, slots=True)
class Command:
    """A request to change a stream; `decide` turns it into facts or refuses it."""


@dataclass(frozen=True, slots=True)
class Decider(Generic[State, Ask, Fact]):
    """An aggregate: what it starts as, how a fact changes it, which facts a request leads to.

    `evolve(state, event, version)` never refuses; `decide(state, command)` returns new facts, an
    empty list when there is nothing to do, or raises `domain.errors.DomainError`.
    """

    initial: State
    evolve: Callable[[State, Fact, int], State]
    decide: Callable[[State, Ask], Sequence[Fact]]
