"""Windows from a database: what is read of a conversation is enough, and no more than that."""

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from app.execute import state_at
from app.history.pages import Page, messages_page
from app.log import Log
from app.mapper import revive
from app.storage.lineages import Chain
from app.storage.store import Store
from app.windows import folded, newest
from domain.conversation import ConversationDeleted, Stretch
from domain.event import Event
from domain.events import DELTA, type_of
from domain.streams import system_message_id
from projections.listing import messages_of, unlisted
from projections.window import FOLDED, window_of
from tests.compactions import undone
from tests.databases import opened
from tests.examples import (
    AT,
    BY,
    CONVERSATION_ID,
    appended,
    claimed,
    delta,
    finished,
    part,
    queued,
    started,
    step_finished,
    step_started,
)
from tests.projections.compacted import Compacted, forks
from tests.projections.histories import Facts, histories

ONE_RUN = (
    started,
    queued(),
    appended(),
    claimed(),
    step_started(),
    delta(),
    part(),
    step_finished(),
    finished(),
)


async def put(path: Path, facts: Facts) -> None:
    """Store a history."""
    async with Log(opened(path)) as log:
        await log.append(CONVERSATION_ID, 0, [fact.event for fact in facts], BY)


async def test_pieces_of_a_stream_are_read_at_once_and_only_the_facts_that_are_wanted(
    log: Log, store: Store
) -> None:
    await log.append(CONVERSATION_ID, 0, ONE_RUN, BY)
    rows = store.pieces(CONVERSATION_ID, [(0, 1), (2, 4), (5, 9)], FOLDED)
    assert [row.version for row in rows] == [3, 7, 8, 9]
    assert rows == [row for row in store.read(CONVERSATION_ID, after=1) if row in rows]
    assert store.pieces(CONVERSATION_ID, [], FOLDED) == []
    assert store.pieces("conv-of-nobody", [(0, 9)], FOLDED) == []


async def test_stretches_of_many_streams_are_read_at_once_each_for_itself(
    log: Log, store: Store
) -> None:
    streams = [CONVERSATION_ID, "conv-of-another"]
    for stream in streams:
        await log.append(stream, 0, ONE_RUN, BY)
    stretches = [
        Stretch(streams[1], 4),
        Stretch(streams[0]),
        Stretch(streams[0], 1, 3),
        Stretch("conv-of-nobody"),
    ]
    whole = [store.read(one.stream, after=one.after, upto=one.upto) for one in stretches]
    assert store.each(stretches) == whole
    assert [len(rows) for rows in whole] == [len(ONE_RUN) - 4, len(ONE_RUN), 2, 0]
    words = ("step.delta", "step.part")
    found = store.each(stretches, topics=words, limit=1)
    assert found == [[row for row in rows if row.topic in words][:1] for rows in whole]
    assert [row.version for rows in found for row in rows] == [6, 6]
    assert store.each([]) == []


@pytest.mark.sqlite
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_a_window_from_the_database_is_that_of_all_facts_at_every_offset(facts: Facts) -> None:
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "log.db"
        asyncio.run(put(path, facts))
        with closing(opened(path)) as store:
            stored = [revive(row) for row in store.read(CONVERSATION_ID)]
            before = folded(store, CONVERSATION_ID, 1)
            for offset in range(1, len(stored) + 1):
                assert folded(store, CONVERSATION_ID, offset) == window_of(stored[:offset])
            facts_alone = (fact for fact in stored if type_of(fact.event) != DELTA)
            assert newest(store, CONVERSATION_ID, before) == window_of(facts_alone)


async def put_line(path: Path, history: Compacted) -> None:
    """Store a fork's facts, and its ancestors', which went on after it."""
    streams: dict[str, list[Event]] = {}
    for fact in (*history.before, *history.facts):
        streams.setdefault(fact.stream, []).append(fact.event)
    async with Log(opened(path), lambda: AT) as log:
        for stream, events in streams.items():
            more = [] if stream == history.stream else [ConversationDeleted(), undone("unknown")]
            await log.append(stream, 0, [*events, *more], BY)


@pytest.mark.sqlite
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(forks(later=True))
def test_a_fork_read_from_a_database_is_what_its_lineages_facts_say(
    drawn: tuple[Compacted, Compacted],
) -> None:
    fork = drawn[1]
    whole = window_of(fork.line)
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "a.db"
        asyncio.run(put_line(path, fork))
        with closing(opened(path)) as store:
            found = folded(store, fork.stream)
            chain = Chain.of(store, fork.stream)
            first = folded(store, fork.stream, 1)
            caught = newest(store, fork.stream, first)
            state = state_at(store, fork.stream, len(fork.facts))
            listed = messages_page(store, fork.stream, Page(limit=1000, newest_first=False))
    assert (found.items, found.marks.evicted.ranges) == (whole.items, whole.marks.evicted.ranges)
    assert (caught.items, caught.system) == (whole.items, whole.system)
    assert (found.system, found.pending) == (whole.system, whole.pending)
    assert chain.lineage == fork.state.lineage
    assert state == fork.state
    hidden = unlisted(fork.line) | chain.inherited_prompts
    ids = [one["id"] for _, items in messages_of(fork.line, hidden) for one in items]
    prompt = system_message_id(fork.stream)
    assert [one["id"] for one in listed] == [prompt, *(one for one in ids if one != prompt)]


async def test_a_window_that_was_looked_at_before_there_was_any_has_the_prompt_afterwards(
    log: Log, store: Store
) -> None:
    before = newest(store, CONVERSATION_ID)
    assert (before.at, before.system) == (0, None)
    await log.append(CONVERSATION_ID, 0, ONE_RUN, BY)
    assert newest(store, CONVERSATION_ID, before) == folded(store, CONVERSATION_ID)
    assert newest(store, CONVERSATION_ID, before).system is not None
