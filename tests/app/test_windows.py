"""Windows from a database: what is read of a conversation is enough, and no more than that."""

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from app.log import Log
from app.mapper import revive
from app.store import Store
from app.windows import folded, newest
from domain.events import DELTA, type_of
from projections.window import FOLDED, window_of
from tests.databases import opened
from tests.examples import (
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
