"""Whatever was looked at before, and by whom, an answer is what the store says, folded anew.

Two nodes share one store. What happens in a conversation and in a fork of it is asked now of one node,
now of the other, so that each has to learn of what the other wrote; both look at any moment, also
before there is anything, and while something is being appended. Appends are lost, or stored without a
word of it.
"""

import asyncio
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.storage.committing
from app.execute import Execute, state_at
from app.log import Log, StoreUnavailable
from app.storage.store import Store
from app.windows import Windows, folded
from domain.conversation import ConversationCommand, Parent, ResetWindow, StartConversation
from domain.errors import DomainError
from domain.run import Claim, Effect
from projections.window import Window
from tests.app.faults import Fate, Shared
from tests.databases import opened
from tests.examples import BY, claim, start
from tests.projections.compacted import MOVES, Compacted, forked, go_on

NODES = st.integers(0, 1)
FATES: st.SearchStrategy[Fate] = st.sampled_from(("stored",) * 8 + ("lost", "unheard"))


# What goes wrong is shown by the test, not by printing all of this.
@dataclass(frozen=True, repr=False)
class Act:
    """A command, who carries it out, who looks at which stream before it, and what becomes of it."""

    stream: str
    command: ConversationCommand
    node: int
    looks: tuple[tuple[int, int], ...]
    meanwhile: bool
    fate: Fate


@dataclass(slots=True, repr=False)
class Emptied(Compacted):
    """A conversation that is emptied now and then, as a whole or by each turn."""

    forgetful: bool = False

    def perform(self, effect: Effect) -> None:
        """Do what a run is owed."""
        if not isinstance(effect, Claim):
            Compacted.perform(self, effect)
            return
        command = replace(claim(effect.run_id, effect.epoch), forgetful=self.forgetful)
        self.do(replace(command, context_window=self.context_window))
        self.held = (effect.run_id, effect.epoch)

    def reset(self) -> None:
        """Take everything out, if nothing is under way."""
        self.attempt(ResetWindow(self.system()))


@dataclass(repr=False)
class Drawn:
    """What happens in a conversation and in a fork of it, and how many nodes there are."""

    streams: tuple[str, str]
    nodes: int
    acts: list[Act] = field(default_factory=list[Act])


@st.composite
def conversations(draw: st.DrawFn) -> Emptied:
    """Draw what happens in a conversation."""
    history = Emptied(
        draw,
        context_window=draw(st.sampled_from((100, 400, 8000))),
        forgetful=draw(st.sampled_from((False, False, True))),
    )
    history.do(start)
    for _ in range(draw(st.integers(1, 3))):
        history.turn()
        history.compact()
        for move in draw(st.lists(MOVES, max_size=5)):
            history.happen(move)
        if draw(st.booleans()):
            history.reset()
    if draw(st.sampled_from((False, False, True))):
        history.move("delete")
    return history


@st.composite
def scenes(draw: st.DrawFn) -> Drawn:
    """Draw a conversation, a fork of it, and how their commands are dealt to two nodes."""
    parent = draw(conversations())
    at = draw(st.integers(1, len(parent.facts)))
    fork = forked(draw, parent, at)
    go_on(draw, fork)
    drawn = Drawn((parent.stream, fork.stream), draw(st.sampled_from((1, 2, 2))))
    left = [list(parent.commands), list(fork.commands)]
    known = 0
    while any(left):
        ready = [n for n in (0, 1) if left[n] and (n == 0 or known >= at)]
        n = draw(st.sampled_from(ready))
        command, offset = left[n].pop(0)
        known = offset if n == 0 else known
        drawn.acts.append(
            Act(
                drawn.streams[n],
                command,
                draw(NODES),
                draw(st.lists(st.tuples(NODES, NODES), max_size=2).map(tuple)),
                draw(st.booleans()),
                draw(FATES),
            )
        )
    return drawn


class Node:
    """A process, as far as it remembers conversations."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.execute = Execute(log)
        self.windows = Windows(log)
        # What was seen at each look, and what the store says of it.
        self.looks: list[tuple[Any, Any]] = []

    async def look(self, stream: str) -> None:
        """Look at a conversation, beside what is there: nothing may be missing."""
        store = self.log.store
        before = head_of(store, stream)
        window, (version, state) = await asyncio.gather(
            self.windows.newest(stream), self.execute.state(stream)
        )
        missed = store.read(stream, after=window.at, upto=before, deltas=False)
        stored = state_at(store, stream, version), alike(folded(store, stream, window.at))
        self.looks.append(((state, alike(window), version >= before, missed), (*stored, True, [])))

    async def carry_out(self, act: Act) -> None:
        """Carry a command out, as often as its append is lost."""
        store = self.log.store
        assert isinstance(store, Shared)
        before = head_of(store, act.stream)
        store.fate = act.fate
        try:
            await self._asked(act)
        except StoreUnavailable:
            store.fate = "stored"
            await self.look(act.stream)
            if head_of(store, act.stream) == before:
                await self._asked(act)
        finally:
            store.fate = "stored"

    async def _asked(self, act: Act) -> None:
        with suppress(DomainError):
            match act.command:
                case StartConversation(parent=Parent() as parent) as command:
                    await self.execute.fork(act.stream, command, parent, BY)
                case command:
                    await self.execute(act.stream, command, BY)


def alike(window: Window) -> Window:
    """Give a window without the offset up to which it was looked at: behind it there may be deltas."""
    return replace(window, at=0)


def head_of(store: Store, stream: str) -> int:
    found = store.head(stream)
    return 0 if found is None else found[0]


async def play(path: Path, drawn: Drawn) -> list[tuple[Any, Any]]:
    """Have everything happen, and both nodes look at the end; give all that they saw."""
    shared = Shared(opened(path), drawn.nodes)
    try:
        async with Log(shared) as one, Log(shared) as other:
            nodes = (Node(one), Node(other))[: drawn.nodes]
            for act in drawn.acts:
                for n, stream in act.looks:
                    await nodes[n % drawn.nodes].look(drawn.streams[stream])
                calm = act.meanwhile and act.fate == "stored"
                watching = [one.look(act.stream) for one in nodes if calm]
                await asyncio.gather(nodes[act.node % drawn.nodes].carry_out(act), *watching)
            for node in nodes:
                for stream in drawn.streams:
                    await node.look(stream)
            return [look for node in nodes for look in node.looks]
    finally:
        shared.end()


@pytest.mark.sqlite
@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scenes())
def test_what_a_node_remembers_is_what_the_store_says(drawn: Drawn) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(app.storage.committing, "RETRY_DELAY_S", 0)
        looks = asyncio.run(play(Path(folder) / "a.db", drawn))
    assert len(looks) >= 2
    assert [seen for seen, stored in looks if seen != stored] == []
