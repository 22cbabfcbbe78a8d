"""What counts as said, and as kept by a summary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.search_questions import question_of
from projections.why import Phrase, content_terms, phrase_of, telling_of
from projections.why.words import SHARE_MIN, TELLING_MAX, sentences_of

WORDS = ("tea", "Ana", "boat", "red", "seven", "walk")


def asked(query: str) -> Phrase:
    return phrase_of(query, question_of(query))


def kept(query: str, summary: str, said: str = "phrase") -> tuple[str, ...] | None:
    found = asked(query).kept_by(summary, "text" if said == "text" else "phrase")
    return None if found is None else found.words


# --- how close together -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text", "closeness"),
    [
        ("tea with Ana", "I had TEA with Ana.", "phrase"),
        ("tea with Ana", "I had tea with\nAna.", "phrase"),
        ("tea with Ana", "Ana and I had tea.", "sentence"),
        ("tea with Ana", "Tea is fine. Ana came.", "text"),
        ("tea with Ana", "I had tea.", None),
        ("drinking tea", "She drinks teas.", "sentence"),
        ("café", "At the CAFE\u0301 again", "phrase"),
        ("who are you", "Who are you?", "phrase"),
        ("会议", "会议室在哪里", "phrase"),
        ("tea", "", None),
    ],
)
def test_the_closest_way_in_which_a_text_says_it_counts(
    query: str, text: str, closeness: str | None
) -> None:
    assert asked(query).closeness(text) == closeness


def test_words_in_double_quotes_must_be_there_just_so() -> None:
    assert asked('"tea with Ana"').closeness("Ana had tea with me.") is None
    assert asked('"with Ana" tea').closeness("With Ana I had tea.") == "sentence"


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Tea. Ana came.", ["Tea.", "Ana came."]),
        (
            "Dr. Ana came at 5 p.m. Friday. Then tea!",
            ["Dr. Ana came at 5 p.m. Friday.", "Then tea!"],
        ),
        ("- tea\n- Ana", ["- tea", "- Ana"]),
        ("Tea? Ana!", ["Tea?", "Ana!"]),
        ("茶。安娜。", ["茶。", "安娜。"]),
        ("v1.2.3 is out. ", ["v1.2.3 is out. "]),
    ],
)
def test_a_sentence_ends_where_another_can_begin(text: str, sentences: list[str]) -> None:
    assert list(sentences_of(text)) == sentences


# --- phrases in summaries ---------------------------------------------------------------------


def test_a_summary_keeps_a_phrase_in_its_own_spelling() -> None:
    summary = "The user paints. ANA\u2019s teas were discussed, with biscuits."
    assert kept("tea with Ana", summary) == ("ANA\u2019s", "teas")


def test_words_in_different_sentences_of_a_summary_are_not_what_was_said_in_one() -> None:
    assert kept("tea with Ana", "Tea is fine. Ana came.") is None
    assert kept("tea with Ana", "Tea is fine. Ana came.", said="text") == ("Tea", "Ana")


@pytest.mark.parametrize(
    ("query", "summary"),
    [
        ("meeting on 7 May 2023", "The meeting is on 2023-05-07."),
        ("meeting on May 7th, 2023", "A meeting: 7 May 2023"),
        ("paid $1,200", "They paid 1200 USD."),
        ("1,000 euros", "It cost 1000 euros."),
    ],
)
def test_dates_and_amounts_are_the_same_in_any_spelling(query: str, summary: str) -> None:
    assert kept(query, summary) is not None


def test_another_date_is_not_the_same() -> None:
    assert kept("meeting on 7 May 2023", "The meeting is on 2023-05-08.") is None


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), st.text(max_size=40))
def test_a_summary_that_repeats_what_was_said_keeps_it(words: list[str], around: str) -> None:
    said = ". ".join(words)
    query = asked(" ".join(words))
    closeness = query.closeness(said)
    assert closeness is not None
    assert query.kept_by(f"{around}\n{said}", closeness) is not None


@given(st.text(max_size=60), st.text(max_size=200))
def test_any_query_and_any_text_can_be_compared(query: str, text: str) -> None:
    phrase = asked(query)
    closeness = phrase.closeness(text)
    found = phrase.kept_by(text, "text")
    assert (found is None) == (closeness is None)
    assert list(sentences_of(text)) == [one for one in sentences_of(text) if one.strip()]


# --- whole messages ---------------------------------------------------------------------------


def test_the_rarer_words_of_a_message_are_the_telling_ones() -> None:
    text = "Please book the blue harbour hotel in Lisbon for Marguerite and nobody else"
    terms = content_terms(text)
    assert "the" not in terms
    holders = dict.fromkeys(terms, 1) | {"book": 50, "hotel": 40, "els": 90, "nobodi": 80}
    chosen = telling_of(text, holders).terms.terms
    assert set(chosen) == {"blue", "harbour", "lisbon", "marguerit", "hotel"}


def test_a_summary_keeps_a_message_if_it_has_half_of_its_telling_words() -> None:
    telling = telling_of("Blue harbour hotel, Lisbon", {})
    half = telling.kept_by("They chose a hotel in LISBON.")
    assert half is not None
    assert (half.share, half.words) == (0.5, ("hotel", "LISBON"))
    assert telling.kept_by("They chose a hotel.") is None
    whole = telling.kept_by("The Blue Harbour hotel in Lisbon")
    assert whole is not None
    assert whole.share == 1


def test_a_message_without_words_is_kept_by_nothing() -> None:
    assert telling_of("…", {}).kept_by("…") is None


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_share_is_told_exactly_if_it_is_enough(text: str, summary: str) -> None:
    telling = telling_of(text, {})
    assert len(telling.terms.terms) <= TELLING_MAX
    found = telling.kept_by(summary)
    held = len(telling.terms.held_by(summary))
    enough = bool(held) and held >= SHARE_MIN * len(telling.terms.terms)
    assert (found is not None) == enough
    if found is not None:
        assert found.share == pytest.approx(held / len(telling.terms.terms), abs=1e-4)
