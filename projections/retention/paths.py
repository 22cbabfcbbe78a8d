"""File paths and file names."""

import re
from collections.abc import Iterator
from typing import Final

from projections.retention.things import Thing
from projections.retention.vocabulary import EXTENSIONS, NOT_FILES

_PART: Final = r"(?:[\w.@+%~-]|\\[ ])"
QUOTED: Final = re.compile(r"""(["'])(?P<path>(?:~/|\.{1,2}/|/\w|[A-Za-z]:\\)[^"'\n]{1,300})\1""")
SLASHED: Final = re.compile(
    rf"(?<![\w.@+%~/\\<:-])(?:[A-Za-z]:[\\/])?[/\\]?{_PART}{{1,255}}(?:[/\\]{_PART}{{1,255}}){{0,64}}"
    r"[/\\]?(?<![.,])"
)
FILE: Final = re.compile(
    r"(?<![\w.@/\\-])\.?\w[\w-]{0,127}(?:\.[\w-]{1,63}){0,8}\.(?P<extension>[A-Za-z]\w{0,7})(?![\w-])"
    r"(?!\.\w)"
)
ROOTED: Final = re.compile(r"(?:~|\.{1,2})?[/\\]|[A-Za-z]:[\\/]")

WORDLIKE: Final = re.compile(r"[^\W\d]{2}|[^\W\d]\d|_")
PATHLIKE: Final = re.compile(r"[_@]|\.\w|[/\\]$")


def paths(text: str) -> Iterator[Thing]:
    """Find paths: quoted, rooted, with an extension; and names of files of a known type."""
    if "/" in text or "\\" in text:
        for match in QUOTED.finditer(text):
            if "/" in match["path"] or "\\" in match["path"]:
                yield _path(match, match["path"])
        yield from (
            _path(match, match[0]) for match in SLASHED.finditer(text) if _is_path(match[0])
        )
    if "." in text:
        for match in FILE.finditer(text):
            if _is_file(match[0], match["extension"]):
                yield _path(match, match[0])


def _path(match: re.Match[str], path: str) -> Thing:
    """Give a path, the same however its spaces are kept together and its parts divided."""
    plain = path.replace("\\ ", " ").replace("\\", "/").casefold()
    key = re.sub("/{2,}", "/", plain).removeprefix("./").rstrip("/") or "/"
    return Thing("path", *match.span(), match[0], key)


def _is_file(said: str, extension: str) -> bool:
    """Tell a file's name from two sentences without a space ("fine.So") and from products."""
    known = extension.casefold() in EXTENSIONS and said.casefold() not in NOT_FILES
    return known and (extension.islower() or extension.isupper())


def _is_path(said: str) -> bool:
    """Tell a path from words that a slash divides: and/or, 24/7, he/she/they."""
    if "/" not in said and "\\" not in said:
        return False
    parts = [part for part in re.split(r"[/\\]", said) if part]
    if not any(WORDLIKE.search(part) for part in parts):
        return False
    return bool(ROOTED.match(said)) or (len(parts) > 1 and bool(PATHLIKE.search(said)))
