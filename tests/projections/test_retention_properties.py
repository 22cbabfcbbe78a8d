"""What holds for whatever is said, and however much of it."""

from collections.abc import Callable
from itertools import pairwise
from random import Random
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.retention import Retention
from projections.retention import retention_of
from projections.retention.finding import found_in
from projections.retention.plain import plain

# Pieces of things of all kinds, and what may stand between them, to be put together at random.
PIECES = (
    *("Anna", "Karenina", "Vienna", "iPhone", "Wow", "I'm", "Dr.", "of", "the", "so"),
    *("7", "1,000", "1.234,50", "50%", "3rd", "two", "hundred and five", "thousand", "one", "km"),
    *(
        "May",
        "2023",
        "2023-05-07",
        "5/7/2023",
        "last",
        "Friday",
        "Tues",
        "2 days ago",
        "10:30",
        "pm",
    ),
    *("$", "$20", "USD", "\u20ac", "k", "bucks", "million", "T01:02", "in 1999", "'90s"),
    *("/etc/hosts", "~/a.txt", "src/app/main.py", "C:\\Temp\\x", "report.pdf", "./", "and/or"),
    *("https://example.com/a?b=1", "www.example.org", "//", "anna@example.com", "mailto:"),
    *(
        "ABC-123",
        "#42",
        "v1.2.3",
        "10.0.0.1",
        "fe80::1",
        "3f2a9c1",
        "user_id",
        "getUser",
        "@handle",
    ),
    *(
        "os.path",
        "run()",
        "$HOME",
        "${X_Y}",
        "+1 (415) 555-2671",
        "$ git push",
        "git log -p",
        "make",
    ),
    *("`", "``", "```", "\n```\n", "~~~", '"', "'", "\u201c", "\u201d", "\u00ab", "\u00bb"),
    *("?", ".", "!", ",", ";", ":", "-", "(", ")", "[", "]", "yes", "no", "because"),
    *("What colour is the boat?", "I'll paint boats.", "remind me", "let me", "tomorrow"),
    *("\u0130", "\u00df", "\ufb01", "\u0301", "\u200f", "\u05d0\u05d1", "\u0661\u0662", "\u4e2d"),
    *("\U0001f600", "\x00", "\u2028", "\x1c", "\r", "\u00a0", "\u2122", "\u00bd"),
)
BETWEEN = ("", "", " ", " ", " ", "\n", "\t", ", ", ". ")

texts_of_pieces = st.lists(
    st.tuples(st.sampled_from(PIECES), st.sampled_from(BETWEEN)),
    max_size=24,
).map(lambda pairs: "".join(piece + between for piece, between in pairs))
texts = st.one_of(texts_of_pieces, st.text(max_size=80))
conversations = st.lists(texts, max_size=6)


def for_all(*strategies: st.SearchStrategy[object]) -> Callable[..., Callable[[], None]]:
    def decorate(test: Callable[..., None]) -> Callable[[], None]:
        return settings(max_examples=80, deadline=None)(given(*strategies)(test))

    return decorate


def counts_of(retention: Retention) -> dict[str, tuple[int, int]]:
    return {kind: (one.found, one.kept) for kind, one in retention.kinds.items()}


@for_all(conversations)
def test_a_summary_that_repeats_everything_keeps_everything(evicted: list[str]) -> None:
    retention = retention_of(evicted, "\n".join(evicted))
    assert retention.score == 1
    assert [one.lost_items for one in retention.kinds.values()] == [()] * len(retention.kinds)


@for_all(conversations)
def test_an_empty_summary_keeps_nothing(evicted: list[str]) -> None:
    retention = retention_of(evicted, "")
    assert retention.score == (0 if retention.kinds else 1)
    assert [one.kept for one in retention.kinds.values()] == [0] * len(retention.kinds)


@for_all(conversations, texts, texts)
def test_more_lines_in_a_summary_never_lose_a_thing(
    evicted: list[str], summary: str, more: str
) -> None:
    before = counts_of(retention_of(evicted, summary))
    for longer in (f"{summary}\n{more}", f"{more}\n{summary}"):
        after = counts_of(retention_of(evicted, longer))
        assert {kind: found for kind, (found, _) in after.items()} == {
            kind: found for kind, (found, _) in before.items()
        }
        assert all(after[kind][1] >= kept for kind, (_, kept) in before.items())


@for_all(conversations.flatmap(lambda said: st.tuples(st.just(said), st.permutations(said))), texts)
def test_the_order_of_what_was_said_does_not_change_counts(
    orders: tuple[list[str], list[str]], summary: str
) -> None:
    one, other = (counts_of(retention_of(said, summary)) for said in orders)
    assert one == other


@for_all(conversations, texts)
def test_counts_add_up(evicted: list[str], summary: str) -> None:
    retention = retention_of(evicted, summary)
    found = sum(one.found for one in retention.kinds.values())
    kept = sum(one.kept for one in retention.kinds.values())
    assert retention.score == (kept / found if found else 1)
    for one in retention.kinds.values():
        assert 0 <= one.kept <= one.found
        assert (len(one.kept_items), len(one.lost_items)) == (one.kept, one.found - one.kept)


@for_all(conversations)
def test_no_character_is_part_of_two_things_but_of_sentences(evicted: list[str]) -> None:
    plains = [plain(text) for text in evicted]
    for text in plains:
        spans = sorted(
            (thing.start, thing.end)
            for thing in found_in([text])
            if thing.kind not in ("question", "promise")
        )
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert all(text[start:end].strip() for start, end in spans)


SIZE = 200_000
LIMIT_S = 20
UNITS = [
    "a a a", "(((((", "/////", "12345", "`````", "\\", "a/", "a\\ ", ".", "a.", "_", "a_", "-", "a-", "1-",
    "1,", "1.", "1:", "::", "#", "@", "a@", "a@b.", "$", "$ ", "${A", "\"", "\"a ", "'", "'a ", "A ",
    "Ab of ", "aA", "I'll ", "let me ", "a?", "?", ". ", " ", "\t", "\n", "\n\n$ ", "```\n", "```\n~~~\n",
    "http://", "https://a.b/(", "www.", "mailto:a@b.c ", "a.com ", "one hundred ", "two thousand and ",
    "twenty-", "1 million ", "$1 ", "in 1 day ", "may ", "1 may ", "last ", "abcdef0", "fe80:", "\u0301",
    "\u0661", "\U0001f600", "\x00", "\u05d0 ", "git a ", "\ngit a", "`git a ", "ABC-", "+1 ", "(415) ",
]  # fmt: skip


def score_in_time(text: str) -> float | None:
    """Give what a text keeps of itself, None if that is not known after a generous while."""
    done: list[Retention] = []
    thread = Thread(target=lambda: done.append(retention_of([text], text)), daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    return done[0].score if done else None


@pytest.mark.slow
@pytest.mark.parametrize("unit", UNITS)
def test_no_repetition_makes_finding_slow(unit: str) -> None:
    assert score_in_time(unit * (SIZE // len(unit))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_no_medley_makes_finding_slow(seed: int) -> None:
    draw = Random(seed)
    units = draw.sample(UNITS, 3) if seed % 2 else [*UNITS, *PIECES]
    assert score_in_time("".join(draw.choices(units, k=SIZE // 4))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("between", [" ", "\n", '" "', "? ", " A ", "` `"])
@pytest.mark.parametrize("before", ["", "I'll ", "let me "])
def test_no_number_of_different_words_makes_finding_slow(before: str, between: str) -> None:
    words = (f"W{n}" for n in range(SIZE // 8))
    assert score_in_time(f"{before}{between.join(words)}?") == 1
