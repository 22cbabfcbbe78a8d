"""Words, stems, questions and ranks: what a search is made of, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.search_questions import (
    PHRASES_MAX,
    QUESTION_CHARS_MAX,
    TERMS_MAX,
    corrected,
    counted,
    mistakes_between,
    question_of,
    with_corrections,
)
from projections.search_ranks import Posting, Weights, ranked
from projections.search_stems import stem_of
from projections.search_texts import unescaped
from projections.search_words import (
    WORD_CHARS_MAX,
    excerpt_of,
    folded,
    has_phrase,
    terms_of,
    words_of,
)


@pytest.mark.parametrize(
    ("words", "stem"),
    [
        ("caress caresses", "caress"),
        ("pony ponies", "poni"),
        ("agree agrees agreed", "agre"),
        ("plaster plastered", "plaster"),
        ("hop hops hopped hopping", "hop"),
        ("conflate conflated conflates", "conflat"),
        ("trouble troubled troubling", "troubl"),
        ("size sized sizing", "size"),
        ("fall falls falling", "fall"),
        ("file filing filed", "file"),
        ("happy", "happi"),
        ("sky", "sky"),
        ("relate relational", "relat"),
        ("hesitate hesitancy", "hesit"),
        ("operate operator operation", "oper"),
        ("decisive decisiveness", "decis"),
        ("hope hopeful hopefulness", "hope"),
        ("electric electrical electricity", "electr"),
        ("revive revival", "reviv"),
        ("adopt adoption", "adopt"),
        ("admit admission", "admit admiss"),
        ("probate rate", "probat rate"),
        ("control controlling roll", "control roll"),
        ("bled sing feed", "bled sing feed"),
        ("toying", "toi"),
        ("is 42 x1s naïve лодки", "is 42 x1s naïve лодки"),
    ],
)
def test_forms_of_a_word_have_one_stem(words: str, stem: str) -> None:
    assert {stem_of(word) for word in words.split()} == set(stem.split())


def test_words_are_what_is_between_signs() -> None:
    said = "Caroline's café, don't! O'Brien: foo_bar-v3.11 München ½ Straße"
    assert words_of(said) == [
        *("caroline", "cafe", "don", "o", "brien", "foo", "bar", "v3", "11", "munchen"),
        *("1", "2", "strasse"),
    ]
    assert words_of("会议 room") == ["会", "议", "room"]
    assert words_of("z" * 1000) == ["z" * WORD_CHARS_MAX]
    assert terms_of("Run, runs and running") == ["run", "and"]


@given(st.text(max_size=80))
def test_words_are_the_same_when_they_are_taken_apart_again(said: str) -> None:
    words = words_of(said)
    assert words_of(" ".join(words)) == words
    assert all(word == folded(word) and not set(word) & set(" \"'\0") for word in words)


def test_a_phrase_is_whole_words_in_a_row() -> None:
    assert has_phrase("The quick, brown fox!", ("brown", "fox"))
    assert not has_phrase("The quick brown foxes", ("brown", "fox"))
    assert not has_phrase("brown, not fox", ("brown", "fox"))


@given(
    st.lists(st.sampled_from(["lamp", "lantern", "oak", "x" * 90, "\n"]), max_size=80).map(
        " ".join
    ),
    st.integers(60, 200),
)
def test_an_excerpt_is_a_stretch_of_the_text_and_has_what_was_found(said: str, most: int) -> None:
    excerpt = excerpt_of(said, frozenset({"lantern"}), most)
    assert len(excerpt) <= most + 2
    assert excerpt.strip("…") in " ".join(said.split())
    assert ("lantern" in excerpt) == ("lantern" in said)


def test_an_excerpt_is_where_most_words_are() -> None:
    said = f"oak {'. ' * 300} oak and elm, oak {'. ' * 300} elm"
    assert "oak and elm, oak" in excerpt_of(said, frozenset({"oak", "elm"}), 80)
    assert excerpt_of("short", frozenset(), 80) == "short"


def test_escapes_are_what_they_stand_for() -> None:
    assert (
        unescaped(r'{"a": "x\ny\"z\\", "b": "\u00e9\ud83d\ude00"}')
        == '{"a": "x y"z\\", "b": "é  "}'
    )
    assert unescaped("\\") == "\\"


# --- questions --------------------------------------------------------------------------------


def test_a_question_is_its_telling_words() -> None:
    question = question_of("When did Caroline go to the LGBTQ support group?")
    assert question.words == {
        **{"carolin": "caroline", "go": "go", "lgbtq": "lgbtq"},
        **{"support": "support", "group": "group"},
    }
    assert (question.phrases, question.needed) == ((), "")
    assert question_of("who are you").terms == ("who", "ar", "you")
    assert question_of('" ? ').terms == ()


def test_quotes_ask_for_phrases() -> None:
    question = question_of('the "Red house" of “my oaks” and "" or "?" and "red house"')
    assert question.phrases == (("red", "house"), ("my", "oaks"))
    assert question.needed == "red hous my oak"
    assert question.terms == ("red", "hous", "oak", "my")


def test_a_question_has_limits() -> None:
    long = " ".join(f"word{n}" for n in range(1000))
    assert len(question_of(long).terms) == TERMS_MAX
    assert question_of(" " * QUESTION_CHARS_MAX + "lantern").terms == ()
    assert len(question_of('"a b" ' + " ".join(f'"p{n}"' for n in range(9))).phrases) == PHRASES_MAX


@pytest.mark.parametrize(
    ("word", "other", "mistakes"),
    [
        ("camping", "camping", 0),
        ("campng", "camping", 1),
        ("camping", "campin", 1),
        ("camping", "cambing", 1),
        ("cmaping", "camping", 1),
        ("capming", "camper", 3),
        ("camping", "ping", 3),
        ("abcdef", "ghijkl", 3),
    ],
)
def test_mistakes_are_counted_up_to_a_bound(word: str, other: str, mistakes: int) -> None:
    assert mistakes_between(word, other, 2) == mistakes_between(other, word, 2) == mistakes


def test_the_closest_word_is_taken_and_of_equals_the_one_said_most() -> None:
    said = counted(["hiking hike", "biking, likes; liked liked", "photography 2026"])
    wrong = question_of("hikin liker photgraphi hik lik2s photo")
    found = corrected(wrong, wrong.terms, said)
    assert {one.word: one.instead for one in found} == {
        "hikin": "hiking",
        "liker": "liked",
        "photgraphi": "photography",
    }
    assert set(with_corrections(wrong, found).words.values()) >= {"hiking", "liked", "photography"}


# --- ranks ------------------------------------------------------------------------------------


def order(*terms: list[tuple[int, int]], passage_share: float = 1.0) -> list[int]:
    postings = [[Posting(*one) for one in term] for term in terms]
    weights = Weights(passage_share=passage_share)
    return [version for version, _ in ranked(postings, range(20), weights)]


def test_rare_words_count_more_than_frequent_ones() -> None:
    assert order([(n, 5) for n in range(10)], [(15, 5)], passage_share=0)[0] == 15


def test_of_equals_the_shorter_is_first_then_the_newer() -> None:
    assert order([(1, 5), (8, 50), (15, 5)], passage_share=0) == [15, 1, 8]


def test_neighbours_lend_what_they_have() -> None:
    found = order([(10, 5)], [(11, 5)])
    assert set(found[:2]) == {10, 11}
    assert set(found) == set(range(7, 15))
    assert order([(10, 5)], [(11, 5)], passage_share=0) == [11, 10]


def test_a_long_text_lends_little() -> None:
    postings = [[Posting(2, 5), Posting(10, 5000), *(Posting(n, 5) for n in range(30, 40))]]
    scores = dict(ranked(postings, range(40)))
    assert scores[3] > 2 * scores[11]


def test_of_a_frequent_word_the_newest_texts_tell_how_frequent_it_is() -> None:
    frequent = [Posting(n, 5) for n in range(95, 100)]
    whole = dict(ranked([frequent], range(100)))
    cut = dict(ranked([frequent], range(100), postings_max=5))
    assert cut[99] < whole[99] / 5


def test_postings_of_texts_that_are_not_there_are_left_out() -> None:
    assert ranked([[Posting(7, 3)], []], []) == []
    assert ranked([], range(3)) == []
