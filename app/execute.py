"""The one way to change anything: fold, decide, append; on a conflict, decide again.

A command is decided against the queued head of its stream, what waits for the next commit included,
so that appends to one stream need not wait for each other. No answer leaves before what it rests on
is committed.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from app.log import Log, VersionConflict
from app.mapper import Row, revive
from app.storage.lineages import parent_in
from app.storage.store import Store, Stretch
from domain.agent import Agent, agent
from domain.archive import Archive, archive
from domain.block import Block, block
from domain.conversation import Conversation, Parent, StartConversation, conversation, seed_of
from domain.errors import DomainError
from domain.event import Command, Decider, Recorded
from domain.streams import AGENT, ARCHIVE, BLOCK, CONVERSATION, kind_of

TRIES_MAX: Final = 50
# How often others may come first before they are kept out.
LOCKED_FROM_TRY: Final = 2
STATES_CACHED_MAX: Final = 5_000
# Facts that are read and folded at a time: a passage is a fact, and an archive has many.
FOLDED_AT_ONCE: Final = 1_000

DECIDERS: Final[dict[str, Decider[Any, Any, Any]]] = {
    CONVERSATION: conversation,
    AGENT: agent,
    BLOCK: block,
    ARCHIVE: archive,
}


class TooMuchContention(Exception):
    """Others appended first, every time."""


@dataclass(slots=True)
class Head:
    """A stream's state at a version, and the append, if any, that it still waits for.

    `stored` is the newest version and state before it that are known to be stored.
    """

    version: int
    state: Any
    queued: asyncio.Future[list[Recorded[Any]]] | None = None
    stored: tuple[int, Any] | None = None

    @property
    def lost(self) -> bool:
        """Whether the state holds facts that were not stored."""
        queued = self.queued
        if queued is None or not queued.done():
            return False
        return queued.cancelled() or queued.exception() is not None

    @property
    def settled(self) -> bool:
        """Whether all that the state holds is stored."""
        return (self.queued is None or self.queued.done()) and not self.lost


class Execute:
    """Carries out commands on the streams of one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._heads: OrderedDict[str, Head] = OrderedDict()
        self._loading: dict[str, asyncio.Task[Head]] = {}

    async def __call__(self, stream: str, command: Command, by: str) -> list[Recorded[Any]]:
        """Have `command` decided and its facts stored; give them, [] if there was nothing to do.

        Raises what `decide` raises, StoreUnavailable, or TooMuchContention.
        """
        return await self._carry_out(stream, command, by)

    async def _carry_out(
        self, stream: str, command: Command, by: str, seed: Conversation | None = None
    ) -> list[Recorded[Any]]:
        """Have a command decided, that which begins a fork on its `seed`, and its facts stored.

        A yes may rest on a state that others have left behind: then its append loses. A no may not.
        """
        newest = self._log.store.exclusive
        for attempt in range(TRIES_MAX):
            try:
                if attempt >= LOCKED_FROM_TRY and not self._log.store.exclusive:
                    return await self._under_lock(stream, command, by, seed)
                head = await self._head(stream, newest=newest)
                state = _onto(head, seed)
                refusal, events = _decided(stream, state, command)
                if events:
                    return await self._append(stream, head, state, events, by)
            except VersionConflict:
                newest = True
                continue
            if not await self._settled(stream, head):
                continue
            if not newest:
                newest = True
            elif refusal is not None:
                raise refusal
            else:
                return []
        raise TooMuchContention(f"{stream}: {TRIES_MAX} tries, and others came first each time")

    async def state(self, stream: str) -> tuple[int, Any]:
        """Give the committed version and state of a stream; 0 and the initial one if unknown."""
        while True:
            head = await self._head(stream, newest=True)
            version, state = head.version, head.state
            if await self._settled(stream, head):
                return version, state

    async def conversation(self, stream: str) -> Conversation:
        """Give a conversation's committed state."""
        return (await self.state(stream))[1]

    async def conversation_at(self, stream: str, offset: int) -> Conversation:
        """Give a conversation's state as it was after an offset: for whoever looks back."""
        return await self._log.in_reader(lambda: state_at(self._log.store, stream, offset))

    async def agent(self, stream: str) -> Agent:
        """Give an agent's committed state."""
        return (await self.state(stream))[1]

    async def agents(self, streams: Sequence[str]) -> list[Agent]:
        """Give the committed states of many agents; whatever their number, the store is asked once."""
        heads = [self._settled_head(stream) for stream in streams]
        store = self._log.store
        if store.exclusive and all(head.version for head in heads):
            return [head.state for head in heads]

        def catch_up() -> None:
            stretches = [
                Stretch(stream, head.version) for stream, head in zip(streams, heads, strict=True)
            ]
            for stream, head, rows in zip(streams, heads, store.each(stretches), strict=True):
                _evolve(stream, head, rows)

        await self._log.in_reader(catch_up)
        for stream, head in zip(streams, heads, strict=True):
            if stream not in self._heads:
                head.stored = (head.version, head.state)
                self._remember(stream, head)
        return [head.state for head in heads]

    def _settled_head(self, stream: str) -> Head:
        """Give a head of one's own, at what is known to be stored of a stream: maybe nothing."""
        known = self._heads.get(stream)
        if known is not None and known.settled:
            return Head(known.version, known.state)
        stored = None if known is None else known.stored
        return Head(*(stored or (0, DECIDERS[kind_of(stream)].initial)))

    async def block(self, stream: str) -> Block:
        """Give a block's committed state."""
        return (await self.state(stream))[1]

    async def archive(self, stream: str) -> Archive:
        """Give an archive's committed state."""
        return (await self.state(stream))[1]

    async def fork(
        self, stream: str, command: StartConversation, parent: Parent, by: str
    ) -> list[Recorded[Any]]:
        """Begin a conversation as a fork: decided on its parent's state at the offset of the fork.

        Raises what `decide` raises, StoreUnavailable, or TooMuchContention.
        """
        seed = seed_of(await self._parents_state(parent), parent)
        return await self._carry_out(stream, command, by, seed)

    async def _parents_state(self, parent: Parent) -> Conversation:
        head = self._heads.get(parent.conversation_id)
        if head is not None and head.settled and head.version == parent.at:
            return head.state
        return await self.conversation_at(parent.conversation_id, parent.at)

    async def _append(
        self, stream: str, head: Head, state: Any, events: Sequence[Any], by: str
    ) -> list[Recorded[Any]]:
        """Append what was decided on `state`: the head's, but where a fork begins."""
        decider, expected = DECIDERS[kind_of(stream)], head.version
        for version, event in enumerate(events, start=expected + 1):
            state = decider.evolve(state, event, version)
        if head.settled:
            head.stored = (head.version, head.state)
        queued = self._log.append(stream, expected, events, by)
        head.version, head.state, head.queued = expected + len(events), state, queued
        try:
            # Shielded: a caller that goes away does not take back what it has asked for.
            return await asyncio.shield(queued)
        except Exception:
            self._go_back(stream, head)
            raise

    async def _under_lock(
        self, stream: str, command: Command, by: str, seed: Conversation | None
    ) -> list[Recorded[Any]]:
        """Decide where nobody can come first: else a busy writer elsewhere may do so every time."""
        cached = self._heads.get(stream)
        base = cached.stored if cached is not None and cached.stored is not None else None
        head = Head(*(base or (0, DECIDERS[kind_of(stream)].initial)))

        def decide(version: int) -> Sequence[Any]:
            _fold_on(self._log.store, stream, head, version)
            head.state = _onto(head, seed)
            refusal, events = _decided(stream, head.state, command)
            if refusal is not None:
                raise refusal
            return events

        facts = await self._log.append_under_lock(stream, decide, by)
        evolve = DECIDERS[kind_of(stream)].evolve
        for fact in facts:
            head.version, head.state = fact.version, evolve(head.state, fact.event, fact.version)
        head.stored = (head.version, head.state)
        self._remember(stream, head)
        return facts

    async def _settled(self, stream: str, head: Head) -> bool:
        """Wait until what `head` rests on is committed; False if it was lost."""
        queued = head.queued
        if queued is None:
            return True
        try:
            await asyncio.shield(queued)
        except VersionConflict:
            self._go_back(stream, head)
            return False
        return True

    async def _head(self, stream: str, *, newest: bool) -> Head:
        """Give a stream's state; `newest` has it caught up with what other processes wrote."""
        head = self._heads.get(stream)
        if head is not None and not head.lost:
            self._heads.move_to_end(stream)
            if newest and head.settled and not self._log.store.exclusive:
                await self._catch_up(stream, head)
            if not head.lost:
                return head
        if head is not None:
            # Whoever appended it may be gone, or not have been told yet.
            self._go_back(stream, head)
            if stream in self._heads:
                return await self._head(stream, newest=newest)
        return await self._load(stream)

    async def _load(self, stream: str) -> Head:
        """Fold a stream once, however many ask for it at the same time."""
        loading = self._loading.get(stream)
        if loading is None:
            loading = asyncio.create_task(self._fold(stream))
            self._loading[stream] = loading
            loading.add_done_callback(lambda _: self._loading.pop(stream, None))
        return await asyncio.shield(loading)

    async def _fold(self, stream: str) -> Head:
        head = await self._log.in_reader(lambda: _folded(self._log.store, stream))
        head.stored = (head.version, head.state)
        self._remember(stream, head)
        return head

    async def _catch_up(self, stream: str, head: Head) -> None:
        goes_on = True
        while goes_on and head.settled:
            before = head.version
            newer = partial(_newer, self._log.store, stream, before)
            version, rows, begun = await self._log.in_reader(newer)
            goes_on = len(rows) == FOLDED_AT_ONCE
            if head.version == before:
                head.state = begun or head.state
                _evolve(stream, head, rows)
                head.version = version
                head.stored = (version, head.state)

    def _remember(self, stream: str, head: Head) -> None:
        self._heads[stream] = head
        while len(self._heads) > STATES_CACHED_MAX:
            oldest, evicted = next(iter(self._heads.items()))
            if evicted.queued is not None and not evicted.queued.done():
                return
            del self._heads[oldest]

    def _go_back(self, stream: str, head: Head) -> None:
        """Leave a state that was not stored for the last one that was, or for none."""
        if self._heads.get(stream) is not head:
            return
        if head.stored is None or self._log.store.exclusive:
            del self._heads[stream]
        else:
            self._heads[stream] = Head(*head.stored, stored=head.stored)


