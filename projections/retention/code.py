"""Commands, code, and what is quoted."""

import re
from collections.abc import Iterator
from typing import Final

from projections.retention.plain import joined, tokens_of
from projections.retention.things import Thing
from projections.retention.vocabulary import FUNCTION_WORDS, TOOLS, WORD_TOOLS

_TOOL: Final = "|".join(map(re.escape, sorted((*TOOLS, *WORD_TOOLS), key=len, reverse=True)))
PROMPTED: Final = re.compile(r"(?m)^[ \t]{0,8}\$ (?P<command>[^\s$][^\n]{0,999})(?![^\W_])")
BARE: Final = re.compile(
    rf"(?m)^[ \t]{{0,8}}(?P<command>(?P<tool>{_TOOL}) (?P<rest>\S[^\n]{{0,999}}))(?![^\W_])"
)
TICKED: Final = re.compile(rf"`(?:\$ )?(?P<command>(?:{_TOOL}) [^`\n]{{1,500}})`")
SHELLED: Final = re.compile(r"(?:^| )-{1,2}[a-z]|[/=|<>&~$]|\w\.\w")

# "git push origin main", without a flag or a path: more words are a sentence.
PLAIN_WORDS_MAX: Final = 3

FENCE: Final = re.compile(r"(?m)^[ \t]{0,8}(```|~~~)[^`\n]*$")
INLINE: Final = re.compile(r"(?<!`)(`{1,3})(?!`)(?P<inside>[^`\n]{1,500})\1(?!`)")
QUOTES: Final = (
    re.compile(r'(?<![\w"])"(?P<inside>[^\s"](?:[^"\n]{0,298}[^\s"])?)"(?!\w)'),
    re.compile(r"(?<![\w'])'(?P<inside>[^\s'](?:[^'\n]{0,298}[^\s'])?)'(?!\w)"),
)


def commands(text: str) -> Iterator[Thing]:
    """Find shell lines: behind a `$`, in backticks, or beginning with a well-known tool."""
    for pattern in (PROMPTED, TICKED):
        yield from (_command(match) for match in pattern.finditer(text))
    for match in BARE.finditer(text):
        if _is_command(match["tool"], match["rest"]):
            yield _command(match)


def _command(match: re.Match[str]) -> Thing:
    said = match["command"].rstrip()
    start = match.start("command")
    return Thing("command", start, start + len(said), said, joined(tokens_of(said)))


def _is_command(tool: str, rest: str) -> bool:
    """Tell a shell line from a sentence: it has a flag or the like, or few words and no end."""
    words = rest.split()
    if SHELLED.search(rest) is not None:
        return rest[-1] not in "?!" and words[0] not in FUNCTION_WORDS
    if rest[-1] in ".?!," or not FUNCTION_WORDS.isdisjoint(words):
        return False
    return len(words) <= PLAIN_WORDS_MAX and tool not in WORD_TOOLS


def blocks(text: str) -> Iterator[Thing]:
    """Find fenced code; a fence that is never closed is none."""
    opening: re.Match[str] | None = None
    for fence in FENCE.finditer(text):
        if opening is None:
            opening = fence
        elif fence[1] == opening[1]:
            inside = text[opening.end() : fence.start()].strip()
            yield from _code(opening.start(), fence.end(), inside)
            opening = None


def spans(text: str) -> Iterator[Thing]:
    """Find code in backticks."""
    for match in INLINE.finditer(text):
        yield from _code(*match.span(), match["inside"].strip())


def quotes(text: str) -> Iterator[Thing]:
    """Find what stands in quotation marks within a line."""
    for pattern in QUOTES:
        for match in pattern.finditer(text):
            inside = match["inside"]
            if any(char.isalnum() for char in inside):
                yield Thing("quote", *match.span(), inside, joined(_unended(inside)))


def _code(start: int, end: int, inside: str) -> Iterator[Thing]:
    key = joined(tokens_of(inside))
    if key.strip():
        yield Thing("code", start, end, inside, key)


def _unended(inside: str) -> list[str]:
    """Leave out the stop or comma that typographers put inside the marks."""
    return tokens_of(inside.rstrip(".,") or inside)
