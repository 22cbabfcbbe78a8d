from typing import Any

import pytest

from domain.archive import (
    PASSAGES_MAX,
    RECENT_MAX,
    TAG_CHARS_MAX,
    TAGS_MAX,
    TAGS_TOGETHER_MAX,
    TEXT_CHARS_MAX,
    Archive,
    ArchiveCommand,
    ArchiveDeleted,
    DeleteArchive,
    DeletePassage,
    InsertPassage,
    InsertPassages,
    PassageDeleted,
    PassageInserted,
    archive,
)
from domain.errors import NotFound, Refused
from domain.run import Cause
from tests.examples import AT, CONVERSATION_ID
from tests.given import Asked, given, state_of

insert = InsertPassage("passage-1", "The lantern is in the cellar.", ("house", "light"))
inserted = PassageInserted(
    passage_id="passage-1", text="The lantern is in the cellar.", tags=("house", "light")
)
delete = DeletePassage("passage-1", ("house", "light"))
deleted = PassageDeleted(passage_id="passage-1", tags=("house", "light"))


def test_a_passage_is_inserted() -> None:
    given(archive).when(insert).then(inserted)


def test_a_passage_that_is_only_a_text_sets_nothing_else() -> None:
    (fact,) = given(archive).when(InsertPassage("passage-2", "a")).decided()
    assert fact.model_fields_set == {"passage_id", "text"}


def test_a_passage_keeps_when_it_dates_from_and_what_led_to_it() -> None:
    cause = Cause(stream=CONVERSATION_ID, offset=7)
    command = InsertPassage("passage-2", "a", created_at=AT, metadata={"a": 1}, cause=cause)
    kept = PassageInserted(
        passage_id="passage-2", text="a", created_at=AT, metadata={"a": 1}, cause=cause
    )
    given(archive).when(command).then(kept)


def test_the_same_passage_is_inserted_once() -> None:
    given(archive, inserted).when(insert).then_nothing_happens()


def test_a_tag_that_is_given_twice_is_kept_once() -> None:
    (fact,) = given(archive).when(InsertPassage("passage-2", "a", ("x", "x"))).decided()
    assert isinstance(fact, PassageInserted)
    assert fact.tags == ("x",)


@pytest.mark.parametrize(
    ("text", "tags", "words"),
    [
        (" \n", (), "not blank"),
        ("a" * (TEXT_CHARS_MAX + 1), (), f"at most {TEXT_CHARS_MAX} characters, not 100001"),
        ("a", ("",), "1 to 256 characters"),
        ("a", ("t" * (TAG_CHARS_MAX + 1),), "1 to 256 characters"),
        ("a", tuple(map(str, range(TAGS_MAX + 1))), "at most 64 tags, not 65"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_bound(
    text: str, tags: tuple[str, ...], words: str
) -> None:
    given(archive).when(InsertPassage("passage-2", text, tags)).then_refused(Refused, saying=words)


def asked_of(state: Archive, command: ArchiveCommand) -> Asked[Any, Any, Any]:
    return Asked(archive, state, command)


def test_an_archive_that_is_full_takes_no_more() -> None:
    full = Archive(passages=PASSAGES_MAX)
    asked_of(full, insert).then_refused(Refused, saying="holds 100000 passages")


def test_an_archive_has_so_many_tags_and_takes_more_passages_under_those() -> None:
    full = Archive(passages=1, tags={str(n): 1 for n in range(TAGS_TOGETHER_MAX)})
    asked_of(full, insert).then_refused(Refused, saying="at most 1000 tags, not 1002")
    assert asked_of(full, InsertPassage("passage-2", "a", ("7",))).decided() != []
    assert asked_of(full, InsertPassage("passage-2", "a")).decided() != []


def test_a_passage_is_deleted_once() -> None:
    given(archive, inserted).when(delete).then(deleted)
    given(archive, inserted, deleted).when(delete).then_nothing_happens()


def test_the_state_counts_passages_and_those_under_each_tag() -> None:
    other = PassageInserted(passage_id="passage-2", text="b", tags=("house",))
    both = state_of(archive, inserted, other)
    assert (both.passages, both.tags) == (2, {"house": 2, "light": 1})
    one = state_of(archive, inserted, other, deleted)
    assert (one.passages, one.tags) == (1, {"house": 1})


def test_the_state_is_bounded_however_many_passages_come_and_go() -> None:
    state = archive.initial
    for number in range(RECENT_MAX * 2):
        come = PassageInserted(passage_id=f"passage-{number}", text="a", tags=(f"{number}",))
        gone = PassageDeleted(passage_id=f"passage-{number}", tags=(f"{number}",))
        state = archive.evolve(archive.evolve(state, come, 1), gone, 2)
    assert len(state.inserted) == len(state.removed) == RECENT_MAX
    assert state.inserted[-1] == f"passage-{RECENT_MAX * 2 - 1}"
    assert (state.passages, state.tags) == (0, {})


def test_an_archive_that_was_begun_ends_once() -> None:
    given(archive).when(DeleteArchive()).then_nothing_happens()
    given(archive, inserted).when(DeleteArchive()).then(ArchiveDeleted())
    given(archive, inserted, ArchiveDeleted()).when(DeleteArchive()).then_nothing_happens()


def test_nothing_is_put_into_an_archive_that_has_ended_or_taken_out() -> None:
    ended = given(archive, inserted, ArchiveDeleted())
    ended.when(InsertPassage("passage-2", "a")).then_refused(NotFound)
    ended.when(delete).then_refused(NotFound)


def test_several_passages_are_inserted_together_or_not_at_all() -> None:
    several = InsertPassages((insert, InsertPassage("passage-2", "a"), insert))
    given(archive).when(several).then(inserted, PassageInserted(passage_id="passage-2", text="a"))
    blank = InsertPassages((insert, InsertPassage("passage-2", " ")))
    given(archive).when(blank).then_refused(Refused, saying=r"passages\[1\]: .*not blank")


def test_a_passage_alone_is_refused_without_a_number() -> None:
    blank = InsertPassages((InsertPassage("passage-2", " "),))
    given(archive).when(blank).then_refused(Refused, saying="^A passage needs")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (Archive(passages=PASSAGES_MAX - 1), "holds 100000 passages"),
        (
            Archive(passages=1, tags={str(n): 1 for n in range(TAGS_TOGETHER_MAX - 1)}),
            "at most 1000 tags, not 1001",
        ),
    ],
    ids=["passages", "tags"],
)
def test_bounds_hold_for_several_passages_together(state: Archive, words: str) -> None:
    several = InsertPassages(
        (InsertPassage("passage-2", "a", ("x",)), InsertPassage("passage-3", "b", ("y",)))
    )
    asked_of(state, several).then_refused(Refused, saying=rf"passages\[1\]: .*{words}")
