"""The difference of two texts: small where they are alike, and enough to make one of the other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.diff import EDITS_MAX, LINES_MAX, compared, unified

HUNK = re.compile(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@")
LINES = st.lists(st.sampled_from(["a", "b", "c", "", "a\r", "\u2028d"]), max_size=12)
TEXTS = LINES.map("\n".join) | st.text(alphabet="ab\n\r\x85", max_size=30)


def patched(old: str, diff: str) -> str:
    """Make the newer text of the older one and their difference, as `patch` would."""
    lines, done, new = taken_apart(old), 0, list[str]()
    for mark, text in instructions(diff):
        if mark == "@":
            upto = int(text)
            new += lines[done:upto]
            done = upto
        elif mark == "+":
            new.append(text)
        else:
            assert lines[done] == text
            done += 1
            if mark == " ":
                new.append(text)
    return "".join(new + lines[done:])


def taken_apart(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def instructions(diff: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for line in diff.split("\n")[:-1]:
        if hunk := HUNK.fullmatch(line):
            start, count = int(hunk[1]), int(hunk[2])
            found.append(("@", str(start - 1 if count else start)))
        elif line.startswith("\\"):
            found[-1] = (found[-1][0], found[-1][1][:-1])
        else:
            found.append((line[0], line[1:] + "\n"))
    return found


@given(TEXTS, TEXTS)
def test_the_newer_text_follows_from_the_older_one_and_the_difference(old: str, new: str) -> None:
    assert patched(old, unified(old, new)) == new


@given(LINES, LINES)
def test_no_shorter_way_leads_from_one_to_the_other(old: list[str], new: list[str]) -> None:
    longest = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for x, one in enumerate(old):
        for y, other in enumerate(new):
            longest[x + 1][y + 1] = (
                longest[x][y] + 1 if one == other else max(longest[x][y + 1], longest[x + 1][y])
            )
    kept = [line for line in compared(old, new) if line.mark == " "]
    assert len(kept) == longest[-1][-1]


def test_a_difference_is_written_as_diff_writes_it() -> None:
    old = "".join(f"{n}\n" for n in range(1, 13))
    new = old.replace("2\n", "two\n", 1).replace("11\n", "")
    assert unified(old, new) == (
        "@@ -1,5 +1,5 @@\n 1\n-2\n+two\n 3\n 4\n 5\n@@ -8,5 +8,4 @@\n 8\n 9\n 10\n-11\n 12\n"
    )
    assert unified("a", "a\n") == "@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n"
    assert unified("", "a\n") == "@@ -0,0 +1,1 @@\n+a\n"
    assert unified("same", "same") == ""


@pytest.mark.parametrize("lines", [EDITS_MAX, LINES_MAX])
def test_texts_with_little_in_common_are_told_whole(lines: int) -> None:
    old = "begin\n" + "".join(f"a{n}\nshared{n}\n" for n in range(lines)) + "end\n"
    new = old.replace("a", "b")
    diff = unified(old, new)
    assert patched(old, diff) == new
    assert "-shared7\n" in diff
    assert "\n begin\n" in diff
