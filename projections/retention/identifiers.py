"""What programs and their tools call things by."""

import re
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Final

from projections.retention.things import Thing

_DIGITED: Final = (
    # UUIDs, in either case.
    r"(?<![\w-])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![\w-])",
    # Tickets: ABC-123, #123.
    r"(?<![\w-])[A-Z][A-Z0-9]{1,9}-\d{1,7}(?![\w-])",
    r"(?<![\w#&])#\d{1,7}(?!\w)",
    # Versions, and IPv4 addresses or networks with their port.
    r"(?<![\w.-])(?:v\d{1,9}(?:\.\d{1,9}){0,5}|\d{1,9}(?:\.\d{1,9}){2,5})"
    r"(?:[-+][0-9A-Za-z.]{1,32}(?<!\.))?(?::\d{1,5}|/\d{1,2})?(?![\w-]|\.\d)",
    # Hashes, short ones too: letters and digits, or it would be a word or a number.
    r"(?<![\w-])(?=[a-f]{0,127}\d)(?=\d{0,127}[a-f])[0-9a-f]{7,128}(?![\w-])",
)
# Each with the sign that a text must hold for the search to be worth it.
_MARKED: Final = (
    # Environment variables.
    ("$", r"\$[A-Z_][A-Z0-9_]{1,63}(?!\w)|\$\{[A-Z_][A-Z0-9_]{1,63}\}"),
    # snake_case, SCREAMING_CASE and __dunder__, with what is inside them.
    (
        "_",
        r"(?<![\w.$@-])_{0,2}[^\W\d_][^\W_]{0,63}(?:_{1,2}[^\W_]{1,63}){1,15}_{0,2}"
        r"(?:\.\w{1,64}){0,8}(?:\(\))?(?!\w)|(?<!\w)__[^\W_]{1,64}__(?!\w)",
    ),
    # dotted.names, and calls().
    (".", r"(?<![\w.$@-])[^\W\d]\w{1,63}(?:\.[^\W\d]\w{1,63}){1,8}(?:\(\))?(?!\w|\.\w)"),
    ("()", r"(?<![\w.$@-])[^\W\d]\w{1,63}\(\)"),
    # Who is mentioned.
    ("@", r"(?<![\w.@/])@[A-Za-z][\w-]{2,63}(?![\w@])"),
)
DIGITED: Final = tuple(map(re.compile, _DIGITED))
MARKED: Final = tuple((mark, re.compile(pattern)) for mark, pattern in _MARKED)
# Two small letters before the first hump, so that iPhone stays a name.
CAMEL: Final = re.compile(r"(?<![\w.$@-])[a-z]{2}[a-z0-9]{0,63}(?:[A-Z][a-z0-9]{0,63}){1,15}(?!\w)")
HUMP: Final = re.compile(r"[a-z0-9][A-Z]")
PHONE: Final = re.compile(
    r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ ]?|\d{3}[.-])\d{3}[.-]\d{4}(?![\w-])"
    r"|(?<![\w.-])\+\d{1,3}(?:[ .-]?\d{2,4}){2,5}(?![\w-])"
)
DIGIT: Final = re.compile(r"\d")
IPV6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{3,39}(?![\w:])")
# "great.Thanks" is two sentences without a space.
SLIP: Final = re.compile(r"[^\W_]+\.[A-Z][a-z']+")


def identifiers(text: str) -> Iterator[Thing]:
    """Find UUIDs, hashes, tickets, versions, addresses, variables, names in code, phone numbers."""
    if DIGIT.search(text) is not None:
        for match in PHONE.finditer(text):
            yield _identifier(match, "tel " + re.sub(r"\D", "", match[0]))
        for pattern in DIGITED:
            yield from (_named(match) for match in pattern.finditer(text))
    for mark, pattern in MARKED:
        if mark in text:
            found = (match for match in pattern.finditer(text) if not SLIP.fullmatch(match[0]))
            yield from (_named(match) for match in found)
    if HUMP.search(text) is not None:
        yield from (_named(match) for match in CAMEL.finditer(text))
    if ":" in text:
        yield from (_named(match) for match in IPV6.finditer(text) if _is_ipv6(match[0]))


def _named(match: re.Match[str]) -> Thing:
    """Give an identifier, the same with and without what marks it as a variable or a call."""
    return _identifier(match, match[0].casefold().strip("${}").removesuffix("()"))


def _identifier(match: re.Match[str], key: str) -> Thing:
    return Thing("identifier", *match.span(), match[0], key)


def _is_ipv6(said: str) -> bool:
    try:
        IPv6Address(said)
    except ValueError:
        return False
    return True
