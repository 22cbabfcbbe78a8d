"""A memory as one text: what was said, line by line, and what it was about, in XML.

XML 1.0 has no way to write some characters, and its readers change a carriage return: so these are
elements of their own, `<char code="0"/>`, which nothing that was said can be taken for. What is
written is read back character for character.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

MEMORY_CHARS_MAX: Final = 16 * 1024 * 1024

_BY_ELEMENT: Final = re.compile("[^\\t\\n\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_ESCAPED: Final = re.compile("[&<>]")
# A tag of ours, a reference, or a stretch of plain text.
_TOKEN: Final = re.compile(
    r"(?P<tag></?(?:memory|messages|message|context)\s*/?>)"
    r'|<char code="(?P<code>[0-9a-f]{1,6})"\s*/>'
    r"|&(?:#x(?P<hex>[0-9a-fA-F]{1,6})|#(?P<dec>[0-9]{1,7})|(?P<name>\w{1,8}));"
    r"|(?P<text>[^<&]+)"
)
CODE_MAX: Final = 0x10FFFF


class Memory(NamedTuple):
    """What is kept of a stretch of a conversation: its lines, and what they are about."""

    messages: tuple[str, ...]
    context: str


def serialize(messages: Sequence[str], context: str) -> str:
    """Write a memory down, whatever characters it has. Raises ValueError if it gets too long."""
    lines = "".join(f"<message>{_escaped(one)}</message>" for one in messages)
    about = f"<context>{_escaped(context)}</context>"
    text = f"<memory><messages>{lines}</messages>{about}</memory>"
    _check_length(text)
    return text


def _check_length(text: str) -> None:
    if len(text) > MEMORY_CHARS_MAX:
        raise ValueError(f"a memory has at most {MEMORY_CHARS_MAX} characters, not {len(text)}")


def _escaped(text: str) -> str:
    plain = _ESCAPED.sub(lambda found: _ENTITIES[found[0]], text)
    return _BY_ELEMENT.sub(lambda found: f'<char code="{ord(found[0]):x}"/>', plain)


def deserialize(text: str) -> Memory:
    """Read a memory back. Raises ValueError for what is not one, saying what is missing or wrong.

    Space between elements is nothing; within a message it is what was said.
    """
    _check_length(text)
    tokens = _Tokens(text)
    tokens.expect("<memory>")
    messages = tuple(_messages(tokens))
    context = tokens.element("context")
    tokens.expect("</memory>")
    tokens.expect_end()
    return Memory(messages, context)


def _messages(tokens: "_Tokens") -> Iterator[str]:
    if tokens.take("<messages/>"):
        return
    tokens.expect("<messages>")
    while not tokens.take("</messages>"):
        yield tokens.element("message")


class _Tokens:
    """A text's tags and characters, taken one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0

    def take(self, tag: str) -> bool:
        """Take a tag if it is next, after space."""
        place = self._place
        while place < len(self._text) and self._text[place] in " \t\r\n":
            place += 1
        found = _TOKEN.match(self._text, place)
        if found is None or re.sub(r"\s", "", found["tag"] or "") != tag:
            return False
        self._place = found.end()
        return True

    def expect(self, tag: str) -> None:
        """Take a tag. Raises ValueError if another thing is next."""
        if not self.take(tag):
            raise ValueError(f"{tag} is missing at character {self._place}")

    def expect_end(self) -> None:
        """Check that nothing but space is left. Raises ValueError."""
        if self._text[self._place :].strip(" \t\r\n"):
            raise ValueError(f"there is more after </memory>, at character {self._place}")

    def element(self, name: str) -> str:
        """Take an element and give its text. Raises ValueError."""
        if self.take(f"<{name}/>"):
            return ""
        self.expect(f"<{name}>")
        said: list[str] = []
        while True:
            found = _TOKEN.match(self._text, self._place)
            if found is None:
                raise ValueError(f"</{name}> is missing, or not XML, at character {self._place}")
            if found["tag"]:
                self.expect(f"</{name}>")
                return "".join(said)
            said.append(_character(found) or found["text"])
            self._place = found.end()


def _character(found: re.Match[str]) -> str | None:
    """Give the character that a reference or an element stands for, None for plain text."""
    if found["text"] is not None:
        if _BY_ELEMENT.search(found["text"]):
            raise ValueError(f"a character that XML has not, at {found.start()}")
        return None
    if found["name"] is not None:
        if found["name"] not in _NAMED:
            raise ValueError(f"&{found['name']}; is unknown, at character {found.start()}")
        return _NAMED[found["name"]]
    code = int(found["code"] or found["hex"] or "0", 16) if not found["dec"] else int(found["dec"])
    if code > CODE_MAX:
        raise ValueError(f"there is no character {code}, at {found.start()}")
    return chr(code)
