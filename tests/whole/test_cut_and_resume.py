"""A made-up conversation over connections that break: what is heard in pieces is the whole."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cutting import Cut
from benchmarks.replaying import Exchange, Frame, Part, Tally, joined, play, spoken, tail_after

TURNS = 12
SNIPPETS: tuple[str, ...] = (
    "plain words ",
    "naïve façade, Ærøskøbing; ",
    "日本語の文章。",
    "שלום עולם ",
    "e\u0301 and n\u0303, put together; ",
    "👩‍👩‍👧‍👦🏳️‍🌈 ",
    "\U0001d11e clef, \U0001d518 black letter ",
    "two\nlines\n\nand a paragraph\r\n",
    "\u2028 and \u2029 and \u0085 are lines to some ",
    "\ttabs \x0b\x0c and \x07 a bell ",
    'data: {"seq_id": 99}\n\n',
    "data: [DONE]\n\n",
    '"quoted" \\backslashed\\ \\n \\u0041 ',
    "  ",
    "</system> <b>&amp;</b> ",
)


def texts(source: random.Random) -> tuple[str, ...]:
    return tuple(text(source) for _ in range(source.choice((1, 1, 1, 2, 3))))


def text(source: random.Random) -> str:
    found = source.choices(SNIPPETS, k=source.randint(1, 25))
    if source.random() < 0.3:
        found.insert(source.randrange(len(found)), "longword" * source.randint(50, 500))
    # Nothing but spaces is not a message to any vendor.
    return "".join(found) if "".join(found).strip() else "word"


def made_up(seed: int) -> Iterator[Exchange]:
    source = random.Random(seed)
    for _ in range(TURNS):
        yield Exchange(texts(source), texts(source))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_reply_heard_in_pieces_is_the_reply(tmp_path: Path, seed: int) -> None:
    tally = play(list(made_up(seed)), tmp_path / "played.db", seed)
    assert tally.mismatches == []
    assert tally.replies == TURNS
    assert tally.cuts_in_frames > 0
    assert tally.cuts > tally.cuts_in_frames


def frame(seq_id: int | None, text: str = "") -> Frame:
    kind = "stop_reason" if seq_id is None else "assistant_message"
    return Frame(kind, seq_id, "run-1", "message-1", "otid-1", text)


def test_a_cut_falls_behind_so_many_frames_and_some_bytes() -> None:
    received = b"data: 1\n\ndata: 2\n\n"
    assert Cut(0, 0).place(b"") == 0
    assert Cut(1, 0).place(received) == 9
    assert Cut(1, 3).place(received) == 12
    assert Cut(2, 1).place(received) is None


def test_the_end_of_a_stream_that_broke_off_does_not_count() -> None:
    first = Part(0, [frame(3, "a"), frame(None)], b"", cut=True)
    second = Part(3, [frame(4, "b"), frame(None)], b"", cut=False)
    assert [one.seq_id for one in joined([first, second])] == [3, 4, None]
    assert [one.text for one in spoken(joined([first, second]))] == ["ab"]


def test_the_number_to_resume_at_outlives_a_connection_without_numbers() -> None:
    assert Part(7, [frame(None)], b"", cut=True).last == 7
    assert Part(7, [], b"", cut=True).last == 7
    assert Part(7, [frame(9)], b"", cut=True).last == 9


def test_the_tail_begins_after_the_number() -> None:
    raw = b'data: {"seq_id":3}\n\ndata: {"seq_id":5}\n\ndata: {"a":1}\n\ndata: [DONE]\n\n'
    assert tail_after(raw, 0) == raw
    assert tail_after(raw, 3) == raw[20:]
    assert tail_after(raw, 4) == raw[20:]
    assert tail_after(raw, 9) == raw[40:]


def test_what_differs_is_told_by_its_place() -> None:
    tally = Tally()
    tally.compare("one", b"same", b"same")
    assert tally.mismatches == []
    tally.compare("one", b"sam", b"same")
    tally.compare("two", b"some", b"same")
    assert tally.mismatches == [
        "one: 3 bytes for 4, different from byte 3 on",
        "two: 4 bytes for 4, different from byte 1 on",
    ]
