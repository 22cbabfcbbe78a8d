"""Reads conversations out of a database as the lines of a file; blocks, so no loop is held by it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from app.history.pages import BEGIN, Listed, listed_in
from app.mapper import revive
from app.storage.integrity import PAGE_ROWS, heads_of, pages_of
from app.storage.lineages import Chain
from app.storage.store import Store
from domain.agent import Agent, agent
from domain.block import Block, block
from domain.conversation import Conversation, conversation
from domain.event import Decider
from domain.streams import CONVERSATION, kind_of
from projections.interchange import AgentDescribed, HeaderLine, Line
from projections.transcribing import Transcript, described, header_of


def conversations_in(store: Store) -> Iterator[tuple[str, int]]:
    """Name all conversations, in order of id, each with its newest offset."""
    return ((one, head) for one, head, _ in heads_of(store) if kind_of(one) == CONVERSATION)


def state_of(store: Store, conversation_id: str) -> Conversation:
    """Fold a conversation; one that is not there has no agent."""
    return _folded(store, conversation_id, conversation)


def lines_of(
    store: Store,
    conversation_id: str,
    state: Conversation,
    progress: Callable[[int], None],
    *,
    with_rolled_back: bool = False,
) -> Iterator[HeaderLine | Line]:
    """Give all that was ever said in a conversation, header first, read page by page.

    A fork is one whole conversation: with what it inherited.
    """
    agent_id = state.agent_id or ""
    yield header_of(conversation_id, agent_id, state.settings, _agent(store, agent_id))
    chain = Chain.of(store, conversation_id)
    listed = Listed() if with_rolled_back else listed_in(chain)
    transcript = Transcript(listed.hidden)
    for page in chain.pages(PAGE_ROWS):
        for row in page:
            if chain.place(row) == BEGIN or chain.place(row) > listed.reset:
                yield from transcript.of(chain.fact(row))
        progress(len(page))
    yield from transcript.rest()


def _agent(store: Store, agent_id: str) -> AgentDescribed | None:
    found: Agent = _folded(store, agent_id, agent)
    if found.settings is None:
        return None
    states: Iterable[Block] = (_folded(store, one, block) for one in found.settings.block_ids)
    memory = [one.settings for one in states if one.settings is not None and not one.deleted]
    return described(found.settings, memory)


def _folded(store: Store, stream: str, decider: Decider[Any, Any, Any]) -> Any:
    state = decider.initial
    for page in pages_of(store, stream, deltas=False):
        for row in page:
            state = decider.evolve(state, revive(row).event, row.version)
    return state
