"""A fact as a line in a terminal."""

from typing import Any

import orjson
import pytest

from app.commands.lines import TEXT_CHARACTERS_MAX, line_of, printable, summary_of
from app.mapper import GENESIS, Row, data_of, envelope_of, event_json, state_of
from domain.event import Event
from domain.events import type_of
from tests import examples

FACTS: list[Event] = [
    examples.started,
    examples.queued(),
    examples.appended(),
    examples.claimed(),
    examples.delta(x="Good "),
    examples.superseded(),
    examples.finished(),
    examples.renamed,
    examples.block_created,
]


def shown(event: Event) -> dict[str, Any]:
    state = state_of(GENESIS, envelope_of(examples.AT, examples.BY), data_of(event))
    return orjson.loads(event_json(Row(examples.CONVERSATION_ID, 3, type_of(event), state)))


@pytest.mark.parametrize("event", FACTS, ids=type_of)
def test_a_line_tells_offset_and_type_and_something_of_the_fact(event: Event) -> None:
    words = line_of(shown(event)).plain.split()
    assert (words[0], words[2]) == ("3", type_of(event))
    assert len(words) > 3


def test_what_matters_comes_in_few_words() -> None:
    claimed = shown(examples.claimed())["data"]
    assert summary_of("run.claimed", claimed) == (
        f"{examples.RUN_ID}  epoch=1  node={examples.NODE}  model={examples.MODEL}"
    )
    delta = shown(examples.delta(x="Good "))["data"]
    assert summary_of("step.delta", delta) == "text  “Good ”"


def test_the_parts_of_a_message_are_told_in_order() -> None:
    content: list[dict[str, Any]] = [
        {"type": "text", "text": "See:"},
        {"type": "image", "source": {}},
    ]
    assert summary_of("message.appended", {"content": content}) == "“See: [image]”"


def test_a_type_of_a_later_version_is_told_in_full() -> None:
    assert summary_of("later.fact", {"a": 1, "b": None, "c": "x"}) == "a=1  c=x"


def test_long_words_are_cut_and_nothing_steers_the_terminal() -> None:
    told = summary_of("step.delta", {"x": "a\x1b[31m\u2028\nb" + "c" * 500})
    assert told.startswith("“a [31m  bccc")
    assert len(told) == TEXT_CHARACTERS_MAX + len("“…”")
    assert printable("\x07\x9b").isspace()