def _onto(head: Head, seed: Conversation | None) -> Any:
    """Give the state that a command is decided on: no cache holds a fork's seed before it begins."""
    return head.state if seed is None or head.version else seed


def _decided(stream: str, state: Any, command: Command) -> tuple[DomainError | None, Sequence[Any]]:
    """Have a command decided: a refusal, or events."""
    try:
        return None, DECIDERS[kind_of(stream)].decide(state, command)
    except DomainError as error:
        return error, ()


def _folded(store: Store, stream: str) -> Head:
    """Read and fold a stream in a reader's thread: a long one must not hold the loop."""
    found = store.head(stream)
    head = Head(0, DECIDERS[kind_of(stream)].initial)
    if found is not None:
        _fold_on(store, stream, head, found[0])
        # Deltas change no state, so the last fact may lie before the head.
        head.version = found[0]
    return head


def state_at(store: Store, stream: str, offset: int) -> Any:
    """Fold a stream's state as it was after an offset; blocks. A fork's begins with its parent's."""
    head = Head(0, DECIDERS[kind_of(stream)].initial)
    _fold_on(store, stream, head, offset)
    return head.state


def _fold_on(store: Store, stream: str, head: Head, upto: int) -> None:
    """Fold what came after a head up to a version, a page at a time; blocks."""
    goes_on = True
    while goes_on:
        after = head.version
        rows = store.read(stream, after=after, upto=upto, limit=FOLDED_AT_ONCE, deltas=False)
        _evolve(stream, _begun(store, head, rows), rows)
        goes_on = len(rows) == FOLDED_AT_ONCE


def _begun(store: Store, head: Head, rows: list[Row]) -> Head:
    """Give the head that facts from the first on are folded onto: a fork's has what it inherited."""
    seed = _seed(store, rows) if head.version == 0 else None
    if seed is not None:
        head.state = seed
    return head


def _seed(store: Store, rows: list[Row]) -> Conversation | None:
    parent = parent_in(rows)
    if parent is None:
        return None
    return seed_of(state_at(store, parent.conversation_id, parent.at), parent)


def _newer(store: Store, stream: str, version: int) -> tuple[int, list[Row], Conversation | None]:
    """Read a page of what came after `version`, and what a fork's beginning is folded onto."""
    found = store.head(stream)
    if found is None or found[0] <= version:
        return version, [], None
    limit = FOLDED_AT_ONCE
    rows = store.read(stream, after=version, upto=found[0], limit=limit, deltas=False)
    reached = found[0] if len(rows) < limit else rows[-1].version
    return reached, rows, _seed(store, rows) if version == 0 else None


def _evolve(stream: str, head: Head, rows: list[Row]) -> None:
    evolve = DECIDERS[kind_of(stream)].evolve
    for row in rows:
        head.state = evolve(head.state, revive(row).event, row.version)
        head.version = row.version
