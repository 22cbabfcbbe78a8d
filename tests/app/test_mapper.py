"""Facts to bytes and back; the chain covers every byte."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mapper import (
    GENESIS,
    Row,
    UnreadableFact,
    data_of,
    envelope_of,
    event_json,
    hash_of,
    prev_of,
    revive,
    state_of,
)
from domain.event import Event
from domain.events import type_of
from domain.run import DeltaCall, StepDelta
from tests import examples

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
FACTS: list[Event] = [
    examples.started,
    examples.renamed,
    examples.deleted,
    examples.queued(),
    examples.claimed(),
    examples.appended(content="line\nbreak “quotes” 👋"),
    examples.waiting(),
    examples.finished(),
    StepDelta(s=1, i=0, kind="arguments", x='{"a":', call=DeltaCall(id="1", name="n")),
]


def row_of(event: Event, prev: bytes = GENESIS) -> Row:
    state = state_of(prev, envelope_of(AT, "user"), data_of(event))
    return Row(examples.CONVERSATION_ID, 3, type_of(event), state)


@pytest.mark.parametrize("event", FACTS, ids=[type_of(event) for event in FACTS])
def test_a_fact_comes_back_as_it_was(event: Event) -> None:
    fact = revive(row_of(event))
    assert (fact.event, fact.at, fact.by) == (event, AT, "user")
    assert fact.id == f"{examples.CONVERSATION_ID}@3"


@pytest.mark.parametrize("event", FACTS, ids=[type_of(event) for event in FACTS])
def test_the_spliced_json_is_the_fact(event: Event) -> None:
    row = row_of(event)
    shown = orjson.loads(event_json(row))
    assert shown == {
        "offset": 3,
        "type": type_of(event),
        "id": f"{examples.CONVERSATION_ID}@3",
        "at": "2026-01-02T03:04:05.678901Z",
        "by": "user",
        "v": 1,
        "hash": hash_of(row).hex(),
        "data": orjson.loads(data_of(event)),
    }


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_a_changed_hash(place: int, flip: int) -> None:
    row = row_of(examples.started, prev=b"p" * 32)
    at = place % len(row.state)
    changed = bytearray(row.state)
    changed[at] ^= flip
    assert hash_of(row._replace(state=bytes(changed))) != hash_of(row)


def test_the_hash_covers_where_a_fact_is_and_what_it_is_called() -> None:
    row = row_of(examples.started, prev=b"p" * 32)
    others = [row._replace(stream="conv-x"), row._replace(version=4), row._replace(topic="a.b")]
    assert len({hash_of(one) for one in [row, *others]}) == 4
    assert prev_of(row) == b"p" * 32


def test_what_is_not_understood_is_refused_in_words() -> None:
    row = row_of(examples.started)
    encrypted = bytearray(row.state)
    encrypted[32] = 1
    for wrong, reason in (
        (row._replace(topic="conversation.exploded"), "unknown type"),
        (row._replace(state=bytes(encrypted)), "unknown codec"),
        (row._replace(topic="run.finished"), "run_id"),
    ):
        with pytest.raises(UnreadableFact, match=reason):
            revive(wrong)
