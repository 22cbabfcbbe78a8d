import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.extracting import LABEL, NOTHING, SUMMARY_LABEL, summary_of
from projections.transcript import Entry

SMALL_TALK = [
    "That is so nice to hear from you.",
    "Oh yes, really well, thank you!",
    "How lovely, I am glad.",
    "Well, you know how it is.",
]
FACTS = [
    "The invoice INV-2041 came to 1,250.50 EUR.",
    "We fly to Lisbon on 7 May 2023 at 06:45.",
    "The log is in /var/log/app/errors.log on the server.",
    "See https://example.org/guide?page=2 for the rest.",
    "The variable MAX_RETRIES is read in loadSettings.",
]
LOREM = [f"Somebody talked about the weather in general again, and again ({n})." for n in range(40)]


def alert(summary: str) -> str:
    message = f"Older messages are hidden.\nThe following is a summary:\n {summary}"
    return json.dumps({"type": "system_alert", "message": message, "time": "now"}, indent=2)


def lines(summary: str) -> list[str]:
    label, *picked = summary.split("\n")
    assert label == SUMMARY_LABEL
    return picked


def test_what_could_not_be_guessed_is_picked_before_small_talk() -> None:
    said = [
        Entry("user", text) for pair in zip(SMALL_TALK * 5, FACTS * 4, strict=True) for text in pair
    ]
    picked = lines(summary_of(said, 45))
    assert picked == [f"- user: {text}" for text in FACTS]


def test_sentences_stay_in_order_and_keep_who_said_them() -> None:
    said = [Entry("user", "I live in Ulm. My cat is 9."), Entry("assistant", "Noted: 9 years!")]
    assert lines(summary_of(said, 300)) == [
        "- user: I live in Ulm.",
        "- user: My cat is 9.",
        "- assistant: Noted: 9 years!",
    ]


def test_what_was_said_twice_is_picked_once() -> None:
    said = [Entry("user", "Meet me at 9."), Entry("assistant", "meet me at 9.")]
    assert lines(summary_of(said, 300)) == ["- user: Meet me at 9."]


def test_a_long_conversation_is_at_least_halved() -> None:
    said = [Entry("user", text) for text in LOREM]
    words = sum(len(text.split()) for text in LOREM)
    assert len(" ".join(lines(summary_of(said, 2000))).split()) <= words // 2 + 2 * len(LOREM)
    assert len(lines(summary_of(said, 100))) < len(lines(summary_of(said, 2000)))


def test_an_earlier_summary_is_carried_over() -> None:
    first = summary_of([Entry("user", text) for text in FACTS], 300)
    said = [Entry("user", alert(first)), *(Entry("assistant", text) for text in LOREM)]
    picked = lines(summary_of(said, 120))
    assert picked[: len(FACTS)] == [f"- user: {text}" for text in FACTS]


def test_an_earlier_summary_by_others_is_carried_over_too() -> None:
    said = [Entry("user", alert("## Goals\nI was to book flight LH 455.\n- Seat: 12A"))]
    picked = lines(summary_of([*said, *(Entry("user", text) for text in LOREM)], 60))
    assert picked[:3] == [
        "- earlier: ## Goals",
        "- earlier: I was to book flight LH 455.",
        "- Seat: 12A",
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "system_alert", ',
        '{"type": "system_alert", "message": 7}',
        '{"kind": "system_alert"}',
        '{"type": "system_alert", "message": "x"' + ', "a": ' + "[" * 5000,
    ],
)
def test_what_only_looks_like_an_earlier_summary_is_words_like_others(text: str) -> None:
    assert "- user: {" in summary_of([Entry("user", text)], 300)


def test_what_the_demo_said_itself_is_left_out() -> None:
    said = [Entry("assistant", f"{LABEL}Your last words were 77."), Entry("user", "I am 9.")]
    assert lines(summary_of(said, 300)) == ["- user: I am 9."]
    assert lines(summary_of(said[:1], 300)) == [NOTHING]


def test_a_line_without_an_end_is_split_where_it_may_be() -> None:
    picked = lines(summary_of([Entry("user", "word " * 200)], 300))
    assert max(map(len, picked)) < 320
    assert all(line.endswith("word") for line in picked)


def test_writing_without_spaces_is_split_at_its_own_full_stops() -> None:
    assert lines(summary_of([Entry("user", "私は東京に住んでいます。猫は9歳です。")], 300)) == [
        "- user: 私は東京に住んでいます。",
        "- user: 猫は9歳です。",
    ]


@pytest.mark.parametrize("text", ["a ", "((", "//", "11", "``", '""', ". ", "{{", "世", "?", "a\n"])
def test_hostile_texts_are_summarised_within_the_budget(text: str) -> None:
    summary = summary_of([Entry("user", text * 200_000)], 300)
    assert 0 < len("\n".join(lines(summary))) < 4000


@given(st.lists(st.builds(Entry, st.sampled_from(["user", "assistant"]), st.text())), st.integers())
def test_any_conversation_has_a_summary_and_always_the_same(
    said: list[Entry], words_max: int
) -> None:
    summary = summary_of(said, words_max)
    assert summary == summary_of(said, words_max)
    assert lines(summary)
