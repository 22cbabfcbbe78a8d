import pytest

from domain.block_edits import Edit, Insertion, Misplaced, Replacement, Rewriting, edited
from domain.errors import Refused


@pytest.mark.parametrize(
    ("value", "edit", "after"),
    [
        ("", Insertion("a"), "a"),
        ("", Insertion("a", 0), "a"),
        ("a", Insertion("b"), "a\nb"),
        ("a\nc", Insertion("b", 1), "a\nb\nc"),
        ("a\nc", Insertion("b", 0), "b\na\nc"),
        ("a\n", Insertion("b", 1), "a\nb\n"),
        ("a\n", Insertion("b"), "a\n\nb"),
        ("a", Insertion("b\nc"), "a\nb\nc"),
        ("one two", Replacement("two", "three"), "one three"),
        ("one two", Replacement(" two", ""), "one"),
        ("a\nb\nc", Replacement("a\nb", "x"), "x\nc"),
        ("anything", Rewriting("new"), "new"),
        ("anything", Rewriting(""), ""),
    ],
)
def test_an_edit_changes_what_it_names_and_nothing_else(value: str, edit: Edit, after: str) -> None:
    assert edited(value, edit) == after


@pytest.mark.parametrize(
    ("value", "edit", "says"),
    [
        ("a\nb", Insertion("c", 3), "no line 3 to insert after: the text has 2"),
        ("", Insertion("c", 1), "the text has 0"),
        ("a", Insertion("c", -2), "no line -2"),
        ("one", Replacement("One", "x"), "does not occur, letter by letter"),
        ("a b a", Replacement("a", "x"), "occurs 2 times"),
        ("aaa", Replacement("aa", "x"), "occurs 2 times"),
        ("a" * 50, Replacement("a", "x"), "occurs more than 9 times"),
        ("a", Replacement("", "x"), "to replace is empty"),
    ],
)
def test_an_edit_that_does_not_fit_is_refused_with_its_numbers(
    value: str, edit: Edit, says: str
) -> None:
    with pytest.raises(Misplaced, match=says):
        edited(value, edit)


def test_an_edit_that_does_not_fit_is_a_refusal() -> None:
    assert issubclass(Misplaced, Refused)
