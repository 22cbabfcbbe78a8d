"""Given these facts, when this is asked, then that follows: how deciders are tested."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import pytest

from domain.errors import DomainError
from domain.event import Decider, Event

State = TypeVar("State")
Ask = TypeVar("Ask")
Fact = TypeVar("Fact", bound=Event)


def state_of(decider: Decider[State, Ask, Fact], *facts: Fact) -> State:
    """Fold facts at versions 1, 2, 3, …."""
    state = decider.initial
    for version, fact in enumerate(facts, start=1):
        state = decider.evolve(state, fact, version)
    return state


@dataclass(frozen=True, slots=True)
class Asked(Generic[State, Ask, Fact]):
    """A command about to be decided."""

    decider: Decider[State, Ask, Fact]
    state: State
    command: Ask

    def then(self, *facts: Fact) -> None:
        """Expect exactly these facts."""
        assert list(self.decider.decide(self.state, self.command)) == list(facts)

    def then_nothing_happens(self) -> None:
        """Expect no facts, and no refusal."""
        assert list(self.decider.decide(self.state, self.command)) == []

    def then_refused(self, error: type[DomainError], *, saying: str | None = None) -> None:
        """Expect a no of exactly this kind, its words matching the pattern `saying`."""
        with pytest.raises(error, match=saying) as refusal:
            self.decider.decide(self.state, self.command)
        assert refusal.type is error

    def decided(self) -> list[Fact]:
        """Give the facts, to look at more closely."""
        return list(self.decider.decide(self.state, self.command))


@dataclass(frozen=True, slots=True)
class Given(Generic[State, Ask, Fact]):
    """A history."""

    decider: Decider[State, Ask, Fact]
    state: State

    def when(self, command: Ask) -> Asked[State, Ask, Fact]:
        """Ask something of it."""
        return Asked(self.decider, self.state, command)


def given(decider: Decider[State, Ask, Fact], *facts: Fact) -> Given[State, Ask, Fact]:
    """Begin from a history; its first fact is at version 1."""
    return Given(decider, state_of(decider, *facts))
